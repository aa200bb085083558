"""gateway.spool: bodies of unknown length, in memory and on disk."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from gateway.errors import MachineError, RequestError
from gateway.request import PIECE
from gateway.spool import Spooled, spool
from tests.gateway.conftest import BytesBody, FailingBody


def read_all(spooled: Spooled) -> bytes:
    data = b""
    while piece := spooled.read_nowait():
        assert len(piece) <= PIECE
        data += piece
    return data


def descriptors() -> set[str]:
    """Those of this process. Between two looks at them garbage of earlier tests may have gone."""
    return set(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize(("size", "on_disk"), [(0, False), (100, False), (101, True), (3 * PIECE + 1, True)])
@pytest.mark.parametrize("waits", [False, True])
def test_spooled_body_has_an_exact_length_and_can_be_read_again(
    size: int, on_disk: bool, waits: bool
) -> None:
    """CGI-27, SCGI-5, UW-6."""
    content = os.urandom(size)
    body = BytesBody(*(content[i : i + 50_000] for i in range(0, size, 50_000)), sized=False, waits=waits)
    before = descriptors()

    async def main() -> None:
        with await spool(body, memory=100, max_body=size) as spooled:
            assert spooled.length == size
            assert (spooled.descriptor is not None) == on_disk
            assert read_all(spooled) == content
            assert await spooled.read() == b""
            spooled.rewind()
            assert read_all(spooled) == content

    trio.run(main)
    assert descriptors() <= before


def test_file_is_at_its_beginning_and_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It can be a program's standard input as it is, and nothing stays if we are killed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    async def main() -> None:
        with await spool(BytesBody(b"x" * 1000, sized=False), memory=10, max_body=1000) as spooled:
            assert spooled.descriptor is not None
            assert os.listdir(tmp_path) == []
            assert os.read(spooled.descriptor, 2000) == b"x" * 1000
            assert read_all(spooled) == b"x" * 1000, "reading does not depend on the file's position"

    trio.run(main)


@pytest.mark.parametrize("memory", [0, 1000])
def test_rejects_a_body_above_the_limit(memory: int) -> None:
    body = BytesBody(b"x" * 60, b"y" * 60, sized=False)
    before = descriptors()

    async def main() -> None:
        with pytest.raises(RequestError, match="larger than 119 bytes") as raised:
            await spool(body, memory=memory, max_body=119)
        assert raised.value.status == 413
        assert raised.value.close

    trio.run(main)
    assert descriptors() <= before


def test_failing_body_leaves_no_file() -> None:
    before = descriptors()

    async def main() -> None:
        body = FailingBody(b"x" * 100, error=RequestError(408, "too slow"))
        with pytest.raises(RequestError) as raised:
            await spool(body, memory=10, max_body=1000)
        assert raised.value.status == 408

    trio.run(main)
    assert descriptors() <= before


class StallingBody(BytesBody):
    """A body that stops in the middle."""

    def read_nowait(self, _most: int = 0) -> bytes | None:
        return self._pieces.pop(0) if self._pieces else None

    async def read(self) -> bytes:
        await trio.sleep_forever()
        raise AssertionError


def test_cancelled_spool_leaves_no_file() -> None:
    before = descriptors()

    async def main() -> None:
        with_trio = descriptors()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(spool, StallingBody(b"x" * 100), memory=10, max_body=1000))
            await trio.testing.wait_all_tasks_blocked()
            assert len(descriptors() - with_trio) == 1
            nursery.cancel_scope.cancel()

    trio.run(main)
    assert descriptors() <= before


def full(*_: object, **__: object) -> int:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["write", "TemporaryFile"])
def test_full_disk_is_507_that_says_so(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target: object = os if step == "write" else tempfile
    fail: Callable[..., int] = full
    before = descriptors()

    async def main() -> None:
        monkeypatch.setattr(target, step, fail)
        with pytest.raises(MachineError) as raised:
            await spool(BytesBody(b"x" * 100, sized=False), memory=10, max_body=1000)
        monkeypatch.undo()
        assert (raised.value.status, raised.value.detail) == (507, "the request body cannot be stored")
        assert str(raised.value.cause) == f"[Errno 28] No space left on device: {tempfile.tempdir!r}"

    trio.run(main)
    assert descriptors() <= before


def test_no_directory_for_files_is_500_without_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a read-only file system, where nothing else is mounted."""

    async def main() -> None:
        monkeypatch.setattr(tempfile, "tempdir", None)
        monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "absent"), "/proc"])
        with pytest.raises(MachineError) as raised:
            await spool(BytesBody(b"x" * 100, sized=False), memory=10, max_body=1000)
        assert (raised.value.status, raised.value.detail) == (500, "the request body cannot be stored")
        assert str(tmp_path) in str(raised.value.cause)

    trio.run(main)


def test_stored_body_that_cannot_be_read_is_500(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a broken disk: this file is open for writing only."""

    async def main() -> None:
        monkeypatch.setattr(tempfile, "TemporaryFile", partial(open, tmp_path / "stored", "wb"))
        with await spool(BytesBody(b"x" * 100, sized=False), memory=10, max_body=1000) as spooled:
            with pytest.raises(MachineError) as raised:
                spooled.read_nowait()
            assert (raised.value.status, raised.value.detail) == (
                500,
                "the stored request body cannot be read",
            )

    trio.run(main)

"""The private directories of sockets."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from gateway.errors import StartError
from gateway.spawn.home import home, new_home


def test_directory_is_ours_while_it_is_used() -> None:
    path = new_home()
    with home(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        Path(path, "file").touch()
    assert not os.path.exists(path)


def test_no_place_for_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only file system, where nothing else is mounted."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: ["/proc"])
    with pytest.raises(StartError, match=r"in \['/proc'\]; TMPDIR can name another one$"):
        new_home()


def test_directory_of_a_killed_gateway_is_removed_by_the_next() -> None:
    script = f"""
import os, tempfile
tempfile.tempdir = {tempfile.gettempdir()!r}
from gateway.spawn.home import home, new_home
path = new_home()
with home(path):
    open(path + "/app.sock", "w").close()
    print(path, flush=True)
    os.kill(os.getpid(), 9)
"""
    checkout = Path(__file__).parents[3]
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=checkout, check=False
    )
    abandoned = killed.stdout.strip()
    assert os.path.exists(abandoned)
    with home(new_home()):
        assert not os.path.exists(abandoned)


def test_directory_in_use_is_left_alone() -> None:
    first = new_home()
    with home(first), home(new_home()):
        assert os.path.exists(first)


def test_what_only_looks_like_one_is_left_alone(tmp_path: Path) -> None:
    kept = [tmp_path / "kept"]
    kept[0].mkdir()
    others = [Path(tempfile.gettempdir(), name) for name in ("gateway-x", "other", f"gateway-{'0' * 16}")]
    for other in others[:2]:
        other.mkdir()
    others[2].symlink_to(kept[0])
    with home(new_home()):
        assert kept[0].exists()
        assert all(other.exists() for other in others)
    for other in others[:2]:
        other.rmdir()
    others[2].unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_somebody_else_is_left_alone() -> None:
    path = new_home()
    os.mkdir(path)
    os.chown(path, 33, 33)
    with home(new_home()):
        assert os.path.exists(path)
    os.rmdir(path)

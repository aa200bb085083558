"""What options stand for, read once and again."""

from pathlib import Path

import pytest

from gateway.cli.options import Reader, UsageError


def test_current_directory_may_be_removed_behind_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a release is, which the next one replaces: a reload ended the daemon."""
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    reader = Reader(given={"static": ".", "listen": [":0"]})
    before = reader.read()
    assert before.directory == str(tmp_path / "release")
    (tmp_path / "release").rmdir()
    assert reader.read() == before


def test_current_directory_that_is_none_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    (tmp_path / "release").rmdir()
    with pytest.raises(UsageError, match=r"^The current directory has been removed\.$"):
        Reader(given={"static": "/"}).read()

"""What the README says about tests is so."""

import re
from pathlib import Path

from packaging.version import Version

from tests.peers.frameworks.rows import APPLICATIONS, ROWS, table

HERE = Path(__file__).parent


def test_files_of_the_table_exist() -> None:
    text = (HERE / "README.md").read_text()
    named = set(re.findall(r"`((?:gateway|protocols|peers|conformance)/[a-z0-9_/]+(?:\.py)?)`", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (HERE.parent / name).exists()] == []


def test_table_of_frameworks_is_the_matrix() -> None:
    """The same rows, and versions that are not newer than those that are tested."""
    wanted = table()
    text = (HERE / "README.md").read_text().splitlines()
    begin = text.index("| application | package | interface | shown |") + 2
    version = re.compile(r"(?<= )([0-9]\S*)(?= \|)")
    rows = text[begin : begin + len(wanted)]
    assert [version.sub("", line, count=1) for line in rows] == [
        version.sub("", line, count=1) for line in wanted
    ]
    assert text[begin + len(wanted)] == ""
    for line, row in zip(rows, (*ROWS, *APPLICATIONS), strict=True):
        found = version.search(line)
        assert found is not None, line
        assert Version(found[0]) <= Version(row.version), line


def test_every_application_of_the_matrix_has_a_row() -> None:
    named = {word for row in (*ROWS, *APPLICATIONS) for word in re.findall(r"\w+_app", row.backend)}
    assert named == {path.stem for path in (HERE / "frameworks/apps").glob("*.py")}

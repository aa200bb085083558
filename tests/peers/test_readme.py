"""What the README says about tests is so."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_files_of_the_table_exist() -> None:
    text = (HERE / "README.md").read_text()
    named = set(re.findall(r"`((?:gateway|protocols|peers|conformance)/[a-z0-9_/]+(?:\.py)?)`", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (HERE.parent / name).exists()] == []

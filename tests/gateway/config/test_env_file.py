"""Files of environment variables."""

import pytest

from gateway.config.env_file import parse_env_file


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("A=b", {"A": "b"}),
        ("A=b\r\nC=d\r\n", {"A": "b", "C": "d"}),
        ("\ufeffA=b\n", {"A": "b"}),
        ("# note\n\n  \t\n  # note\nA=b\n#", {"A": "b"}),
        ("export A=b\n  export\tB = c \n", {"A": "b", "B": "c"}),
        ("A=\nB=''\nC=\"\"\nD= # note", {"A": "", "B": "", "C": "", "D": ""}),
        ("A=b c  # note\nB=c#d", {"A": "b c", "B": "c#d"}),
        ("A='b # c'  # note\nB=\"c # d\"# note", {"A": "b # c", "B": "c # d"}),
        ("A='$HOME \\n \"'", {"A": '$HOME \\n "'}),
        ('A="\\"x\\"\\n\\t\\\\ \\$HOME"', {"A": '"x"\n\t\\ $HOME'}),
        ("A=\"one\ntwo\"\nB='three\nfour'\nC=d", {"A": "one\ntwo", "B": "three\nfour", "C": "d"}),
        ("A=it's\nB=x=y", {"A": "it's", "B": "x=y"}),
        ("A=first\nA=last", {"A": "last"}),
        ("A=grün", {"A": "grün"}),
        ("A=postgres://u:p@h/d?x=1", {"A": "postgres://u:p@h/d?x=1"}),
    ],
)
def test_reads_what_everybody_reads(text: str, found: dict[str, str]) -> None:
    assert parse_env_file(text) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A", 1),
        ("A=b\n=c", 2),
        ("A=b\n\n# note\n1A=c", 4),
        ("A-B=c", 1),
        ("A='b", 1),
        ('A="b\n\nC=d', 1),
        ('X="1\n2"\nA="b"c', 3),
        ("A='b' c", 1),
        ("A=\0", 1),
    ],
)
def test_rejects_what_is_no_variable(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"^line {line}: "):
        parse_env_file(text)

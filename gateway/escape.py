"""Text from elsewhere, made fit to be shown to people."""


def printable(text: str) -> str:
    """*text* with everything escaped that is not a visible character or a space: always one line."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )

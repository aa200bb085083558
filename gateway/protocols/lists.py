"""Comma-separated lists in fields (RFC 9110 5.6.1) without quoted strings; empty members are left out."""


def list_members(value: bytes) -> list[bytes]:
    """The members as they are."""
    return [member for piece in value.split(b",") if (member := piece.strip(b" \t"))]


def list_tokens(value: bytes) -> list[bytes]:
    """The members in lower case, where case means nothing: options of a connection, codings, expectations."""
    return list_members(value.lower())

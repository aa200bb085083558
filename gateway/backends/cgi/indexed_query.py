"""The query as arguments of the program: ``isindex`` of the web's first years (RFC 3875 4.4)."""

from urllib.parse import unquote_to_bytes

from gateway.request import Request


def search_words(request: Request) -> list[bytes]:
    """The words of an indexed query: ``/x?one+two%20three`` has two; none if any of them cannot be passed.

    A word that begins with ``-`` would be an option of the program or of its interpreter, which has given
    away the source of scripts and worse (CVE-2012-1823); there is no use of it that would be worth that.
    """
    query = request.query
    if request.method not in {"GET", "HEAD"} or not query or b"=" in query:
        return []
    words = [unquote_to_bytes(word) for word in query.split(b"+")]
    if any(not word or word.startswith(b"-") or b"\0" in word for word in words):
        return []
    return words

from gateway.protocols.memo import Memo, is_personal


def test_keeps_what_it_was_told() -> None:
    memo: Memo[bytes, int] = Memo()
    memo.keep(b"a", 1)
    assert memo.get(b"a") == 1
    assert memo.get(b"b") is None


def test_is_bounded() -> None:
    memo: Memo[int, int] = Memo(4)
    for number in range(100):
        memo.keep(number, number)
        assert len(memo) <= 4
        assert memo[number] == number


def test_a_head_with_a_cookie_is_personal() -> None:
    assert is_personal(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\n\r\n")
    assert not is_personal(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

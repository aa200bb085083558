"""Listening sockets: addresses, permissions, stale files, and accepting."""

import errno
import os
import re
import resource
import socket
import stat
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from gateway.config import Listener, from_mapping
from gateway.errors import StartError
from gateway.listener import UNSENT_BYTES, ListeningSocket, accept, open_listener
from tests.gateway.served import run, until


def listener(address: str, **options: Any) -> Listener:
    config = {"listeners": [{"http": address, **options}], "routes": [{"respond": {}}]}
    return from_mapping(config, "", ".").listeners[0]


def opened(address: str, **options: Any) -> ListeningSocket:
    (found,) = open_listener(listener(address, **options))
    return found


def test_tcp_port_that_the_kernel_chooses() -> None:
    found = opened("127.0.0.1:0")
    port = found.sock.getsockname()[1]
    assert str(found) == f"http://127.0.0.1:{port}"
    with socket.create_connection(("127.0.0.1", port)):
        pass
    found.close()


def test_accepted_connections_send_at_once_and_hold_little() -> None:
    found = opened("127.0.0.1:0")
    with socket.create_connection(found.sock.getsockname()):
        accepted, _ = found.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
    found.close()


def test_ipv6_address_has_brackets() -> None:
    try:
        found = opened("[::1]:0")
    except StartError:
        pytest.skip("no IPv6 loopback on this machine")
    assert str(found) == f"http://[::1]:{found.sock.getsockname()[1]}"
    assert found.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    found.close()


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def test_port_alone_is_every_interface_of_both_families() -> None:
    """Each has a socket, and both have the same port, if the kernel chooses it, too."""
    found = open_listener(listener(":0"))
    families = {each.sock.family for each in found}
    assert families == ({socket.AF_INET, socket.AF_INET6} if has_ipv6() else {socket.AF_INET})
    (port,) = {each.sock.getsockname()[1] for each in found}
    for host in ("127.0.0.1", *(["::1"] if has_ipv6() else [])):
        with socket.create_connection((host, port)):
            pass
    for each in found:
        each.close()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_every_ipv6_address_is_no_ipv4_address() -> None:
    """As nginx has it (ipv6only=on): so both can be listened on by themselves."""
    found = opened("[::]:0")
    port = found.sock.getsockname()[1]
    with socket.create_connection(("::1", port)):
        pass
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    beside = opened(f"0.0.0.0:{port}")
    beside.close()
    found.close()


def test_family_that_the_machine_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 that is switched off: the name service tells its address all the same."""
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),  # nobody's (RFC 3849)
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("0.0.0.0", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
    found = opened(":0")
    assert found.sock.family == socket.AF_INET
    found.close()
    del both[1]
    with pytest.raises(StartError, match="cannot listen on :0"):
        opened(":0")


def test_taken_port_is_one_message() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(StartError) as refused:
            open_listener(listener(address))
        assert str(refused.value) == (
            f"cannot listen on {address}: Address already in use "
            f"(another program does: `ss -ltnp sport = {other.getsockname()[1]}` names it)"
        )


def test_address_of_another_machine_is_one_message() -> None:
    with pytest.raises(StartError, match=r"^cannot listen on 192\.0\.2\.1:0: .*this machine has no such"):
        open_listener(listener("192.0.2.1:0"))


def test_unix_socket_without_a_directory_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"No such file or directory \(its directory has to be there\)$"):
        open_listener(listener(f"unix:{tmp_path}/nowhere/socket"))


def test_mode_of_a_unix_socket(tmp_path: Path) -> None:
    found = opened(f"unix:{tmp_path}/socket", mode="0660")
    assert stat.S_IMODE(os.stat(tmp_path / "socket").st_mode) == 0o660
    assert str(found) == f"unix:{tmp_path}/socket"
    found.close()
    assert not (tmp_path / "socket").exists()
    found.close()


def test_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "socket"))
    found = opened(f"unix:{tmp_path}/socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "socket"))
    found.close()


def test_unix_socket_in_use_stays(tmp_path: Path) -> None:
    first = opened(f"unix:{tmp_path}/socket")
    with pytest.raises(StartError, match="Address already in use"):
        opened(f"unix:{tmp_path}/socket")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "socket"))
    first.close()


def test_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "socket").write_text("precious")
    with pytest.raises(StartError):
        opened(f"unix:{tmp_path}/socket")
    assert (tmp_path / "socket").read_text() == "precious"


def test_socket_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    """Two daemons overlap: the first ends after the second has its socket at the same place."""
    first = opened(f"unix:{tmp_path}/socket")
    os.rename(tmp_path / "socket", tmp_path / "moved")
    second = opened(f"unix:{tmp_path}/socket")
    first.close()
    assert (tmp_path / "socket").exists()
    second.close()


def test_directory_that_is_none_any_more_holds_up_no_end(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = opened(f"unix:{tmp_path}/run/gateway.sock")
    (tmp_path / "run").rename(tmp_path / "before")
    (tmp_path / "run").write_text("")
    assert found.lost
    found.close()
    assert found.sock.fileno() == -1


def test_file_that_cannot_be_removed_holds_up_no_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its directory may be one that only others write to, by now."""
    found = opened(f"unix:{tmp_path}/gateway.sock")

    def refuse(path: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refuse)
        found.close()
    assert found.sock.fileno() == -1
    opened(f"unix:{tmp_path}/gateway.sock").close()  # a stale file is nobody's


def test_inherited_socket() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        found = opened(f"fd:{sock.fileno()}")
        assert found.sock.getsockname() == sock.getsockname()
        found.close()


@pytest.mark.parametrize("kind", ["not listening", "not a socket", "not open"])
def test_inherited_descriptor_that_cannot_listen(kind: str, tmp_path: Path) -> None:
    with socket.socket() as sock, (tmp_path / "file").open("w") as file:
        descriptor = {"not listening": sock.fileno(), "not a socket": file.fileno(), "not open": 9999}[kind]
        with pytest.raises(StartError, match=rf"\b(fd:)?{descriptor}\b"):
            opened(f"fd:{descriptor}")


def test_shortage_of_descriptors_pauses_accepting() -> None:
    """The connection waits in the backlog, and is accepted when there is room again."""

    async def main() -> None:
        listening = opened("127.0.0.1:0")
        accepted: list[socket.socket] = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with capture_logs() as logs:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(accept, listening, accepted.append)
                with socket.create_connection(listening.sock.getsockname()):
                    await until(lambda: bool(accepted))
                    accepted.pop().close()
                    with socket.socket() as client:
                        client.setblocking(False)
                        resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
                        try:
                            client.connect_ex(listening.sock.getsockname())
                            await until(lambda: bool(logs))
                            assert not accepted
                        finally:
                            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                        await until(lambda: bool(accepted))
                        accepted.pop().close()
                nursery.cancel_scope.cancel()
        assert (logs[0]["event"], logs[0]["times"]) == ("cannot accept connections", 1)
        assert re.fullmatch(r"Too many open files: expected a higher limit than \d+ .*", logs[0]["cause"])
        listening.close()

    run(main)

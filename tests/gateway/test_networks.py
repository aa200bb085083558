"""Sets of clients."""

from ipaddress import ip_network

import pytest

from gateway.networks import ClientNetwork, ClientNetworks
from gateway.request import Address

NETWORKS: list[ClientNetwork] = [ip_network("10.0.0.0/8"), ip_network("::1"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (("10.255.0.1", 5), True),
        (("11.0.0.1", 5), False),
        (("::1", 5), True),
        (("2001:db8:ffff::1", 0), True),
        (("2001:db9::1", 0), False),
        (("::ffff:10.0.0.1", 5), True),
        (("::ffff:11.0.0.1", 5), False),
        (("unknown", 0), False),
        (("_hidden", 0), False),
        (None, False),
        (("", None), False),
        (("10.0.0.1", None), False),  # the path of a Unix socket, though it looks like an address
    ],
)
def test_client_is_inside(client: Address, expected: bool) -> None:
    assert ClientNetworks(NETWORKS).has(client) is expected


@pytest.mark.parametrize("client", [("", None), ("/run/client.sock", None)])
def test_clients_on_unix_sockets(client: Address) -> None:
    """uvicorn#589: they have no address, and a word of their own."""
    assert ClientNetworks([*NETWORKS, "unix"]).has(client)
    assert not ClientNetworks(NETWORKS).has(client)


def test_nobody_is_in_no_network() -> None:
    nobody = ClientNetworks()
    assert not nobody
    assert not nobody.has(("127.0.0.1", 1))
    assert ClientNetworks(NETWORKS)
    assert ClientNetworks(["unix"])

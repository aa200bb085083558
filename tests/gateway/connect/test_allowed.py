"""Which servers a tunnel may lead to."""

from ipaddress import ip_address, ip_network

import pytest

from gateway.connect.allowed import AllowedHost, AllowedNetwork, AllowedTargets, is_public

HTTPS = range(443, 444)


@pytest.mark.parametrize(
    ("pattern", "host", "expected"),
    [
        ("example.com", "example.com", True),
        ("example.com", "www.example.com", False),
        ("*.example.com", "www.example.com", True),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", ".example.com", False),
        ("*.example.com", "wwwexample.com", False),
        ("*.example.com", "www.example.com.evil", False),
        ("*", "anything", True),
        ("*", "192.0.2.1", True),
    ],
)
def test_hosts(pattern: str, host: str, expected: bool) -> None:
    assert AllowedHost(pattern, HTTPS).has(host, 443) is expected
    assert not AllowedHost(pattern, HTTPS).has(host, 80)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "127.255.255.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
     "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
     "255.255.255.255", "3fff::1", "64:ff9b:1::1", "::", "::1", "::127.0.0.1", "fe80::1", "fe80::1%eth0",
     "fc00::1", "fd00:ec2::254",
     "fec0::1", "ff02::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "64:ff9b::7f00:1",
     "64:ff9b::10.0.0.1", "100::1"],
)  # fmt: skip
def test_addresses_that_no_name_leads_to(address: str) -> None:
    """Loopback, link-local, private, shared, documentation, multicast, reserved; also inside of IPv6."""
    assert not is_public(ip_address(address))
    assert not AllowedTargets([AllowedHost("*", HTTPS)]).has("a", address, 443)
    named = AllowedTargets([AllowedNetwork(ip_network(address.partition("%")[0]), HTTPS)])
    assert named.has("a", address, 443)
    assert not named.has("a", address, 80)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2002:808:808::1", "64:ff9b::808:808"]
)
def test_addresses_that_names_lead_to(address: str) -> None:
    assert is_public(ip_address(address))
    allowed = AllowedTargets(
        [AllowedHost("a.example", HTTPS), AllowedNetwork(ip_network("10.0.0.0/8"), HTTPS)]
    )
    assert allowed.has("a.example", address, 443)
    assert not allowed.has("a.example", address, 80)
    assert not allowed.has("b.example", address, 443)


def test_mapped_addresses_are_what_they_are() -> None:
    allowed = AllowedTargets([AllowedHost("*", HTTPS), AllowedNetwork(ip_network("10.0.0.0/8"), HTTPS)])
    assert not allowed.has("a", "::ffff:127.0.0.1", 443)
    assert allowed.has("a", "::ffff:10.0.0.1", 443)
    assert allowed.has("a", "::ffff:8.8.8.8", 443)


def test_what_is_worth_a_lookup() -> None:
    """A name of which nothing could come is not told to any name server."""
    network = AllowedNetwork(ip_network("10.0.0.0/8"), range(80, 81))
    allowed = AllowedTargets([AllowedHost("*.example", HTTPS), network])
    assert allowed.may_have("a.example", 443)
    assert not allowed.may_have("b", 443)
    assert allowed.may_have("b", 80)
    assert not AllowedTargets([]).may_have("a", 443)

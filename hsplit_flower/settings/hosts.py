"""Hosts as they are typed, and which of them nobody else can reach."""

import ipaddress

ADDRESS = (
    r"([^\s/:\[\]]+|\[[0-9A-Fa-f:.]+(%\w+)?\])"
    r":([1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])"
)
"""A pattern: a host, an IPv6 address in brackets, and a port. gRPC takes more: sockets of the
machine, addresses that others resolve, and for a port above the highest another one."""


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there; a name other than localhost may not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name
        return False


def stands_for_all(host: str) -> bool:
    """Whether listening on this host is listening on every interface."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_unspecified
    except ValueError:  # a name
        return False


def host_of(address: str) -> str:
    """The host of ``host:port``, without the brackets of an IPv6 address."""
    return address.rpartition(":")[0].strip("[]")

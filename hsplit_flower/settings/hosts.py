"""Hosts as they are typed, and which of them nobody else can reach."""

import ipaddress


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

"""What a host's name says of where it is."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether it is this machine, and nobody on a network can listen."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False

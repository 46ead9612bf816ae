"""Check the options of `chargen serve` about who may use the server."""

from __future__ import annotations

import re
from collections.abc import Sequence

import click


def check_access(api_key: str | None, origins: Sequence[str], hosts: Sequence[str]) -> None:
    """Check the values of the options about access.

    Args:
        api_key: The value of --api-key; None if it is not given.
        origins: The values of --cors.
        hosts: The values of --allow-host.

    Raises:
        UsageError: If one is not what its option takes.
    """
    if api_key is not None and not re.fullmatch(r"[!-~]+", api_key):
        raise click.UsageError(
            "--api-key must consist of ASCII characters without spaces: a header cannot have others."
        )
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise click.UsageError(f"--cors {origin} is no origin. Write it without a path: https://example.com")
    for name in hosts:
        if not re.fullmatch(r"[\w.-]+", name):
            raise click.UsageError(f"--allow-host {name} is no host name. Write it without a port: example.com")


def is_loopback(address: str) -> bool:
    """Return whether only this machine can reach an address."""
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]).is_loopback

"""Check the address of a Ray cluster before Ray connects to it: Ray itself tries for a long time, and does not say why.

`ray start --head` makes a cluster check tokens if the user has a token, which Ray makes when it first starts a cluster.
Ray sends the token by itself only to the address "auto": a stranger at another address would get it. This module lets
it be sent to any address of this machine, too. For other machines the user says so with RAY_AUTH_MODE=token.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from chargen.errors import ChargenError, ConfigError

CONNECT_TIMEOUT_S = 10.0
AUTH_VARIABLE = "RAY_AUTH_MODE"
HOW_TO_SEND_A_TOKEN = (
    f"Set {AUTH_VARIABLE}=token; the token is in ~/.ray/auth_token of the user who started the cluster."
)


def check_address(address: str) -> None:
    """Check that a cluster answers at an address HOST:PORT, and let Ray send it the token of the user if it may.

    Raises:
        ChargenError: If none does, or it refuses the token.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit()):
        return
    host = host.removeprefix("ray://").strip("[]")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ChargenError(
            f"the Ray cluster at {address} cannot be reached: {getattr(error, 'strerror', None) or error}",
            "Check --address: the port of a cluster is usually 6379.",
        ) from error
    if address.startswith("ray://") or accepts_token(address):
        return
    if AUTH_VARIABLE in os.environ:
        raise ConfigError(f"the Ray cluster at {address} does not accept the token of this user", HOW_TO_SEND_A_TOKEN)
    if not (_is_this_machine(host) and send_token() and accepts_token(address)):
        raise ConfigError(f"the Ray cluster at {address} checks tokens", HOW_TO_SEND_A_TOKEN)


def accepts_token(address: str) -> bool:
    """Return whether a cluster accepts the token of this process, or checks none.

    Raises:
        ChargenError: If what answers is no cluster.
    """
    errors = import_module("ray.exceptions")
    try:
        with discarded_stderr():
            import_module("ray._raylet").GcsClient(address=address)
    except errors.AuthenticationError:
        return False
    except Exception as error:  # Ray raises errors of many types, also plain RuntimeError
        reason = " ".join(str(error).split()) or type(error).__name__
        hint = "Check --address; `ray status` shows a cluster."
        raise ChargenError(f"the Ray cluster at {address} cannot be reached: {reason}", hint) from error
    return True


def send_token() -> bool:
    """Let Ray send the token of the user, and return whether there is one."""
    setup = import_module("ray._private.authentication.authentication_token_setup")
    with discarded_stderr():
        return bool(setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False))


def _is_this_machine(host: str) -> bool:
    """Return whether a host name is one of this machine: only its own addresses can be bound."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(where)
    except OSError:
        return False
    return True


@contextmanager
def discarded_stderr() -> Iterator[None]:
    """Discard what is written to stderr meanwhile: Ray's library in C++ writes there that it reads its log level."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)

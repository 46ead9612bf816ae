"""Refuse requests before they are read: foreign hosts and origins, and requests without the key.

A page of another site can make a browser send requests to a server on the loopback interface. Two checks prevent that:

    Host     must be an address, localhost, or a name that was allowed. With DNS rebinding, a page lets its own name
             lead to 127.0.0.1; the browser then sends that name.
    Origin   must be this server itself, or an origin that `--cors` allows. Programs other than browsers send none.
"""

from __future__ import annotations

import hmac
import ipaddress
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chargen.server.completions.response_format import JSON_TYPE, dump_json
from chargen.server.errors import ApiError
from chargen.server.metrics import Metrics

OPEN_PATHS = ("/", "/health")  #: paths that need no key


@dataclass(frozen=True)
class Access:
    """Who may use a server."""

    api_key: str = field(default="", repr=False)  #: the key that each request must have; "" for none
    hosts: tuple[str, ...] = ()  #: names of this server besides addresses and localhost, in lower case
    origins: tuple[str, ...] = ()  #: origins of pages that may use the server; "*" for all

    def check_host(self, host: str | None) -> None:
        """Check the header Host.

        Raises:
            ApiError: If it names another server.
        """
        name = split_port(host or "")
        if not (is_address(name) or name == "localhost" or name.endswith(".localhost") or name in self.hosts):
            shown = name[:100] if name.isprintable() else repr(name[:100])
            raise ApiError(
                400,
                f"the Host {shown!r} is not this server; it allows the name with --allow-host NAME",
                code="host_not_allowed",
            )

    def check_origin(self, origin: str | None, host: str) -> None:
        """Check the header Origin, which browsers send for requests of pages.

        Raises:
            ApiError: If a page of another site has sent the request.
        """
        if origin is None or "*" in self.origins or origin.lower() in self.origins:
            return
        if origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ApiError(
                403, f"pages of {origin[:100]!r} may not use this server; --cors allows them", code="origin_not_allowed"
            )

    def check_key(self, authorization: str | None) -> None:
        """Check the header Authorization, in a time that does not depend on how much of the key is right.

        Raises:
            ApiError: If the key is missing or wrong.
        """
        if not self.api_key:
            return
        scheme, _, key = (authorization or "").partition(" ")
        is_right = hmac.compare_digest(key.strip().encode("utf-8", "surrogateescape"), self.api_key.encode())
        if not (is_right and scheme.lower() == "bearer"):
            what = "the API key is wrong" if authorization else "the request has no API key"
            raise ApiError(
                401,
                f"{what}; send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                kind="authentication_error",
                headers={"WWW-Authenticate": "Bearer"},
            )


class Guard:
    """Middleware that checks the headers of requests, and counts the responses.

    Args:
        app: The application behind it.
        access: Who may use it.
        metrics: The counters.
        routes: The paths of the application, by which requests are counted.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics, routes: Sequence[str]) -> None:
        self._app, self._access, self._metrics, self._routes = app, access, metrics, frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope, authority = split_absolute_target(scope)
        started, response = time.perf_counter(), _ObservedSend(send)
        status = 499  # of a request without a response: the client has closed the connection
        self._metrics.num_open += 1
        try:
            try:
                if authority is not None:
                    self._access.check_host(authority)
                self._check(scope)
            except ApiError as error:
                await error_response(error)(scope, receive, response)
            else:
                await self._app(scope, receive, response)
        except Exception:  # a defect, to which the middleware around this one responds
            status = 500
            raise
        finally:
            self._metrics.num_open -= 1
            path = scope["path"]
            route = path if path in self._routes else "/v1/models/{id}" if path.startswith("/v1/models/") else "other"
            self._metrics.observe_request(route, response.status or status, time.perf_counter() - started)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host")
        self._access.check_host(host)
        self._access.check_origin(headers.get("origin"), host or "")
        if scope["path"] not in OPEN_PATHS and scope["method"] != "OPTIONS":
            self._access.check_key(headers.get("authorization"))


class _ObservedSend:
    """Sends the messages of a response, remembers its status, and adds a header."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None  #: HTTP status of the response; None before it starts

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-content-type-options"] = "nosniff"  # JSON is never shown as a page
        await self._send(message)


def error_response(error: ApiError) -> Response:
    """Return the response for an error."""
    return Response(dump_json(error.to_json()), error.status, error.headers, JSON_TYPE)


def split_absolute_target(scope: Scope) -> tuple[Scope, str | None]:
    """Return a request with a path alone, and the host before it if the client sent a whole URL, as to a proxy.

    RFC 9112, 3.2.2: a server must accept `GET http://localhost:8000/health HTTP/1.1`, too.
    """
    scheme, found, rest = scope["path"].partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        return scope, None
    authority, slash, path = rest.partition("/")
    raw_path = scope["raw_path"].partition(b"://")[2].partition(b"/")[2]
    return {**scope, "path": slash + path or "/", "raw_path": b"/" + raw_path}, authority


def split_port(host: str) -> str:
    """Return the name or the address in a header Host, in lower case and without the port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def is_address(name: str) -> bool:
    """Return whether a name is an IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True

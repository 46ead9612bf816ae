"""Errors of the HTTP interface: what is wrong with a request, as the JSON that clients of OpenAI's protocol expect."""

from __future__ import annotations

from typing import Any

from chargen.errors import ChargenError, ConfigError, TokenizerError
from chargen.schema import format_count

INVALID_REQUEST = "invalid_request_error"
# Without this header the openai package repeats a request twice after the status 408 and from 500 on. One that took too
# long, or that the server cannot answer, would fail again.
NO_RETRY = {"x-should-retry": "false"}


class ApiError(Exception):
    """A request that is refused.

    Args:
        status: The HTTP status, from 400 on.
        message: What is wrong, with its value, and what to do.
        param: The name of the field of the request that is wrong; None if it is none of them.
        code: A short name of the error for programs; None if the message is sufficient.
        kind: The field "type" of the error.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID_REQUEST,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code, self.kind = status, message, param, code, kind
        self.headers = headers or {}

    def to_json(self) -> dict[str, Any]:
        """Return the body of the response."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}


def from_chargen(error: ChargenError, status: int = 422, param: str | None = None) -> ApiError:
    """Return the error of a request whose values are well-formed, but which this model cannot satisfy.

    The hint is left out, because it names options of the command line. Only the messages about settings and texts are
    shown: others name files of this machine.
    """
    if not isinstance(error, (ConfigError, TokenizerError)):
        return ApiError(status, "the model cannot do what the request asks for", param)
    return ApiError(status, error.message, param)


def too_many_requests(waiting: int, retry_after_s: int) -> ApiError:
    """Return the error of a request that finds the queue full, or too much memory in use by others."""
    others = f": {format_count(waiting, 'request is', 'requests are')} waiting" if waiting else ""
    return ApiError(
        429,
        f"the server is busy{others}; try again in {retry_after_s} s",
        code="queue_full",
        kind="rate_limit_error",
        headers={"Retry-After": str(retry_after_s)},
    )


class OutOfTimeError(ApiError):
    """The server ends a request before its texts are complete."""


def timed_out(seconds: float) -> OutOfTimeError:
    """Return the error of a request that was not finished within the time limit."""
    return OutOfTimeError(
        408,
        f"the request was not finished within {seconds:g} s; ask for fewer tokens",
        code="timeout",
        kind="timeout",
        headers=NO_RETRY,
    )


def server_ends() -> OutOfTimeError:
    """Return the error of a request that was not finished before the server had to end."""
    return OutOfTimeError(
        503, "the server was stopped before the request was finished", code="server_stopped", kind="server_error"
    )


def too_many_connections(retry_after_s: int) -> ApiError:
    """Return the error of a connection above the limit."""
    return ApiError(
        503,
        f"the server has too many open connections; try again in {retry_after_s} s",
        code="too_many_connections",
        kind="server_error",
        headers={"Retry-After": str(retry_after_s)},
    )


def internal_error() -> ApiError:
    """Return the error that stands for a defect of the server; it says nothing about the machine."""
    return ApiError(
        500, "the server failed on this request; its log has the reason", kind="server_error", headers=NO_RETRY
    )

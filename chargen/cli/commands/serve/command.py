"""`chargen serve`: answer requests for completions and scores over HTTP.

From Python: `serve_models(ServeArguments(models=("verse",), port=0))`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import click

from chargen.cli import options
from chargen.cli.commands.serve.access import check_access, is_loopback

DEFAULT_PORT = 8000
MAX_SERVED_TOKENS = 1_000_000  # limit of --max-tokens
MAX_WAITING = 100_000  # limit of --max-waiting

access_option = options.option_group("Access")
limit_option = options.option_group("Limits")


@dataclass(frozen=True, kw_only=True)
class ServeArguments:
    """The arguments of `chargen serve`, named as on the command line."""

    models: tuple[str, ...] = ()
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    api_key: str | None = None
    cors: tuple[str, ...] = ()
    allow_host: tuple[str, ...] = ()
    max_tokens: int = 4096
    max_waiting: int = 256
    timeout_s: float = 300.0
    threads: int | None = None
    as_json: bool = False


@click.command(
    cls=options.GroupedCommand,
    epilog="\b\nExamples:\n  chargen serve shakespeare\n  chargen serve shakespeare names --port 9000\n"
    "  CHARGEN_API_KEY=secret chargen serve --host 0.0.0.0\n"
    "  chargen serve --allow-host models.example.com",
)
@click.argument("models", nargs=-1, type=options.MODEL_NAME, metavar="[MODEL]...")
@options.basic_option(
    "--host", type=options.NAME, default="127.0.0.1", show_default="127.0.0.1, this machine only", metavar="NAME",
    help="Address to listen on; 0.0.0.0 for all interfaces.",
)  # fmt: skip
@options.basic_option(
    "--port", type=options.whole(0, 65535), default=DEFAULT_PORT, show_default=True, metavar="N",
    help="Port to listen on; 0 for any free one.",
)  # fmt: skip
@access_option(
    "--api-key", type=options.NAME, metavar="KEY", envvar="CHARGEN_API_KEY", show_envvar=True,
    help="Key that each request must have ('Authorization: Bearer KEY'). Other users of the machine can see the "
    "command line, so the environment variable is safer.",
)  # fmt: skip
@access_option(
    "--cors", type=options.NAME, multiple=True, metavar="ORIGIN",
    help="Allow web pages of this origin (https://example.com) to send requests; '*' allows all. May be repeated.",
)  # fmt: skip
@access_option(
    "--allow-host", type=options.NAME, multiple=True, metavar="NAME",
    help="Answer requests for this host name, for example behind a reverse proxy. Without this option only addresses "
    "and localhost are answered. May be repeated.",
)  # fmt: skip
@limit_option(
    "--max-tokens", type=options.whole(1, MAX_SERVED_TOKENS), default=4096, show_default=True, metavar="N",
    help="Maximum number of tokens of a completion.",
)  # fmt: skip
@limit_option(
    "--max-waiting", type=options.whole(1, MAX_WAITING), default=256, show_default=True, metavar="N",
    help="Maximum number of requests that wait for their turn; further ones get the status 429.",
)  # fmt: skip
@limit_option(
    "--timeout", "timeout_s", callback=options.parse_duration, default="5m", show_default=True, metavar="TIME",
    help="Maximum time for a request (30s, 5m).",
)  # fmt: skip
@options.machine_option(
    "--threads", type=options.whole(1, options.MAX_THREADS), metavar="N", envvar="CHARGEN_THREADS", show_envvar=True,
    show_default="one less than there are cores", help="Maximum number of CPU threads of a step of the batch.",
)  # fmt: skip
@options.checkpoints
@options.as_json
def serve(**values: Any) -> None:
    """Serve models over HTTP, with the protocol of OpenAI's completions.

    Without MODEL the newest model is served. The first model answers requests that name none.

    The packages starlette and uvicorn are needed: pip install "chargen[serve]".

    \b
    GET  /v1/models         POST /v1/completions    GET  /health
    GET  /v1/models/{id}    POST /v1/score          GET  /metrics
    GET  /tokenizer_info    POST /tokenize          POST /detokenize

    The URL is printed on stdout when the server is ready. Ctrl-C and SIGTERM end it: running requests are finished
    first, for at most 30 seconds. The models are kept in memory: if a file is replaced, the server goes on with the
    old model and says so.
    """
    serve_models(ServeArguments(**values))


def serve_models(args: ServeArguments) -> None:
    """Serve models until a signal ends the server.

    Args:
        args: The arguments of the command.

    Raises:
        ChargenError: If a model cannot be opened or served, or the port is in use.
        UsageError: If a value is not what its option takes.
    """
    # One core is left for HTTP: with 64 clients on 2 cores, the threads of a product would wait for each other.
    options.use_threads(args.threads or max(1, (os.cpu_count() or 1) - 1))
    from chargen.registry import import_extra

    for module in ("starlette", "uvicorn"):
        import_extra(module, "serve", "chargen serve")
    check_access(args.api_key, args.cors, args.allow_host)
    from chargen.server.app import build_app
    from chargen.server.connection.guard import Access
    from chargen.server.limits import Limits
    from chargen.server.models import open_models
    from chargen.server.run import bind, run_server, url_of
    from chargen.ui.console import stdout_console
    from chargen.ui.output import print_json
    from chargen.ui.terminal_text import say

    limits = Limits(max_tokens=args.max_tokens, max_waiting=args.max_waiting, timeout_s=args.timeout_s)
    models = open_models(args.models, limits, say)
    server = bind(args.host, args.port)
    hosts = tuple(name.lower() for name in (args.host, *args.allow_host))
    access = Access(args.api_key or "", hosts, tuple(origin.lower() for origin in args.cors))
    with server:
        url = url_of(server)
        if args.as_json:
            print_json({"event": "listening", "url": url, "models": list(models.ids)})
        else:
            stdout_console().print(f"{url}  serves {', '.join(models.ids)}", soft_wrap=True)
        if not args.api_key and not is_loopback(server.getsockname()[0]):
            say("note: everyone in the network can use this server; --api-key KEY demands a key")
        run_server(build_app(models, limits, access, say), server)

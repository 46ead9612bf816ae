"""`chargen sample`: text out, as it is drawn."""

from __future__ import annotations

import sys
import time
from typing import Any

import click

from chargen.cli import options

FLUSH_EVERY_S = 0.02


@click.command(
    epilog="\b\nExamples:\n  chargen sample --temp 0.8\n"
    "  chargen sample --prompt 'Once upon a time' --length 500 --seed 7\n"
    "  chargen sample -m shakespeare -n 3 --json"
)
@options.model
@options.temperature
@click.option("-n", "--number", type=click.IntRange(min=1), default=1, show_default=True, help="Samples to draw.")
@click.option(
    "--length",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Characters a sample, the prompt not counted.",
)
@click.option("--prompt", default="", help="The beginning; it is printed too.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the random numbers; one is drawn, and told, if left out.")
@options.as_json
def sample(
    model: str | None, temperature: float, number: int, length: int, prompt: str, seed: int | None, as_json: bool
) -> None:
    """Write text with a model.

    The text goes to stdout as it is drawn. The same seed gives the same text.
    """
    import secrets

    from chargen.lm import load
    from chargen.text.tokenizer import check_unicode

    check_unicode(prompt, "the prompt")
    lm = load(model)
    if seed is None:
        seed = secrets.randbits(31)
        click.echo(f"seed {seed}", err=True)
    unknown = lm.unknown_characters(prompt)
    if unknown:
        click.echo(
            f"note: the model does not know {unknown} of the prompt; it reads them as unknown characters", err=True
        )
    for index in range(number):
        pieces = lm.stream(prompt, temperature=temperature, length=length, seed=seed, number=index)
        if as_json:
            from chargen.ui.console import print_json

            about = {
                "text": prompt + "".join(pieces),
                "prompt": prompt,
                "temperature": temperature,
                "seed": seed,
                "number": index,
            }
            print_json(about)
            continue
        if number > 1:
            click.echo(f"{'' if index == 0 else chr(10)}── sample {index + 1} of {number} ──", err=True)
        _write(prompt, pieces)


def _write(prompt: str, pieces: Any) -> None:
    """Write a prompt and what follows it, soon but not with a flush for every character; end with a newline."""
    out, last, flushed = sys.stdout, prompt, 0.0
    out.write(prompt)
    for piece in pieces:
        out.write(piece)
        last = piece
        now = time.perf_counter()
        if now - flushed > FLUSH_EVERY_S:
            out.flush()
            flushed = now
    if not last.endswith("\n"):
        out.write("\n")
    out.flush()

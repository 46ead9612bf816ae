"""`chargen eval`: a model measured on a whole text."""

from __future__ import annotations

from dataclasses import asdict

import click

from chargen.cli import options


@click.command(
    name="eval", epilog="\b\nExamples:\n  chargen eval held-out.txt\n  chargen eval -m shakespeare play.txt --json"
)
@click.argument("corpus", nargs=-1, required=True)
@options.model
@options.encoding
@options.device
@options.as_json
def evaluate(corpus: tuple[str, ...], model: str | None, encoding: str, device: str, as_json: bool) -> None:
    """Measure a model on a whole text: bits per character, with the state carried from its beginning to its end.

    CORPUS is a file, a folder, '-' or a corpus's name; several are put end to end. "windows" is the same text in pieces
    of 256 characters, each read without what stands before it but one character.
    """
    from chargen.config import DataConfig
    from chargen.lm import load
    from chargen.text.corpus import read_corpus
    from chargen.ui.console import LN2, chatter, print_json, results
    from chargen.ui.tables import plain_table

    lm = load(model)
    lm.device = device
    # Read as it is: the model brings it into the form of its training text, and counts the bytes of this one.
    text = read_corpus(corpus, DataConfig(encoding=encoding, newline="keep", normalize="none"))
    found = lm.evaluate(text.text)
    if found.unknown_chars:
        chatter().print(f"note: the model does not know {found.unknown_chars:,} of the {found.chars:,} characters")
    if as_json:
        print_json({"corpus": text.name, **asdict(found)})
        return
    rows = [
        ("carried, the whole text", found.loss_nats_per_char),
        ("  first half", found.first_half_nats_per_char),
        ("  second half", found.second_half_nats_per_char),
        ("windows of 256", found.windows_256_nats_per_char),
    ]
    numbers = ("bits/char", "nats/char")
    results().print(
        plain_table((text.name, *numbers), [(name, f"{n / LN2:.3f}", f"{n:.4f}") for name, n in rows], numbers)
    )
    results().print(
        f"{found.chars:,} characters, {found.bytes:,} bytes; {found.bits_per_byte:.3f} bits/byte, "
        f"perplexity {found.perplexity_per_char:.2f} per character"
    )

"""The commands of `chargen`, and its help, which is printed without click: the import of click takes most of the time.

To add a command: write `cli/commands/mine.py` with a click command, and add one line to `COMMANDS`.

On a narrow terminal click prints the help (`help_format.py`), because lines have to be wrapped. A test compares both.
"""

from __future__ import annotations

import os
import sys

MIN_COLUMNS = 80  # columns of a terminal on which no line of the help is wrapped
COMPLETE_VARIABLE = "_CHARGEN_COMPLETE"  # a shell sets it when it asks for completions; the name is click's convention
HELP_WORDS: tuple[list[str], ...] = ([], ["-h"], ["--help"])  # arguments of `chargen` that ask for its help

COMMANDS = {
    "train": ("chargen.cli.commands.train.command:train", "Train a model on a text."),
    "sample": ("chargen.cli.commands.sample:sample", "Generate text with a model."),
    "play": ("chargen.cli.commands.play:play", "Write with a model interactively in the terminal."),
    "serve": ("chargen.cli.commands.serve.command:serve", "Serve models over HTTP, with the protocol of OpenAI."),
    "score": ("chargen.cli.commands.score:score", "Print how likely sentences are, and rank them."),
    "eval": ("chargen.cli.commands.eval:evaluate", "Evaluate a model on a whole text."),
    "compare": ("chargen.cli.commands.compare:compare", "Compare models on a text."),
    "rescore": ("chargen.cli.commands.rescore:rescore", "Add a model's score to N-best lists."),
    "classify": ("chargen.cli.commands.classify.command:classify", "Classify texts, and train classifiers."),
    "forecast": ("chargen.cli.commands.forecast:forecast", "Forecast series of numbers, and train forecasters."),
    "bulk": ("chargen.cli.commands.bulk.group:bulk", "Score or continue the rows of many files."),
    "export": ("chargen.cli.commands.export.group:export", "Write a model for browsers and other programs."),
    "info": ("chargen.cli.commands.info:info", "List the models of all kinds, or describe one."),
    "probe": ("chargen.cli.commands.probe.group:probe", "Measure what recurrent networks learn and remember."),
    "plot": ("chargen.cli.commands.plot:plot", "Plot the loss curves of runs."),
    "rm": ("chargen.cli.commands.rm:rm", "Remove runs, classifiers and forecasters."),
    "corpora": ("chargen.cli.commands.corpora:corpora", "List, create and check corpora."),
    "bench": ("chargen.cli.commands.bench:bench", "Compare all cells at equal parameters and time."),
}

ABOUT = """\b
Small language models of your own text: train, sample, score.

\b
  chargen train corpus.txt    trains the best model it can in five minutes
  chargen sample --temp 0.8   generates text with it
  chargen score "a sentence"  prints how likely the sentence is
"""

OPTIONS = {"-V, --version": "Show the version and exit.", "-h, --help": "Show this message and exit."}

EPILOG = """\b
Environment variables:
  CHARGEN_CHECKPOINTS   default of --checkpoints, the folder of the runs
  CHARGEN_MODEL         default of --model
  CHARGEN_CACHE         folder for encoded texts and compiled code
  CHARGEN_DEVICE        default of --device
  CHARGEN_THREADS       default of --threads

\b
Shell completion (bash; zsh and fish likewise, fish: … | source):
  eval "$(_CHARGEN_COMPLETE=bash_source chargen)"
"""


def print_help(words: list[str]) -> bool:
    """Print the help of `chargen` if the arguments ask for it, and nothing has to be wrapped.

    Args:
        words: The arguments.

    Returns:
        Whether the help was printed. If stdout cannot be written, it was not: the caller reports that.
    """
    if words not in HELP_WORDS or sys.stdout is None or _terminal_columns() < MIN_COLUMNS:
        return False
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    try:
        sys.stdout.write(format_help())
        sys.stdout.flush()
    except OSError:
        return False
    return True


def format_help() -> str:
    """Return the help as click formats it for a terminal of at least MIN_COLUMNS columns."""
    parts = ["Usage: chargen [OPTIONS] COMMAND [ARGS]...\n", _indented(ABOUT)]
    for title, rows in (("Options", OPTIONS), ("Commands", {name: help for name, (_, help) in COMMANDS.items()})):
        width = max(map(len, rows)) + 2
        parts.append(f"{title}:\n" + "".join(f"  {name:{width}}{text}\n" for name, text in rows.items()))
    return "\n".join([*parts, _indented(EPILOG)])


def _indented(text: str) -> str:
    """Return paragraphs without the lines \\b, which say that click keeps their lines; each line is indented."""
    lines = text.replace("\b\n", "").rstrip("\n").split("\n")
    return "".join(f"  {line}".rstrip() + "\n" for line in lines)


def _terminal_columns() -> int:
    """Return what `shutil.get_terminal_size` returns, whose import takes 2 ms."""
    try:
        columns = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        columns = 0
    if columns <= 0 and sys.__stdout__ is not None:
        try:
            columns = os.get_terminal_size(sys.__stdout__.fileno()).columns
        except (ValueError, OSError):  # it is closed, or no terminal
            columns = 0
    return columns if columns > 0 else MIN_COLUMNS

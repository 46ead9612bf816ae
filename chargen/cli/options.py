"""Options that several commands share, the types of their values, and the groups that help lists them in.

The types `ModelName`, `CorpusName`, … also tell the shell how to complete a value. Nothing here imports torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from chargen.cells import CELLS
from chargen.cli.groups import GroupedCommand as GroupedCommand  # noqa: PLC0414 - offered here, too
from chargen.cli.groups import GroupedOption as GroupedOption  # noqa: PLC0414
from chargen.cli.groups import option_group as option_group  # noqa: PLC0414
from chargen.config import parse_duration_s
from chargen.errors import ConfigError
from chargen.folders import use_checkpoints
from chargen.sampling.settings import MAX_TEMPERATURE, MIN_TEMPERATURE, SAMPLING_RULES
from chargen.schema import Integer
from chargen.tokenizers import TOKENIZERS
from chargen.ui.terminal_text import write_raw

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from chargen.training.choices import ModelChoices

F = TypeVar("F", bound=Callable[..., Any])

MAX_THREADS = 1024
# The variables that OpenMP (torch), OpenBLAS and MKL (NumPy, torch) and numba read when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────────────


basic_option = option_group("Options used most")
corpus_option = option_group("Corpus")
machine_option = option_group("Machine")
network_option = option_group("Network")
output_option = option_group("Output")


# ── types of values ───────────────────────────────────────────────────────────────────────────────────────────────────


class Name(click.types.StringParamType):
    """The type of an option that names something (a file, a run, a setting): any text but the empty one.

    Args:
        candidates: Function that returns the names to complete; None if there are none.
        files: Whether the shell also completes file names.
    """

    def __init__(self, candidates: Callable[[], Iterable[str]] | None = None, files: bool = False) -> None:
        self._candidates = candidates
        self._files = files

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value as a string; fail if it is empty or contains a NUL character."""
        if not value:
            self.fail("it is empty. Give a name, or leave the option out.", param, ctx)
        if "\0" in value:
            self.fail(f"{value!r} contains a NUL character, which a name cannot contain.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that start with `incomplete`; shells fall back on files if there are none."""
        from click.shell_completion import CompletionItem

        names = self._candidates() if self._candidates else ()
        items = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="file"), *items] if self._files else items


def _run_names() -> Sequence[str]:
    from chargen.runs import list_run_names

    return list_run_names()


def _corpus_names() -> Iterable[str]:
    from chargen.text.builtin_corpora import BUILTIN_CORPORA

    return BUILTIN_CORPORA


NAME = Name()
FILE_NAME = Name(files=True)
RUN_NAME = Name(_run_names)
MODEL_NAME = Name(_run_names, files=True)
CORPUS_NAME = Name(_corpus_names, files=True)
BUILTIN_CORPUS_NAME = Name(_corpus_names)
CELL_NAME = Name(CELLS.names)
TOKENIZER_NAME = Name(TOKENIZERS.names)


def sampling_rules(rule_option: Callable[..., Callable[[F], F]]) -> Callable[[F], F]:
    """Return a decorator that adds an option for each sampling rule of `SampleConfig`, in the order of the rules.

    Args:
        rule_option: Decorator that adds an option to the group in which the help lists the rules.
    """

    def add_options(command: F) -> F:
        for name, rule in reversed(SAMPLING_RULES.items()):
            number = int if isinstance(rule.values, Integer) else float
            command = rule_option(
                f"--{name.replace('_', '-')}", type=number, default=rule.off, show_default=f"{rule.off:g}, off",
                metavar=rule.metavar, help=rule.help,
            )(command)  # fmt: skip
        return command

    return add_options


# Not compiled here: `re` compiles and caches them at their first use, and help never uses them.
_SIZE = r"(?ai)(\d{1,15}(?:\.\d{1,9})?)\s*(?:([kMGT])(i?)B?|B)?"


def parse_size(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return a size (500MB, 20GB, 1.5GiB, or a number of bytes) in bytes; used as an option's callback."""
    match = re.fullmatch(_SIZE, value.strip())
    num_bytes = 0
    if match:
        number, prefix, binary = match.groups()
        power = "kmgt".index(prefix.lower()) + 1 if prefix else 0
        num_bytes = int(float(number) * (1024 if binary else 1000) ** power)
    if not 0 < num_bytes < 1 << 63:
        raise click.BadParameter(f"{value!r} is not a size above zero. Examples: 500MB, 20GB, 1.5GiB.", ctx, param)
    return num_bytes


def parse_duration(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return a duration (90s, 5m, 1h30m, or a number of seconds) in seconds; used as an option's callback."""
    if value is None:
        return None
    try:
        return parse_duration_s(value)
    except ConfigError as error:
        raise click.BadParameter(f"{error.message}. {error.hint}", ctx, param) from error


def _check_temperature(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if value != 0 and not MIN_TEMPERATURE <= value <= MAX_TEMPERATURE:  # NaN is refused, too
        limits = f"0 (always the most likely character), or from {MIN_TEMPERATURE:g} to {MAX_TEMPERATURE:,.0f}"
        raise click.BadParameter(f"{value} is not a temperature. Give {limits}.", ctx, param)
    return value


def _write_raw(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        write_raw()


def _use_checkpoints(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.with_resource(use_checkpoints(Path(value)))


# ── shared options ────────────────────────────────────────────────────────────────────────────────────────────────────

model = basic_option(
    "-m",
    "--model",
    type=MODEL_NAME,
    metavar="MODEL",
    envvar="CHARGEN_MODEL",
    show_envvar=True,
    help="Model file, run folder or run name. Defaults to the newest run.",
)
temperature = basic_option(
    "--temp", "--temperature", "temperature", type=float,
    callback=_check_temperature, default=1.0, show_default=True,
    help="Sampling temperature. Below 1 the text is more predictable, above 1 more random; 0 always takes the "
    "most likely character.",
)  # fmt: skip
encoding = corpus_option(
    "--encoding", type=NAME, default="utf-8", show_default=True, help="Text encoding of the input files."
)
newline = corpus_option(
    "--newline", type=click.Choice(["lf", "keep"]), default="lf", show_default=True,
    help="Convert CR and CRLF line ends to LF, or keep them.",
)  # fmt: skip
normalize = corpus_option(
    "--normalize", type=click.Choice(["nfc", "none"]), default="nfc", show_default=True,
    help="Unicode normalization of the text: compose characters (NFC), or leave them unchanged.",
)  # fmt: skip
text_field = corpus_option(
    "--text-field", type=NAME, default="text", show_default=True, metavar="NAME",
    help="Field that contains the text of a record (.jsonl, .parquet).",
)  # fmt: skip
device = machine_option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    envvar="CHARGEN_DEVICE", show_envvar=True,
    help="Device for torch. 'auto' is a CUDA GPU if there is one, else the CPU.",
)  # fmt: skip
threads = machine_option(
    "--threads", type=click.IntRange(1, MAX_THREADS), metavar="N", show_default="one per core",
    envvar="CHARGEN_THREADS", show_envvar=True, help="Maximum number of CPU threads.",
)  # fmt: skip
checkpoints = machine_option(
    "--checkpoints", type=FILE_NAME, metavar="DIR", callback=_use_checkpoints, expose_value=False,
    show_default="checkpoints", envvar="CHARGEN_CHECKPOINTS", show_envvar=True, help="Folder that contains the runs.",
)  # fmt: skip
raw = output_option(
    "--raw", is_flag=True, expose_value=False, callback=_write_raw,
    help="Print the exact text on a terminal, too. Without this option a terminal shows control characters and "
    "invisible characters as symbols; pipes and files always get the exact text.",
)  # fmt: skip
as_json = output_option("--json", "as_json", is_flag=True, help="Print JSON. The names of the keys include units.")


def documents(option: Callable[..., Callable[[F], F]]) -> Callable[[F], F]:
    """Return the option for how a corpus is split into documents, in the group of `option`."""
    return option(
        "--documents", type=NAME, default="none", show_default=True, metavar="KIND",
        help="How the corpus is split into documents: none (one continuous text), line, blank (blank lines), file, or "
        "a separator string.",
    )  # fmt: skip


def score_end(option: Callable[..., Callable[[F], F]]) -> Callable[[F], F]:
    """Return the option for whether the end of each text is scored, in the group of `option`."""
    return option(
        "--end/--no-end", default=None, show_default="--end for a model of documents, else --no-end",
        help="Score the end of each text as well, or not.",
    )  # fmt: skip


def max_corpus_size(default: str) -> Callable[[F], F]:
    """Return the option that limits how much text is read."""
    return corpus_option(
        "--max-corpus-size", "max_bytes", callback=parse_size, default=default, show_default=True, metavar="SIZE",
        help="Refuse a corpus with more text than this (500MB, 20GB), counted after decompression.",
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)  # each generated method takes start-up time
class NetworkArguments:
    """The options of `network_options`; None leaves a setting to the recipe. The names are those of `ModelConfig`."""

    cell: str | None = None
    num_layers: int | None = None
    hidden_size: int | None = None
    ensemble_size: int | None = None
    embedding_dim: int | None = None
    ngrams: int | None = None
    tie_weights: bool | None = None
    dropout: float | None = None
    weight_dropout: float | None = None
    ngram_dropout: float | None = None

    def model_choices(self) -> ModelChoices:
        """Return the settings that were given.

        Raises:
            ConfigError: If one is out of range.
        """
        from chargen.training.choices import ModelChoices

        return ModelChoices(**{field.name: getattr(self, field.name) for field in fields(NetworkArguments)})


SHAPE_OPTIONS = "--cell --layers --hidden --ensemble --embedding --ngrams --tie-weights"  # for tables of `effects.py`
NETWORK_OPTIONS = f"{SHAPE_OPTIONS} --dropout --weight-dropout --ngram-dropout"


def network_options(command: F) -> F:
    """Add the options that set the shape of a network to a command; the recipe chooses what is not given."""
    by_recipe = partial(network_option, show_default="auto")
    declarations = [
        by_recipe("--cell", type=CELL_NAME, metavar="CELL", help=f"Recurrent cell: {', '.join(CELLS.names())}."),
        by_recipe("--layers", "num_layers", type=int, metavar="N", help="Number of recurrent layers."),
        by_recipe("--hidden", "hidden_size", type=int, metavar="N", help="Hidden size of each layer."),
        by_recipe("--ensemble", "ensemble_size", type=int, metavar="N",
                  help="Number of networks that are trained together; the mean of their logits is the prediction."),
        by_recipe("--embedding", "embedding_dim", type=int, metavar="N", help="Size of the embedding."),
        by_recipe("--ngrams", type=int, metavar="N",
                  help="Longest n-gram of characters that the output layer gets as hashed features; 0 for none."),
        network_option("--tie-weights", is_flag=True, default=None,
                       help="Use one matrix for the embedding and the output layer."),
        by_recipe("--dropout", type=float, metavar="RATE",
                  help="Dropout rate for units between layers and before the output layer."),
        by_recipe("--weight-dropout", type=float, metavar="RATE",
                  help="Dropout rate for recurrent weights (DropConnect)."),
        by_recipe("--ngram-dropout", type=float, metavar="RATE",
                  help="Dropout rate for the n-gram features, independent at each position."),
    ]  # fmt: skip
    for declare in reversed(declarations):  # a decorator that is applied later is listed earlier
        command = declare(command)
    return command


# ── options on the command line ───────────────────────────────────────────────────────────────────────────────────────


def given_options(*names: str) -> list[str]:
    """Return those options among `names` that are on the command line, as they are spelled there.

    Options that a default or an environment variable sets are not among them. The list is empty where no command line
    is being processed (a command's function called from Python).
    """
    ctx = click.get_current_context(silent=True)
    if ctx is None:
        return []
    params = {param.name: param for param in ctx.command.params}
    return [params[name].opts[0] for name in names if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE]


def check_reading(arguments: Sequence[str]) -> None:
    """Refuse options of reading that have no effect on any of the given texts.

    Args:
        arguments: what is read: files, folders, URLs, "-" and names of built-in corpora.

    Raises:
        UsageError: If --text-field is given, but no text can have fields; or an option of decoding, but all texts are
            built-in corpora.
    """
    from chargen.text.builtin_corpora import is_builtin
    from chargen.text.readers import is_plain

    named = ", ".join(arguments)
    if all(is_builtin(each) and not os.path.exists(each) for each in arguments):
        for option in given_options("encoding", "newline", "normalize"):
            raise click.UsageError(f"{option} has no effect: {named} is built in, and is not decoded from a file.")
    if all(is_plain(each) and not os.path.isdir(each) for each in arguments):
        for option in given_options("text_field"):
            raise click.UsageError(f"{option} has no effect: {named} has no fields, as .jsonl and .parquet have.")


def use_threads(num_threads: int | None) -> None:
    """Limit the number of CPU threads of this process; None changes nothing.

    A library that is not loaded yet reads its limit from the environment when it is, so that a command that needs no
    torch does not import it for this.
    """
    if num_threads is None:
        return
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(num_threads)
    if "torch" in sys.modules:
        from chargen.networks.torch_runtime import set_num_threads

        set_num_threads(num_threads)

"""Options that several commands share, and the groups that help lists them in.

Each command is a `GroupedCommand`, and each of its options belongs to one group:

    corpus_option = option_group("Corpus")

    @corpus_option("--encoding", default="utf-8", help="Text encoding of the input files.")

Help prints the groups in the order in which the command declares them. The types of the values are those of
`value_types.py`. Nothing here imports torch.
"""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from chargen.cli.effects import Effect, check, check_repetitions, flatten
from chargen.cli.help_format import HelpContext
from chargen.cli.value_types import BUILTIN_CORPUS_NAME as BUILTIN_CORPUS_NAME
from chargen.cli.value_types import CELL_NAMES as CELL_NAMES
from chargen.cli.value_types import CORPUS_NAME as CORPUS_NAME
from chargen.cli.value_types import EXISTING_FILE as EXISTING_FILE
from chargen.cli.value_types import FILE_NAME as FILE_NAME
from chargen.cli.value_types import FORECASTER_NAME as FORECASTER_NAME
from chargen.cli.value_types import MODEL_NAME as MODEL_NAME
from chargen.cli.value_types import NAME as NAME
from chargen.cli.value_types import RUN_NAME as RUN_NAME
from chargen.cli.value_types import TOKENIZER_NAME as TOKENIZER_NAME
from chargen.cli.value_types import check_temperature, check_unicode_values
from chargen.cli.value_types import number as number
from chargen.cli.value_types import numbers as numbers
from chargen.cli.value_types import parse_duration as parse_duration
from chargen.cli.value_types import parse_size as parse_size
from chargen.cli.value_types import split_names as split_names
from chargen.cli.value_types import whole as whole
from chargen.config import DIRECTIONS, FORWARD
from chargen.folders import use_checkpoints
from chargen.sampling.settings import SAMPLING_RULES
from chargen.schema import Number
from chargen.ui.terminal_text import say, write_raw

F = TypeVar("F", bound=Callable[..., Any])

MAX_THREADS = 1024
# The variables that OpenMP (torch), OpenBLAS and MKL (NumPy, torch) and numba read when they are loaded.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


# ── groups ────────────────────────────────────────────────────────────────────────────────────────────────────────────


OLD_NAMES = {"members": "ensemble"}  # names of options that still work, but are not in the help


def _current_name(name: str) -> str:
    return OLD_NAMES.get(name, name)


class GroupedOption(click.Option):
    """An option that help lists under the heading of its group."""

    def __init__(self, *args: Any, group: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group


def option_group(title: str) -> Callable[..., Callable[[F], F]]:
    """Return a function like `click.option` that makes options of the group `title`."""
    return partial(click.option, cls=GroupedOption, group=title)


class GroupedCommand(click.Command):
    """A command whose help lists its options in groups, and which refuses options that have no effect.

    Args:
        name: the name of the command.
        effects: which options have no effect beside others, or without them: see `effects.py`.
        attributes: the other arguments of `click.Command`.
    """

    context_class = HelpContext

    def __init__(self, name: str | None, *, effects: Iterable[Effect | list[Effect]] = (), **attributes: Any) -> None:
        settings = {"token_normalize_func": _current_name, **attributes.pop("context_settings", {})}
        super().__init__(name, context_settings=settings, **attributes)
        self.effects = flatten(effects)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the options and arguments, and refuse those that have no effect."""
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.UsageError as error:
            from chargen.cli.hints import explain  # only a wrong command line needs it

            raise explain(ctx, error, words) from error
        if not ctx.resilient_parsing:
            check_repetitions(ctx, self.make_parser(ctx).parse_args(words)[2])
            check(ctx, self.effects)
            check_unicode_values(ctx)
        return rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group; --help is the last entry of the last one."""
        groups: dict[str, list[tuple[str, str]]] = {}
        title = "Options"
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                title = getattr(param, "group", title)
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


basic_option = option_group("Options used most")
corpus_option = option_group("Corpus")
machine_option = option_group("Machine")
output_option = option_group("Output")


def sampling_rules(rule_option: Callable[..., Callable[[F], F]]) -> Callable[[F], F]:
    """Return a decorator that adds an option for each sampling rule of `SampleConfig`, in the order of the rules.

    Args:
        rule_option: Decorator that adds an option to the group in which the help lists the rules.
    """

    def add_options(command: F) -> F:
        for name, rule in reversed(SAMPLING_RULES.items()):
            command = rule_option(
                f"--{name.replace('_', '-')}", type=number(rule.values), default=rule.off,
                show_default=f"{rule.off:g}, off", metavar=rule.metavar, help=rule.help,
            )(command)  # fmt: skip
        return command

    return add_options


def _write_raw(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        write_raw()


def _use_checkpoints(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value is not None:
        for path in (Path(value), *Path(value).parents):
            if os.path.lexists(path) and not ctx.resilient_parsing:
                if not os.path.isdir(path):
                    raise click.BadParameter(f"{path} is a file, not a folder.", ctx, param)
                break
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
    "--temp", "--temperature", "temperature", type=number(Number()),
    callback=check_temperature, default=1.0, show_default=True,
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
errors = corpus_option(
    "--errors", type=click.Choice(["strict", "replace", "skip"]), default="strict", show_default=True,
    help="What to do with what is not valid: stop and report it, replace invalid bytes by U+FFFD, or skip the line or "
    "the record.",
)  # fmt: skip
text_field = corpus_option(
    "--text-field", "--field", "text_field", type=NAME, metavar="NAME", show_default="text",
    help="Field or column that contains the text of a record (.jsonl, .parquet). With this option, .json, .csv and "
    ".tsv files are read as records, too; without it, as plain text.",
)  # fmt: skip
json_lines = corpus_option(
    "--json-lines", is_flag=True,
    help="The lines of every input are JSON objects, also of standard input and where a name does not end in .jsonl.",
)  # fmt: skip
device = machine_option(
    "--device", type=click.Choice(["auto", "cpu", "cuda", "mps"]), default="auto", show_default=True,
    envvar="CHARGEN_DEVICE", show_envvar=True,
    help="Device for torch. 'auto' is a CUDA GPU if there is one, else the CPU.",
)  # fmt: skip
threads = machine_option(
    "--threads", type=whole(1, MAX_THREADS), metavar="N", show_default="one per core",
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
direction = corpus_option(
    "--direction", type=click.Choice(DIRECTIONS), default=FORWARD, show_default=True,
    help="Direction in which the model reads texts. A backward model generates text that ends with the prompt.",
)  # fmt: skip
log = output_option(
    "--log", type=click.Choice(["tensorboard"]),
    help="Also write the losses as event files of TensorBoard, in the folder tensorboard/NAME next to checkpoints/. It "
    "needs the extra 'tensorboard'.",
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
    """Refuse the name of a model in place of a text, and options of decoding where nothing is decoded.

    Args:
        arguments: What is read: files, folders, URLs, "-" and names of built-in corpora.

    Raises:
        UsageError: If there is a model but no text of a name; or if such an option is given, and all texts are
            built-in corpora.
    """
    from chargen.runs import list_run_names
    from chargen.text.builtin_corpora import is_builtin

    for argument in arguments:
        if not os.path.exists(argument) and not is_builtin(argument) and argument in list_run_names():
            context = click.get_current_context(silent=True)
            names = {name for param in context.command.params for name in param.opts} if context else set()
            option = next((f" Did you mean {name} {argument}?" for name in ("-m", "--resume") if name in names), "")
            raise click.UsageError(f"{argument} is the name of a model, not a text.{option}")
    note_same_names(arguments)
    named = ", ".join(arguments)
    if all(is_builtin(each) and not os.path.exists(each) for each in arguments):
        for option in given_options("encoding", "errors", "newline", "normalize", "json_lines"):
            raise click.UsageError(f"{option} has no effect: {named} is built in, and is not decoded from a file.")


def note_same_names(arguments: Iterable[str]) -> None:
    """Say what is read for the name of a built-in corpus if there is a file or folder of that name, too."""
    names = dict.fromkeys(arguments)
    if not names:  # the module of the corpora imports what a download needs
        return
    from chargen.text.builtin_corpora import is_builtin

    for argument in filter(is_builtin, names):
        if os.path.exists(argument):
            kind = "folder" if os.path.isdir(argument) else "file"
            say(
                f"note: the {kind} {argument} is read, and not the built-in corpus of the same name. To use that, "
                f"rename the {kind}, or write the corpus to another file: chargen corpora get {argument}"
            )
        elif files := sorted(path.name for path in Path().glob(f"{glob.escape(argument)}.*") if path.is_file()):
            say(
                f"note: the built-in corpus {argument} is read, and not the file {files[0]}: give its whole name for it"
            )


def note_newest_model(model: str | None, path: Path | None) -> None:
    """Say which model a command uses, if none was named and there are several; only a person at a terminal needs it."""
    from chargen.runs import list_run_names

    if model is None and path is not None and sys.stderr.isatty() and len(list_run_names()) > 1:
        say(f"note: the newest model is used: {path.parent.name}. -m NAME uses another one")


def check_output_file(option: str, path: str, inputs: Iterable[str | Path] = ()) -> None:
    """Check, before any work is done, that a file which the user named can be written without loss.

    Args:
        option: The option that names the file.
        path: Path of the file; it may exist.
        inputs: The files that the command reads; "-" is standard input, and URLs are not compared.

    Raises:
        UsageError: If its folder does not exist, it is a folder, or it is one of the inputs, also by another name.
    """
    from chargen.text.inputs import local_path

    folder = os.path.dirname(path) or "."
    if not path:
        raise click.UsageError(f"{option} is empty: give the name of a file.")
    if not os.path.isdir(folder):
        raise click.UsageError(f"{option} {path}: there is no folder {folder}. Create it first, or correct the name.")
    if os.path.isdir(path):
        raise click.UsageError(f"{option} {path} is a folder: give the name of a file.")
    if not os.path.isfile(path):
        return  # a device may be read and written
    for name in inputs:
        try:
            status = os.fstat(sys.stdin.fileno()) if name == "-" else os.stat(local_path(str(name)) or name)
        except (OSError, ValueError):  # it is a URL or cannot be read, or standard input is not a file
            continue
        if os.path.samestat(status, os.stat(path)):
            which = "standard input" if name == "-" else str(name)
            raise click.UsageError(f"{option} {path} would overwrite {which}, which this command reads.")


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


def start_with_one_thread(num_threads: int | None) -> None:
    """Set the number of CPU threads as `use_threads` does; without one, import NumPy with the threads deferred.

    For commands that mostly compute small products (`engines/blas_threads.py`).
    """
    use_threads(num_threads)
    from chargen.engines.blas_threads import defer_threads

    defer_threads()

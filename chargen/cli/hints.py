"""What a user probably meant: a word of another program, the option or the `--` that is missing, an empty input.

A command or an option that does not exist gets one suggestion if one is clear:

    1. the same letters (--top_p, -temp)
    2. the word of another program for it (`COMMAND_WORDS`, `OPTION_WORDS`)
    3. for an option, the other commands that have exactly this option
    4. the only name that starts with it, or the name that is most similar
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from chargen.errors import ChargenError
    from chargen.text.cleaning import CleaningReport

MAX_NAMED_FILES = 3  #: a message about files names at most this many
MIN_SIMILARITY = 0.7  #: lowest similarity of a name that is proposed; equal names have 1
CLEARLY_MORE = (
    0.08  #: lowest difference between the similarities of the best and the next name, if only the best is proposed
)

#: Our commands, and words that other programs have for them.
COMMAND_WORDS = {
    "train": "fit learn finetune fine-tune pretrain build resume create new",
    "sample": "generate gen complete completion continue predict infer inference write samples text produce decode "
    "extend autocomplete",
    "play": "chat repl interactive interact shell demo edit",
    "score": "rank likelihood probability logprob logprobs log-prob surprisal anomaly anomalies outliers filter "
    "sentence sentences",
    "eval": "evaluate evaluation perplexity ppl test validate validation val loss bpc bits measure",
    "compare": "diff versus vs",
    "rescore": "rerank re-rank nbest n-best",
    "classify": "classifier label categorize categorise detect identify",
    "bulk": "batch map spark cluster corpus-filter ccnet",
    "export": "convert save-as publish share html browser page web deploy",
    "info": "list ls models model show describe summary status runs inspect stats",
    "rm": "delete del remove purge",
    "corpora": "corpus data dataset datasets texts download prepare preprocess",
    "probe": "visualize visualise explain activations neurons units gradients memory interpret analyze analyse",
    "bench": "benchmark benchmarks",
    "plot": "curve curves loss-curve chart graph losses metrics tensorboard",
    "--version": "version",
    "help": "man usage h",
}
#: The same for the commands of each group of commands.
GROUP_WORDS = {
    "corpora": {
        "list": "ls show all",
        "get": "download fetch create save cat",
        "ball": "balls moving-ball bouncing-ball box bounce",
        "check": "validate verify inspect stats describe test",
        "clean": "clear purge rm delete remove",
    },
    "probe": {
        "gradients": "gradient grad gradient-flow vanishing horizon",
        "memory": "copy adding reber lag recall",
        "neurons": "neuron units unit activations activation cells hidden-units",
    },
    "export": {
        "page": "html web browser site js javascript",
        "model": "safetensors quantize quantise convert int8 fp16 half",
        "onnx": "onnxruntime ort",
        "hub": "huggingface hf push upload",
    },
    "bulk": {
        "score": "rank filter perplexity ppl evaluate",
        "sample": "generate continue complete",
    },
    "bench": {
        "cells": "cell networks rnn rnns architectures",
    },
}
#: Our options, and words that other programs have for them. The first one that a command has is suggested.
OPTION_WORDS = {
    "--temp": "t temperature temprature temperture",
    "-n": "n num number count num-samples n-samples samples nsamples num-return-sequences",
    "--length": "l len max-length max-len max-tokens max-new-tokens num-chars n-chars num-characters chars characters "
    "size tokens n-predict num-tokens maxlen sample-len max-chars",
    "--prompt": "prime primetext prime-text start start-text start-with seed-text starting-text prefix p begin",
    "--prompt-file": "prompt-from file-prompt",
    "--top-k": "topk k", "--top-p": "topp nucleus nucleus-p", "--typical": "typical-p typ-p", "--min-p": "minp",
    "--dry": "repetition-penalty repeat-penalty frequency-penalty presence-penalty no-repeat",
    "--beam": "num-beams beams beam-size beam-width n-beams",
    "--stop": "stop-string stop-token stop-sequence end-token eos",
    "--regex": "grammar pattern constraint",
    "--ban": "bad-words forbid exclude",
    "-m": "checkpoint ckpt model-file model-path model-name load model-dir weights run network",
    "--budget": "time max-time minutes seconds duration timeout time-limit hours max-minutes",
    "--steps": "step iters iterations max-iters max-steps num-steps n-steps iteration niter num-iterations updates",
    "--epochs": "epoch num-epochs n-epochs max-epochs max-epoch passes e",
    "--lr": "learning-rate learningrate alpha eta step-size",
    "--batch": "batch-size batchsize bs b minibatch",
    "--seq-len": "seq-length sequence-length block-size bptt context-length context-size seqlen window ctx unroll "
    "context-window",
    "--hidden": "hidden-size rnn-size hidden-dim units num-units width n-hidden d-model hidden-units dim hid nhid size",
    "--layers": "layer num-layers n-layers nlayers depth n-layer number-of-layers",
    "--embedding": "emb embed embedding-dim embedding-size embed-size embed-dim emb-size n-embd emsize",
    "--cell": "rnn rnn-type cell-type architecture arch unit type model-type",
    "--dropout": "drop drop-rate dropout-rate p-drop",
    "--clip": "grad-clip gradient-clip clip-grad gradient-clipping max-grad-norm grad-norm",
    "--weight-decay": "wd l2 decay",
    "--patience": "early-stopping early-stop",
    "--val": "validation val-file valid validation-file dev test-file val-data valid-file dev-file eval-file",
    "--val-fraction": "val-split-size validation-split val-frac valid-frac val-size test-size val-ratio",
    "--name": "run-name experiment experiment-name save-as run-id output-name",
    "--force": "overwrite f replace",
    "--resume": "continue resume-from restore continue-from",
    "--init-from": "finetune fine-tune pretrained from warm-start base-model from-pretrained",
    "--save-every": "checkpoint-every save-interval save-freq checkpoint-interval save-steps",
    "--checkpoints": "out-dir output-dir save-dir checkpoint-dir outdir savedir models-dir log-dir",
    "--seed": "random-seed rng-seed random-state rand-seed",
    "--threads": "num-threads workers num-workers jobs j cores cpus n-threads processes",
    "--device cuda": "gpu cuda use-gpu gpus use-cuda",
    "--device cpu": "cpu no-gpu no-cuda",
    "--json": "as-json format-json output-json",
    "--tsv": "csv tab table",
    "--file": "input input-file f infile lines from-file i",
    "--html": "report page output-html web",
    "--chars": "characters per-char char letters",
    "--worst": "bottom anomalies outliers least-likely",
    "--top": "best head limit",
    "--min-bits": "threshold min-score",
    "--labelled": "labeled labels test-data",
    "--output": "out o outfile output-file to",
    "--yes": "force f no-confirm assume-yes",
    "--tokenizer": "vocab token tokenization level",
    "--documents": "split-lines document docs split",
    "CORPUS": "data text input train-file train-data data-path data-dir corpus dataset file train input-file txt",
    "SENTENCES": "text sentence string input",
    "TEXTS": "text sentence string input",
    "MODELS": "model",
    "MODEL": "model run name",
    "RUNS": "run name model",
}  # fmt: skip


def explain(ctx: click.Context, error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """Return the error of a command line with a hint, or unchanged if there is none.

    Args:
        ctx: the context of the command.
        error: what click found.
        words: the words of the command line after the name of the command.
    """
    command = ctx.command
    if isinstance(error, click.NoSuchOption):
        return _no_such_option(ctx, error, words)
    if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Argument):
        return _missing_argument(ctx, error, words)
    has_arguments = any(isinstance(param, click.Argument) for param in command.params)
    if type(error) is click.UsageError and not has_arguments and "extra argument" in error.message:
        extra = command.make_parser(ctx).parse_args(list(words))[1]
        meant = " or ".join(f"{option} {shlex.quote(extra[0])}" for option in _options_for(command, extra[0]))
        if meant:
            return click.UsageError(f"{error.message}. Did you mean {meant}?", ctx)
    return error


def _missing_argument(ctx: click.Context, error: click.UsageError, words: Sequence[str]) -> click.UsageError:
    """Return the error of an argument that is missing, with all that are needed and those that were given."""
    arguments = [param for param in ctx.command.params if isinstance(param, click.Argument)]
    values = ctx.command.make_parser(ctx).parse_args(list(words))[0]
    given: list[str] = []
    for argument in arguments:
        value = values.get(str(argument.name))
        given += [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    if not given:
        return error
    needed = " ".join(argument.metavar or argument.human_readable_name for argument in arguments)
    were = "was" if len(given) == 1 else "were"
    return click.UsageError(f"{ctx.command_path} needs {needed}, but only {shlex.join(given)} {were} given.", ctx)


def _no_such_option(ctx: click.Context, error: click.NoSuchOption, words: Sequence[str]) -> click.UsageError:
    """Return the error of an option that does not exist, with the option that was meant if that is clear."""
    command = ctx.command
    word = next((word for word in words if word.startswith(error.option_name)), error.option_name)
    name = word.split("=")[0] if len(error.option_name) == 2 else error.option_name  # click reads -temp as -t -e -m -p
    message = f"No such option {name!r}."
    known = [name for param in _visible_options(command) for name in (*param.opts, *param.secondary_opts)]
    arguments = [str(param.name).upper() for param in command.params if isinstance(param, click.Argument)]
    known += [*arguments, *(f"--device {kind}" for kind in ("cuda", "cpu"))]
    meant = find_exact(name, known, OPTION_WORDS)
    if meant not in arguments and (owners := _commands_with(ctx, name)):
        message += f" It is an option of {ctx.find_root().command_path} {owners}."
        return click.UsageError(f"{message} Did you mean {meant!r}?" if meant else message, ctx)
    meant = meant or find_similar(name, known, OPTION_WORDS)
    if meant in arguments:
        return click.UsageError(f"{message} Give it without an option: {ctx.command_path} {meant}", ctx)
    if meant.split()[:1] and meant.split()[0] in known:
        return click.UsageError(f"{message} Did you mean {meant!r}?", ctx)
    takes_texts = any(isinstance(param, click.Argument) and param.type is click.STRING for param in command.params)
    if takes_texts and (" " in word or not name.startswith("--")):
        call = shlex.join([*ctx.command_path.split(), "--", word])
        return click.UsageError(f"{message} A text that begins with a dash follows --: {call}", ctx)
    return click.UsageError(f"{message} The options are listed by: {ctx.command_path} --help", ctx)


def _commands_with(ctx: click.Context, option: str) -> str:
    """Return the commands of the program that have an option, as a list in words: "sample, probe neurons and score"."""
    *first, last = list(_owners(ctx.find_root(), option)) or [""]
    return f"{', '.join(first)} and {last}" if first else last


def _owners(ctx: click.Context, option: str, path: str = "") -> Iterator[str]:
    """Yield the commands of a group and of its groups that have an option, each with the groups before it."""
    assert isinstance(ctx.command, click.Group)
    for name in ctx.command.list_commands(ctx):
        command = ctx.command.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from _owners(click.Context(command, ctx, name), option, f"{path}{name} ")
        elif command and any(option in (*param.opts, *param.secondary_opts) for param in _visible_options(command)):
            yield f"{path}{name}"


def _visible_options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option) and not param.hidden]


def no_such_command(ctx: click.Context, name: str, known: Sequence[str], words: dict[str, str]) -> NoReturn:
    """Fail because there is no command of a name; name the command that was meant, if that is clear.

    Args:
        ctx: The context of the group of commands.
        name: What was given.
        known: The commands that exist.
        words: The words of other programs: `COMMAND_WORDS`, or an entry of `GROUP_WORDS`.
    """
    meant = find_meant(name, [*known, *words], words)
    hint = f"Did you mean {meant!r}?" if meant else f"The commands are listed by: {ctx.command_path} --help"
    ctx.fail(f"no command {name!r}. {hint}")


def find_meant(name: str, known: Sequence[str], words: dict[str, str]) -> str:
    """Return the known name that was probably meant, or "" if none is clearly the best.

    Args:
        name: What was given.
        known: The names that exist.
        words: For a name, the words of other programs, separated by spaces.

    >>> find_meant("--top_p", ["--top-p", "--top-k"], {}), find_meant("--nucleus", ["--top-p"], {"--top-p": "nucleus"})
    ('--top-p', '--top-p')
    """
    return find_exact(name, known, words) or find_similar(name, known, words)


def find_exact(name: str, known: Sequence[str], words: dict[str, str]) -> str:
    """Return the known name that has the same letters, or the one for a word of another program; "" if none has.

    The arguments are those of `find_meant`.
    """
    word, spellings = _letters(name), _spellings(known)
    if word in spellings and spellings[word] != name:
        return spellings[word]
    return _words_of_others(known, words).get(word, "") if word else ""


def find_similar(name: str, known: Sequence[str], words: dict[str, str]) -> str:
    """Return the only known name that starts with a name, or the most similar one; "" if none is clearly the best.

    The arguments are those of `find_meant`.
    """
    word, spellings = _letters(name), _spellings(known)
    starting = [each for spelling, each in spellings.items() if len(word) > 1 and spelling.startswith(word)]
    if len(set(starting)) == 1:
        return starting[0]
    return _most_similar(word, {**_words_of_others(known, words), **spellings}) if len(word) > 2 else ""


def _spellings(known: Sequence[str]) -> dict[str, str]:
    return {_letters(each): each for each in reversed(known)}


def _words_of_others(known: Sequence[str], words: dict[str, str]) -> dict[str, str]:
    """Return the known name for each word of another program."""
    return {other: each for each, others in reversed(words.items()) if each in known for other in others.split()}


def _most_similar(word: str, names: Mapping[str, str]) -> str:
    """Return the name whose spelling is most similar to a word, or "" if none is clearly the most similar one."""
    from difflib import SequenceMatcher  # only a wrong command line needs it

    similarity: dict[str, float] = {"": MIN_SIMILARITY}
    for spelling, name in names.items():
        ratio = SequenceMatcher(None, word, spelling).ratio()
        similarity[name] = max(ratio, similarity.get(name, 0.0))
    best, *rest = sorted(similarity, key=lambda name: -similarity[name])
    second = max((similarity[name] for name in rest if name), default=0.0)
    return best if similarity[best] >= second + CLEARLY_MORE else ""


def _letters(name: str) -> str:
    """Return a name in lower case without its dashes at the start, and with "-" between its words."""
    return name.lstrip("-").casefold().replace("_", "-")


def _options_for(command: click.Command, word: str) -> list[str]:
    """Return the options of a command that a word was probably meant for: a model, a file or a prompt."""
    from chargen.runs import list_run_names

    if word in list_run_names() or word.endswith(".safetensors"):
        fitting = ["-m"]
    elif os.path.isfile(word):
        fitting = ["--file", "--prompt-file"]
    else:
        fitting = ["--prompt"] if " " in word else ["-m", "--prompt"]
    known = {name for param in command.params for name in param.opts}
    return [option for option in fitting if option in known]


def note_files(texts: Iterable[str]) -> None:
    """Print a note for a text that is the name of a file or "-": the lines were meant, and not the name."""
    from chargen.ui.terminal_text import say

    for text in texts:
        if text == "-":
            say("note: '-' is taken as a text; --file - reads standard input")
        elif text and "\0" not in text and os.path.isfile(text):
            say(f"note: {text} is a file; add --file to read it: --file {shlex.quote(text)}")


def note_repeated_files(files: Sequence[str]) -> None:
    """Print a note for each file that is read more than once, also by another name; refuse standard input twice.

    Raises:
        UsageError: If "-" is among the files twice.
    """
    from chargen.ui.terminal_text import say

    if files.count("-") > 1:
        raise click.UsageError(f"Standard input ('-') is given {files.count('-')} times, but it can be read only once.")
    names: dict[object, list[str]] = {}
    for name in files:
        try:
            status = os.stat(name)
            names.setdefault((status.st_dev, status.st_ino), []).append(name)
        except (OSError, ValueError):  # standard input, a URL, or a file that is missing, which is reported later
            names.setdefault(name, []).append(name)
    for found in names.values():
        if len(found) > 1:
            also = ", ".join(dict.fromkeys(name for name in found if name != found[0]))
            shown = f"{found[0]} (also named {also})" if also else found[0]
            say(f"note: {shown} is read {len(found)} times, so its texts are counted {len(found)} times")


def no_texts_error(files: Sequence[str], verb: str, report: CleaningReport, hint: str) -> ChargenError:
    """Return the error for input without a single text, after printing the notes about what was left out.

    Args:
        files: What was read; "-" is standard input. Empty: neither texts nor files were given.
        verb: What the command does with texts: "score".
        report: What was left out.
        hint: What the user can do.
    """
    from chargen.errors import CorpusError
    from chargen.ui.terminal_text import say

    notes = report.notes()
    for note in notes:
        say(f"note: {note}")
    names = ", ".join("standard input" if name == "-" else name for name in files[:MAX_NAMED_FILES])
    names += ", …" if len(files) > MAX_NAMED_FILES else ""
    is_empty = len(files) == 1 and not notes and (files[0] == "-" or _has_no_bytes(files[0]))
    reason = f"{names} is empty" if is_empty else f"{names} {'has' if len(files) == 1 else 'have'} no text"
    return CorpusError(f"{reason if files else 'no text was given'}: there is nothing to {verb}", hint)


def _has_no_bytes(name: str) -> bool:
    try:
        return os.stat(name).st_size == 0
    except (OSError, ValueError):  # a URL
        return False

"""All pairs of options of every command: each option changes the result, or is refused by name.

To add an option, add a line to `EXAMPLES` with a value that differs from its default. If the tests then say that it has
no effect beside another option, state that in the table `EFFECTS` of the command (`chargen/cli/effects.py`); if both
have an effect that this small example does not show, add the pair to `ALIKE` with the reason.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from chargen.api import load
from chargen.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from chargen.cli import options
from chargen.config import DataConfig, ModelConfig
from chargen.text.series.quantizer import Quantizer
from chargen.tokenizers.mulaw import MuLawTokenizer
from tests.cli.test_options import commands
from tests.conftest import random_weights

COMMANDS = dict(commands())

#: the command with its other arguments, by the name of the scenario
SCENARIOS = {
    "train": ["train", "text.txt"],
    "sample": ["sample"],
    "sample of a series": ["sample", "-m", "series"],
    "play": ["play"],
    "serve": ["serve", "m"],
    "score": ["score", "ab ab ab ba", "€"],
    "score of a file": ["score", "--file", "lines.txt"],
    "eval": ["eval", "short.txt"],
    "compare": ["compare", "m", "m2", "text.txt"],
    "rescore": ["rescore", "--file", "moses.txt"],
    "rescore of Kaldi": ["rescore", "--file", "kaldi.txt", "--as-costs"],
    "classify": ["classify", "-m", "m", "-m", "m2", "ab ba"],
    "classify --train": ["classify", "--train", "labels.tsv"],
    "classify --train of records": ["classify", "--train", "labels.jsonl", "--json-lines"],
    "forecast": ["forecast", "-m", "f", "hours.csv"],
    "forecast --train": ["forecast", "--train", "hours.csv", "--column", "a"],
    "export onnx": ["export", "onnx", "m"],
    "export model": ["export", "model", "m", "--output", "new.safetensors"],
    "export hub": ["export", "hub", "m", "new-folder"],
    "probe gradients": ["probe", "gradients", "text.txt"],
    "probe memory": ["probe", "memory"],
    "rm": ["rm", "removable"],
    "info": ["info"],
    "plot": ["plot", "stopped"],
    "bench cells": ["bench", "cells", "text.txt"],
    "bulk score": ["bulk", "score", "records.jsonl", "--out", "new-scores", "--engine", "local"],
    "bulk sample": ["bulk", "sample", "records.jsonl", "--out", "new-texts", "--engine", "local"],
    "export page": ["export", "page", "m", "--output", "new.html"],
    "probe neurons": ["probe", "neurons", "m", "text.txt"],
    "corpora list": ["corpora", "list"],
    "corpora get": ["corpora", "get", "alphabet"],
    "corpora ball": ["corpora", "ball", "--output", "balls.csv"],
    "corpora check": ["corpora", "check", "text.txt"],
    "corpora clean": ["corpora", "clean"],
}
#: the commands that read a corpus, with a file of records whose name does not say so
RECORD_SCENARIOS = {
    f"{' '.join(words[:-1])} of records": words
    for words in (
        ["train", "lines.txt"], ["eval", "lines.txt"], ["compare", "m", "m2", "lines.txt"],
        ["corpora", "check", "lines.txt"], ["bench", "cells", "lines.txt"], ["probe", "neurons", "m", "lines.txt"],
        ["probe", "gradients", "m", "lines.txt"],
    )
}  # fmt: skip
SCENARIOS |= RECORD_SCENARIOS

NETWORK = {
    "--cell": "lstm", "--layers": "2", "--hidden": "9", "--ensemble": "2", "--embedding": "7", "--ngrams": "3",
    "--residual": None, "--skip": None, "--layer-norm": None,
    "--tie-weights": None, "--dropout": "0.3", "--weight-dropout": "0.3", "--ngram-dropout": "0.3",
    "--ngram-words": "1",
}  # fmt: skip
READING = {
    "--encoding": "cp1258", "--newline": "keep", "--normalize": "none", "--documents": "line",
    "--text-field": "other", "--max-corpus-size": "1MB", "--errors": "replace",
}  # fmt: skip
MACHINE = {"--device": "cpu", "--threads": "1"}
OUTPUT = {"--json": None, "--raw": None}
PROBE = {
    "--cells": "lstm,gru", "--layers": "2", "--hidden": "9", "--steps": "5", "--budget": "9s", "--lr": "0.5",
    "--clip": "0.5", "--seed": "3", "--plot": "plot.svg", "--json": None,
}  # fmt: skip
#: a value of each option that differs from its default; None for a flag. An option may have more than one.
EXAMPLES: dict[str, dict[str, str | None]] = {
    "train": {
        "--budget": "2h", "--name": "new", "--force": None, "--tokenizer": "byte", "--resume": "stopped",
        "--val": "lines.txt", "--val-fraction": "0.2", "--steps": "5", "--epochs": "2", "--batch": "3",
        "--seq-len": "9", "--lr": "0.5", "--clip": "0.5", "--weight-decay": "0.5", "--seed": "3", "--more": "9s",
        "--save-every": "9s", "--patience": "0.3", "--val-split": "random", "--keep-state": "never",
        "--stop-after": "3", "--init-from": "m", "--new-chars": "unknown", "--direction": "backward",
        "--log": "tensorboard", "--precision": "bf16", "--weights": "float32",
        **NETWORK, **READING, **MACHINE, "--json": None,
    },
    "sample": {
        "-m": "m2", "--temp": "3", "-n": "2", "--length": "110", "--prompt": "ab", "--seed": "3",
        "--prompt-file": "prompt.txt", "--suffix": "e", "--stop": "b", "--until": "newline", "--top-k": "2",
        "--top-p": "0.7", "--typical": "0.7", "--min-p": "0.3", "--dry": "0.5", "--dry-base": "8", "--dry-allowed": "1",
        "--regex": "[a-e \n]{30}",
        "--ban": "a", "--max-copy": "2", "--corpus": "text.txt", "--allow-invalid-utf8": None,
        "--particles": "3", "--beam": "3", "--best-of": "9", "--report": None, "--prompts": "prompts.txt",
        "--no-prompt": None, "--sep": "x", "--null": None, "--output": "new.wav", "--numbers": None, **MACHINE,
        **OUTPUT,
    },
    "play": {
        "-m": "m2", "--temp": "0.5", "--prompt": "ab", "--seed": "3", "--length": "25", "--threads": "1",
    },
    "serve": {
        "--host": "127.0.0.2", "--port": "0", "--api-key": "key", "--cors": "https://example.com",
        "--allow-host": "example.com", "--max-tokens": "9", "--max-waiting": "9", "--timeout": "9s", "--threads": "1",
        "--json": None,
    },
    "score": {
        "-m": "m2", "--file": "lines.txt", "--sort": "worst", "--worst": "1", "--min-bits": "3", "--fail-above": "1",
        "--no-sort": None, "--top": "1", "--context": "ab",
        "--chars": None, "--null": None, "--json-lines": None, "--whole": None, "--field": "other",
        "--encoding": "cp1258", "--errors": "replace", "--end": None, "--no-end": None, "--words": None,
        "--by": "total", "--suggest": None, "--html": "page.html", "--tsv": None, "--backward": "back",
        "--weight": "0.9", **MACHINE, **OUTPUT,
    },
    "eval": {
        "-m": "m2", "--encoding": "cp1258", "--max-corpus-size": "1MB", "--adapt": None, "--adapt-rule": "sgd",
        "--adapt-rate": "0.1", "--adapt-decay": "0.1", "--adapt-segment": "5", "--errors": "replace",
        "--text-field": "other", **MACHINE, "--json": None,
    },
    "compare": {
        "--top": "1", "--resamples": "200", "--seed": "3", "--learn": "lines.txt", "--encoding": "cp1258",
        "--errors": "replace", "--text-field": "other",
        "--max-corpus-size": "1MB", "--device": "cpu", "--json": None,
    },
    "rescore": {
        "-m": "m2", "--weight": "0.3", "--tune": "references.txt", "--best": None, "--sort": None, "--no-sort": None,
        "--format": "moses", "--costs": "costs.txt", "--feature": "g", "--error": "cer", "--by": "per-char",
        "--context": "ab", "--end": None, "--no-end": None, "--device": "cpu", "--as-costs": None,
        "--encoding": "cp1258",
        "--errors": "replace", **OUTPUT,
    },
    "classify": {
        "--file": "lines.txt", "--labelled": "labels.tsv", "--name": "new", "--budget": "9s", "--steps": "5",
        "--epochs": "2", "--seed": "3", "--train": "labels.tsv", "-m": "m3", "--encoding": "cp1258",
        "--errors": "replace",
        "--text-field": "other", "--json-lines": None, **NETWORK, "--device": "cpu",
        "--method": "encoder", "--label-field": "kind", "--resume": "stopped", "--tokenizer": "words:50",
        "--pooling": "max", "--max-length": "9", "--class-weights": "balanced", "--init-from": "m",
        "--plot": "new.svg", "--explain": None, "--html": "new.html", "--json": None,
    },
    "forecast": {
        "-m": "f2", "--train": "hours.csv", "--column": "b", "--history": "5", "--horizon": "2", "--plot": "new.svg",
        "--with": "c", "--time": "none", "--group": "place", "--where": "place=x", "--fill": "linear",
        "--encoding": "cp1258", "--strategy": "recursive", "--output": "gaussian", "--coverage": "0.5",
        "--calendar": None, "--no-calendar": None, "--budget": "9s", "--steps": "5", "--epochs": "2", "--name": "new",
        "--resume": "stopped-f", "--stop-after": "3", "--seed": "3", "--cell": "lstm", "--layers": "2",
        "--hidden": "9", "--dropout": "0.2", "--device": "cpu", "--json": None,
    },
    "plot": {"--output": "new.svg", "--x": "time", "--json": None},
    "bench cells": {
        "--budget": "9s", "--cells": "rnn", "--parameters": "90000", "--layers": "2", "--seed": "3",
        "--plot": "new.svg",
        **{option: value for option, value in READING.items() if option != "--documents"}, **MACHINE, "--json": None,
    },
    "bulk score": {
        "-m": "m2", "--out": "new-folder", "--text-column": "other", "--prefix": "x_", "--keep-below": "3",
        "--percentile-of": "lines.txt", "--end": None, "--no-end": None, "--engine": "local", "--workers": "1",
        "--address": "127.0.0.1:1", **MACHINE, "--json": None,
    },
    "bulk sample": {
        "-m": "m2", "--out": "new-folder", "--text-column": "other", "--prefix": "x_", "-n": "2", "--temp": "3",
        "--length": "9", "--seed": "3", "--stop": "b", "--until": "newline", "--top-k": "2", "--top-p": "0.7",
        "--typical": "0.7", "--min-p": "0.3", "--engine": "local", "--workers": "1", "--address": "127.0.0.1:1",
        **MACHINE, "--json": None,
    },
    "export model": {"--weights": "float32", "--json": None},
    "export onnx": {"--output": "new.onnx", "--check": None, "--json": None},
    "export hub": {"--push": "person/new", "--json": None},
    "probe neurons": {
        "--output": "new.html", "--max-chars": "50", "--top": "2", "--encoding": "cp1258", "--errors": "replace",
        "--text-field": "other", "--max-corpus-size": "1MB", "--json": None,
    },
    "export page": {"--weights": "float32", "--license": "CC0", "--json": None},
    "probe gradients": {
        "--lag": "9", "--positions": "3", "--init-scale": "3", "--encoding": "cp1258", "--errors": "replace",
        "--text-field": "other", "--max-corpus-size": "1MB", **PROBE,
    },
    "probe memory": {"--task": "adding", "--lags": "3,6", **PROBE},
    "rm": {"--yes": None, "--json": None},
    "info": {"--explain": None, "--json": None},
    "corpora list": {"--json": None},
    "corpora get": {"--output": "new.txt", "--json": None},
    "corpora ball": {"--balls": "3", "--frames": "4", "--seed": "2", "--json": None},
    "corpora check": {**READING, "--json": None},
    "corpora clean": {"--json": None},
}  # fmt: skip
EXAMPLES["sample of a series"] = {
    **{option: EXAMPLES["sample"][option] for option in ("--temp", "-n", "--length", "--seed", "--top-k")},
    "--prompt-file": "series.txt", "--no-prompt": None, "--output": "new.wav", "--numbers": None, "--sep": "x",
    "--null": None, "--json": None,
}  # fmt: skip
EXAMPLES["score of a file"] = {k: v for k, v in EXAMPLES["score"].items() if k != "--file"}
for name in RECORD_SCENARIOS:
    EXAMPLES[name] = {"--json-lines": None, "--text-field": "other", "--encoding": "cp1258"}
KALDI = {"--format": "kaldi", "--tune": "kaldi-references.txt"}
EXAMPLES["rescore of Kaldi"] = {k: KALDI.get(k, v) for k, v in EXAMPLES["rescore"].items() if k != "--as-costs"}
EXAMPLES["forecast --train"] = {k: v for k, v in EXAMPLES["forecast"].items() if k != "--train"}
EXAMPLES["classify --train"] = {k: v for k, v in EXAMPLES["classify"].items() if k not in ("--train", "--json-lines")}
FIELDS = ("--text-field", "--label-field", "--encoding", "--errors", "--seed", "--resume", "--json")
EXAMPLES["classify --train of records"] = {option: EXAMPLES["classify"][option] for option in FIELDS}

#: what an option needs to have an effect: more words of the command line
WITH: dict[tuple[str, str], list[str]] = {
    ("train", "--more"): ["--resume", "stopped"],
    ("info", "--explain"): ["m"],
    ("train", "--new-chars"): ["--init-from", "m2"],
    ("train", "--ngram-dropout"): ["--ngrams", "3"],
    ("train", "--ngram-words"): ["--ngrams", "3"],
    ("train", "--residual"): ["--layers", "2"],
    ("train", "--skip"): ["--layers", "2"],
    ("train", "--text-field"): ["records.jsonl"],
    ("corpora check", "--text-field"): ["records.jsonl"],
    ("bench cells", "--text-field"): ["records.jsonl"],
    ("bench cells", "--errors"): ["bad.txt"],
    ("rm", "--json"): ["--yes"],
    ("train", "--errors"): ["bad.txt"],
    ("corpora check", "--errors"): ["bad.txt"],
    ("eval", "--errors"): ["bad.txt"],
    ("eval", "--text-field"): ["records.jsonl"],
    ("compare", "--errors"): ["--learn", "bad.txt"],
    ("compare", "--text-field"): ["--learn", "records.jsonl"],
    ("classify", "--encoding"): ["--file", "lines.txt"],
    ("classify", "--errors"): ["--file", "bad.txt"],
    ("classify", "--text-field"): ["--file", "records.jsonl"],
    **{(name, "--text-field"): ["--json-lines"] for name in RECORD_SCENARIOS},
    ("classify", "--json-lines"): ["--file", "lines.txt"],
    ("sample", "--no-prompt"): ["--prompt", "ab"],
    ("sample", "--sep"): ["-n", "3"],
    ("sample of a series", "--sep"): ["-n", "3"],
    ("sample of a series", "--null"): ["-n", "3"],
    ("sample of a series", "--no-prompt"): ["--prompt-file", "series.txt"],
    ("sample", "--null"): ["-n", "3"],
    ("sample", "--dry"): ["--dry-allowed", "2"],
    ("sample", "--dry-base"): ["--dry", "0.5", "--dry-allowed", "2"],
    ("sample", "--dry-allowed"): ["--dry", "3"],
    ("sample", "--corpus"): ["--max-copy", "2"],
    ("sample", "--allow-invalid-utf8"): ["-m", "bytes"],
    ("score", "--field"): ["--json-lines", "--file", "lines.txt"],
    ("score", "--weight"): ["--backward", "back"],
    ("score of a file", "--weight"): ["--backward", "back"],
    ("score", "--null"): ["--file", "lines.txt"],
    ("score", "--json-lines"): ["--file", "lines.txt"],
    ("score", "--whole"): ["--file", "lines.txt"],
    ("score", "--encoding"): ["--file", "lines.txt"],
    ("score", "--errors"): ["--file", "bad.txt"],
    ("score of a file", "--field"): ["--json-lines"],
    ("score of a file", "--errors"): ["--file", "bad.txt"],
    **{("eval", f"--adapt-{name}"): ["--adapt"] for name in ("rule", "rate", "decay", "segment")},
    ("rescore", "--error"): ["--tune", "references.txt"],
    ("rescore of Kaldi", "--error"): ["--tune", "kaldi-references.txt"],
    ("classify", "--seed"): ["--labelled", "labels.tsv"],
    ("classify", "--plot"): ["--labelled", "labels.tsv"],
    ("classify", "--label-field"): ["--labelled", "labels.jsonl"],
    ("classify", "--html"): ["--explain"],
    ("classify --train", "--ngram-dropout"): ["--ngrams", "3"],
    ("classify --train", "--ngram-words"): ["--ngrams", "3"],
    ("classify --train", "--residual"): ["--layers", "2"],
    ("classify --train", "--skip"): ["--layers", "2"],
}

#: options whose effect cannot be seen in these results, with the reason
FOLDER = "tests/cli/test_environment.py tries it with runs in another folder"
LIMIT, SPEED, TERMINAL = "the text is smaller", "the result is the same everywhere", "there is no terminal"
DEFAULT = "it confirms the default"
HERE = {"--device": SPEED, "--threads": SPEED, "--raw": TERMINAL, "--max-corpus-size": LIMIT, "--checkpoints": FOLDER}
ASCII = dict.fromkeys(("--encoding", "--errors"), "the lists are ASCII; tests/cli/test_inputs.py tries others")
UNSEEN: dict[str, dict[str, str]] = {
    **dict.fromkeys(SCENARIOS, HERE),
    "train": {
        **HERE,
        "--json": "it changes what is printed at the end",
        "--log": "tests/training/logs/test_tensorboard.py reads the files that it writes during a training",
    },
    "bench cells": {
        **HERE,
        "--json": "it changes what is printed at the end",
        "--plot": "the picture is written at the end",
    },
    "probe neurons": {**HERE, **dict.fromkeys(("--encoding", "--errors", "--text-field"), "text.txt is plain ASCII")},
    "sample": {**HERE, "--corpus": "the files are those that the model names"},
    "score": {**HERE, "--no-end": DEFAULT},
    "score of a file": {**HERE, "--no-end": DEFAULT},
    "rescore": {**HERE, **ASCII, "--no-sort": DEFAULT, "--no-end": DEFAULT, "--format": DEFAULT},
    "rescore of Kaldi": {**HERE, **ASCII, "--no-sort": DEFAULT, "--no-end": DEFAULT, "--format": DEFAULT},
    "probe gradients": {**HERE, "--errors": "each byte can be decoded"},
    "forecast": {**HERE, "--encoding": "the file is ASCII", "--fill": "no value is missing"},
    "forecast --train": {
        **HERE,
        "--encoding": "the file is ASCII",
        "--calendar": DEFAULT,
        **dict.fromkeys(("--plot", "--json"), "they change what is written at the end"),
    },
    "probe memory": {**HERE, **dict.fromkeys(("--plot", "--json"), "they change what is printed at the end")},
    "classify --train": {
        **HERE,
        "--errors": "each byte can be decoded",
        "--json": "it changes what is printed at the end",
        "--plot": "the picture is written at the end",
    },
    "classify --train of records": {
        **HERE,
        "--errors": "each byte can be decoded",
        "--json": "it changes what is printed at the end",
    },
}
#: pairs whose effects happen to coincide in this example: the scenario, an option, others, and the reason
ALIKE = [
    ("sample", "--length", "--stop --until --regex", "the text ends before its length"),
    ("sample", "--until", "--stop --min-p --max-copy --dry-base --dry-allowed", "the text ends too soon"),
    ("sample", "--stop", "--ban --max-copy --dry-base --dry-allowed", "the text ends too soon"),
    ("sample", "--allow-invalid-utf8", "--stop --until --dry-base --dry-allowed --regex", "nothing is repeated"),
    ("sample", "--best-of", "--prompt --no-prompt", "the first text is the best one"),
    ("train", "--val-split", "--documents", "the setting is the default of documents"),
    ("score", "--min-bits", "--sort --worst --top --by", "only one text is left"),
    ("score", "--errors", "--field", "the other field can be decoded"),
    ("score of a file", "--errors", "--field", "the other field can be decoded"),
    ("eval", "--encoding", "--errors", "each byte can be decoded"),
    ("compare", "--encoding", "--errors", "each byte can be decoded"),
    ("corpora check", "--encoding", "--errors", "each byte can be decoded"),
    ("train", "--encoding", "--errors", "each byte can be decoded"),
    ("bench cells", "--encoding", "--errors", "each byte can be decoded"),
    ("classify", "--encoding", "--errors", "each byte can be decoded"),
    ("sample", "--beam", "--ban", "the best text does not contain it"),
    ("score", "--no-sort", "--chars --suggest", DEFAULT),
    ("score", "--encoding", "--errors", "each byte can be decoded"),
    ("score", "--by", "--end", "the order is the same"),
    ("score of a file", "--by", "--field", "the order is the same"),
    ("rescore of Kaldi", "--sort", "--by", "the order is the same"),
    ("score of a file", "--no-sort", "--chars --suggest", DEFAULT),
    ("score of a file", "--encoding", "--errors", "each byte can be decoded"),
    ("score of a file", "--null", "--top --by --sort --worst", "the file is one text"),
    ("score of a file", "--whole", "--top --by --sort --worst", "the file is one text"),
    ("classify", "--seed", "-m --encoding", "the labels are halved alike"),
]


def is_alike(scenario: str, first: str, second: str) -> bool:
    return any(
        name == scenario and {first, second} <= {option, *others.split()} and option in (first, second)
        for name, option, others, _ in ALIKE
    )


def words_of(option: str, value: str | None) -> list[str]:
    return [option] if value is None else [option, value]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with texts, models and stopped runs."""
    from chargen.cli.main import run

    folder = tmp_path_factory.mktemp("effects")
    numbers = np.random.default_rng(0)
    text = "".join("".join(numbers.choice(list("ab "), 9)) + "e\u0300\r\n" for _ in range(60))
    (folder / "text.txt").write_bytes(text.encode())
    (folder / "prompt.txt").write_text("ba")
    (folder / "prompts.txt").write_text("ba\ne\n")
    (folder / "bad.txt").write_bytes(b'{"text": "ab", "other": "e"}\n{"text": "\xff", "other": "a"}\n')
    (folder / "labels.tsv").write_text("".join(f"{('m', 'm2')[n % 2]}\tè{'ab ba'[n % 5 :]} {n}\n" for n in range(40)))
    numbered = [
        {"text": f"è{n}", "other": f"ü{n}", "label": "m2"[: 1 + n % 2], "kind": "m2"[: 1 + n // 2 % 2]}
        for n in range(40)
    ]
    (folder / "labels.jsonl").write_text("".join(json.dumps(each, ensure_ascii=False) + "\n" for each in numbered))
    (folder / "moses.txt").write_text(
        "0 ||| ab ||| f= 1 ||| -99\n0 ||| ba e ||| f= 2 ||| -9.5\n1 ||| be ||| f= 2 ||| -4\n1 ||| e ||| f= 1 ||| -4.2\n"
    )
    (folder / "references.txt").write_text("ba e\nbe\n")
    (folder / "kaldi.txt").write_text("a-1 ab ab ab\na-2 b\nb-1 be\nb-2 e\n")
    (folder / "kaldi-references.txt").write_text("a ba e\nb be\n")
    (folder / "costs.txt").write_text("a-1 9\na-2 9.5\nb-1 4\nb-2 4.2\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ["--hidden", "8", "--embedding", "8", "--layers", "1", "--batch", "2", "--seq-len", "8"]
        assert run(["train", "text.txt", "--name", "stopped", "--budget", "1h", "--stop-after", "1", *small]) == 130
        names = {"back": "char", "bytes": "byte", "m3": "char", "m2": "char", "m": "char"}
        for seed, (name, tokenizer) in enumerate(names.items(), -1):
            direction = ["--direction", "backward"] if name == "back" else []
            words = ["--name", name, "--tokenizer", tokenizer, "--steps", "1", *small, *direction]
            assert run(["train", "text.txt", *words]) == 0
            path = folder / "checkpoints" / name / "model.safetensors"  # it names its text; other weights tell more
            trained = load_checkpoint(path)
            save_checkpoint(path, replace(trained, weights=random_weights(trained.config, seed=seed % 5, scale=0.6)))
        hours = ["time,a,b,c,place"]
        for n in range(80):
            values = ",".join(f"{value:.3f}" for value in numbers.normal(size=3))
            hours.append(f"2021-01-{1 + n // 24:02}T{n % 24:02}:00,{values},{'xy'[n // 40]}")
        (folder / "hours.csv").write_text("\n".join(hours) + "\n")
        for name, seed in (("f", "0"), ("f2", "1")):
            words = ["--history", "4", "--hidden", "4", "--steps", "5", "--seed", seed, "--name", name]
            assert run(["forecast", "--train", "hours.csv", "--column", "a", *words]) == 0
        words = ["--history", "4", "--hidden", "4", "--steps", "5", "--stop-after", "2", "--name", "stopped-f"]
        assert run(["forecast", "--train", "hours.csv", "--column", "a", *words]) == 130
    series = MuLawTokenizer(Quantizer(4, 8000))
    config = ModelConfig(vocab_size=series.vocab_size, hidden_size=8, embedding_dim=8)
    about = {"data": DataConfig(tokenizer="mulaw:4").to_json()}
    save_checkpoint(
        folder / "checkpoints" / "series" / "model.safetensors",
        Checkpoint(config, series, random_weights(config), about),
    )
    os.utime(folder / "checkpoints" / "series" / "model.safetensors", (0, 0))  # m stays the newest model
    (folder / "series.txt").write_text("0.5\n-1\n", encoding="utf-8")
    likely = load(str(path)).sample(temperature=0, length=40, ban=["\n"])
    records = f'{{"text": "{likely}", "other": "{likely}"}}\n{{"text": "b è", "other": "è"}}\n'
    (folder / "lines.txt").write_text(records, encoding="utf-8")
    (folder / "records.jsonl").write_text(records, encoding="utf-8")
    (folder / "short.txt").write_text(f"{likely} è\n", encoding="utf-8")
    return folder


class RecordedError(Exception):
    """What a command was about to do."""


def record(*arguments: Any) -> None:
    raise RecordedError(*arguments)


@pytest.fixture
def observe(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs a command, and returns its status and everything that it did."""
    from chargen.cli.main import run

    monkeypatch.chdir(folder)
    monkeypatch.setattr(options, "use_threads", lambda number: None)
    monkeypatch.setattr("chargen.api.load", cache(lambda model=None, device="auto", notify=None: load(model, device)))
    monkeypatch.setattr("chargen.cli.commands.play.play_in_terminal", record)
    monkeypatch.setattr("chargen.cli.commands.serve.command.serve_models", record)
    monkeypatch.setattr("chargen.tasks.forecasting.train.train_forecaster", record)
    monkeypatch.setattr("chargen.tasks.classification.encoder.train_encoder", lambda *args: record(*args, "encoder"))
    monkeypatch.setattr(
        "chargen.tasks.classification.generative.train_generative", record
    )  # imports the next one before its change
    monkeypatch.setattr("chargen.tasks.classification.auto.train_both", lambda *args: record(*args, "auto"))
    monkeypatch.setattr("chargen.cli.commands.rm.Removable.remove", lambda run: None)  # the next call needs the run
    monkeypatch.setattr("chargen.export.upload.check_repository", lambda name: None)
    monkeypatch.setattr("chargen.export.upload.push_folder", lambda folder, name: f"https://hub/{name}")
    monkeypatch.setattr("chargen.training.run.train", record)
    monkeypatch.setattr("chargen.tasks.cell_benchmark.benchmark_cells", record)
    monkeypatch.setattr("chargen.cli.commands.probe.gradients._measure", record)
    monkeypatch.setattr("chargen.cli.commands.probe.memory._measure", record)
    (length,) = (param for param in COMMANDS[("sample",)].params if param.name == "length")
    monkeypatch.setattr(length, "default", 100)
    before = set(folder.iterdir())

    def call(words: list[str]) -> tuple[int, Any]:
        results = []
        for seed in range(3 if words[0] == "sample" else 1):  # two texts can be equal by chance
            monkeypatch.setattr("chargen.cli.commands.sample.draw_seed", lambda: seed)  # noqa: B023 - it is called in this round
            results.append(call_once(words))
        return results[0][0], tuple("".join(map(str, parts)) for parts in zip(*results, strict=True))[1:]

    def call_once(words: list[str]) -> tuple[int, str, str, Any, Any]:
        capsys.readouterr()
        if words[0] == "rm":
            shutil.copytree("checkpoints/m2", "checkpoints/removable", dirs_exist_ok=True)
        try:
            status = run(words)
            did: Any = ""
        except RecordedError as recorded:
            status = 0
            did = [describe(each) for each in recorded.args]
        out, err = capsys.readouterr()
        shutil.rmtree("checkpoints/removable", ignore_errors=True)
        new = set(folder.iterdir()) - before
        made = {path.name: path.read_bytes() for each in new for path in [each, *each.rglob("*")] if path.is_file()}
        for path in new:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return status, out, re.sub(r"seed \d+\n", "", err), did, made

    return call


def describe(value: Any) -> Any:
    """Return the content of a plan, without the time at which it was made."""
    if hasattr(value, "content"):
        return value.name, value.arguments, value.sha256
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: describe(getattr(value, field.name)) for field in fields(value) if field.name != "started"}
    return repr(value) if not callable(value) else ""


def problems(scenario: str, observe: Callable[..., Any]) -> Iterator[str]:
    """Yield what is wrong with the options of a scenario, alone and in pairs."""
    examples, unseen = EXAMPLES[scenario], UNSEEN[scenario]
    seen: dict[tuple[str, ...], Any] = {}

    def result(*words: str) -> Any:
        if words not in seen:
            seen[words] = observe([*SCENARIOS[scenario], *words])
        return seen[words]

    for option, value in examples.items():
        more = WITH.get((scenario, option), [])
        alone = result(*more, *words_of(option, value))
        if alone[0] == 0 and alone == result(*more) and option not in unseen:
            yield f"{option} has no effect alone"
    for first, second in combinations(examples, 2):
        more = needed(scenario, first, second)
        if first in more or second in more:
            continue
        words = [words_of(option, examples[option]) for option in (first, second)]
        status, did = both = result(*more, *words[0], *words[1])
        if status in (1, 2):  # 3 is that of --fail-above, and no error
            named = [option for option in (first, second, *more) if names_option(did[1], scenario, option)]
            alone = [result(*WITH.get((scenario, o), []), *words_of(o, examples[o]))[0] for o in named if o in examples]
            if not (any(alone) or len(named) > 1):
                yield f"{first} {second} {' '.join(more)}: {did[1].splitlines()[-1:]}"
            continue
        for option, other in ((first, words[1]), (second, words[0])):
            is_listed = option in unseen or is_alike(scenario, first, second)
            if both == result(*more, *other) and not is_listed and "has no effect" not in did[1]:
                yield f"{option} has no effect beside {' '.join(other)} {' '.join(more)}"


def needed(scenario: str, first: str, second: str) -> list[str]:
    """Return the words that two options need to have an effect."""
    words = WITH.get((scenario, first), [])
    more = WITH.get((scenario, second), [])
    return words if words == more else words + more


def names_option(error: str, scenario: str, option: str) -> bool:
    path = tuple(SCENARIOS[scenario][:2])
    command = COMMANDS.get(path) or COMMANDS[path[:1]]
    spelled = (
        name for p in command.params if option in (*p.opts, *p.secondary_opts) for name in (*p.opts, *p.secondary_opts)
    )
    return any(re.search(rf"{name}(?![\w-])", error) for name in spelled)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_option_has_an_effect_beside_every_other_or_is_refused_by_name(
    scenario: str, observe: Callable[..., Any]
) -> None:
    found = list(problems(scenario, observe))
    assert not found, "\n".join(found)


def test_every_option_of_every_command_is_tried() -> None:
    """A new option needs a line in EXAMPLES, and a new command a scenario."""
    tried: dict[tuple[str, ...], set[str]] = {}
    for scenario, words in SCENARIOS.items():
        path = tuple(words[:2]) if tuple(words[:2]) in COMMANDS else (words[0],)
        tried.setdefault(path, set()).update([*EXAMPLES[scenario], *words])
    for path, command in COMMANDS.items():
        for param in command.params:
            if isinstance(param, click.Option) and not (param.hidden and not param.expose_value):
                names = {*param.opts, *param.secondary_opts}
                assert names & {*tried[path], "--checkpoints"}, f"add {param.opts[0]} to EXAMPLES of {path}"

"""Record the behaviour of the program in a JSON file, so that two versions of the code can be compared.

    python -m benchmarks.safety_net record OUT.json [--keep FOLDER]     run every case; keep the files in FOLDER
    python -m benchmarks.safety_net reopen FOLDER OUT.json              use a copy of the files that were kept
    python -m benchmarks.safety_net compare BEFORE.json AFTER.json [--renamed OLD=NEW]...

`compare` prints the rows that differ and exits with status 1 if there are any. Record both files on one machine with
the same packages. A row contains an exit status and stdout; long JSON is stored as one sha256 for each key, so that
keys can still be renamed. To check files of an older version, reopen one folder with both versions.

Not covered: --device cuda and mps (they need such a device); --raw on a terminal, and play except its exit status (they
need a terminal); --help (its wording will change); random seeds; python-docs, python-source and shakespeare (they
depend on the Python version or the network). With --budget and --more the number of steps depends on the time: only the
keys of the JSON are stored. --save-every has no effect on stdout.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import re
import shlex
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

NUM_THREADS = 1  # two threads wait for each other if other processes use a core: 20 s for a run of 0.5 s
MAX_FULL_CHARS, MAX_SHOWN = 3000, 6  # longer values are stored as hashes; number of differences printed per row
MODEL, STATE, CACHE = "checkpoints/{}/model.safetensors", "checkpoints/{}/training_state.safetensors", "corpora/.cache"
# Keys and text that are not recorded: times, speeds, paths, dates, and the size of model files (it contains times).
DROPPED_KEYS = {"elapsed_s", "chars_per_s", "model_path", "path", "folder", "classifier", "created", "size_bytes"}
MASKED_TEXT = r"after \d+:\d\d|[\d,]+ chars/s|(?<!\S)\S*checkpoints/\S+|size bytes +[\d,]+ *"
SMALL = "--steps 60 --seed 7 --hidden 32 --batch 16 --seq-len 16"
ALIASES = {
    "BASE": "mgru-char-0", "SMALL": SMALL, "PLAIN": f"text.txt {SMALL} --members 1 --ngrams 0 --weight-dropout 0",
    "OTHER": f"{SMALL} --members 1 --ngrams 0 --weight-dropout 0", "FEW": "--file few.txt", "TWO": "--file two.txt",
    "MOSES": "--file moses.txt", "KALDI": "--file kaldi.txt", "COSTS": "--costs costs.txt", "CHECK": "corpora check",
}  # fmt: skip


def cases(table: str) -> list[str]:
    """Return the command lines of a table. Bars separate them; aliases are replaced."""
    lines = re.split(r"\s+\|\s+", table.strip())
    return [re.sub(rf"\b({chr(124).join(ALIASES)})\b", lambda match: ALIASES[match[0]], line) for line in lines]


GRID = [
    f"{cell}-{kind[:4].strip(':3')}-{dropout}: PLAIN --cell {cell} --tokenizer {kind} --dropout {dropout} | "
    for cell in ("rnn", "lstm", "gru", "mgru")
    for kind in ("char", "byte", "sp:330")
    for dropout in ("0", "0.2")
]
RUNS_TABLE = """layers: PLAIN --layers 2 --dropout 0.3 | jsonl: records.jsonl OTHER --text-field body --documents file |
    members: text.txt SMALL --members 3 | init-error: odd.txt --steps 20 --seed 7 --init-from BASE --new-chars error |
    members-gru: text.txt SMALL --members 2 --layers 2 --cell gru --tokenizer byte | two-files: text.txt val.txt OTHER |
    members-sp: text.txt SMALL --members 2 --cell lstm --tokenizer sp:330 --weight-dropout 0.2 | rate: PLAIN --lr 0.02 |
    ngrams: text.txt SMALL --members 1 --ngrams 4 --ngram-dropout 0.3 | latin1: latin1.txt OTHER --encoding latin-1 |
    ngrams-byte: text.txt SMALL --members 1 --ngrams 6 --ngram-dropout 0 --cell rnn --tokenizer byte | stdin: - OTHER |
    weight-dropout: PLAIN --weight-dropout 0.3 --cell gru | separator: separator.txt OTHER --documents '%%' |
    embedding: PLAIN --embedding 24 | init-unknown: odd.txt --steps 20 --seed 7 --init-from BASE --new-chars unknown |
    tied: PLAIN --tie-weights --cell lstm | init-grow: large.txt --steps 10 --seed 7 --init-from layers --lr 0.001 |
    recipe: text.txt --steps 60 --seed 7 | blank: blank.txt OTHER --documents blank --cell rnn --tokenizer byte |
    defaults: text.txt --steps 20 --hidden 32 | val-fraction: PLAIN --val-fraction 0.3 --device cpu --save-every 1s |
    epochs: text.txt --epochs 0.7 --hidden 32 | lines-sp: PLAIN --documents line --cell lstm --tokenizer sp:330 |
    clip: PLAIN --clip 0.1 | large-members: large.txt --steps 30 --seed 7 --hidden 48 --members 2 --documents line |
    decay: PLAIN --weight-decay 0.5 | lines-plain: PLAIN --documents line --cell gru --dropout 0.2 |
    seed: PLAIN --seed 8 | init-documents: val.txt --steps 20 --seed 7 --init-from lines-plain --documents line |
    lanes: PLAIN --batch 8 | large: large.txt --steps 60 --seed 7 --hidden 64 --cell gru | windows: PLAIN --seq-len 24 |
    val: PLAIN --val val.txt | sp-file: PLAIN --tokenizer sp:pieces.model | lines: text.txt SMALL --documents line |
    crlf: crlf.txt OTHER --newline keep | files: folder OTHER --documents file | init: val.txt SMALL --init-from BASE |
    crlf-lf: crlf.txt OTHER | nfd: nfd.txt OTHER --normalize none | reber: reber OTHER --documents line |
    gzip: text.txt.gz OTHER"""
RUNS = dict(run.split(": ", 1) for run in cases("".join(GRID) + RUNS_TABLE.strip()))
RESUMED = cases("mgru-char-0.2 | lstm-byte-0 | gru-sp-0.2 | members | ngrams | lines | large | val")
SAMPLED = cases("""BASE | lstm-char-0.2 | mgru-sp-0.2 | members-gru | ngrams-byte | gru-byte-0 | members-sp | rnn-sp-0 |
    layers | separator | lines-sp | members | ngrams | lines | blank | large | tied | crlf""")
SAMPLE_BASIC = cases(r"""--beam 3 | --dry 3 --dry-base 1.5 --dry-allowed 2 | --regex '[A-Z][a-z]+( [a-z]+)*\.' -n 3 |
    -n 3 | -n 6 | --temp 0 | --prompt The --suffix n. --particles 8 | --particles 6 --regex '[a-z ]+' | --typical .8 |
    --temperature .5 -n 2 | --allow-invalid-utf8 -n 4 | --stop e --stop 水 -n 4 | --until boundary -n 5 | --max-copy 2 |
    --top-k 5 | --top-p 0.7 | --until newline -n 5 | --prompt 'Nhà ' | --ban e --ban 山 | --min-p .1 | --best-of 4""")
SAMPLE_MORE = cases(r"""--length 0 | --top-k 8 --top-p 0.9 --typical 0.95 --min-p 0.01 | --max-copy 3 --particles 4 |
    --temp 3 | --temp 0 -n 2 | --dry 2 --dry-base 1.5 --dry-allowed 2 --temp 0 | --beam 3 --regex '[a-z]{5,9}' --ban e |
    --top-k 1 | --regex '(The|Nhà) .{3,12}' --particles 8 -n 2 | --prompt A --suffix z --particles 9 --temp .7 |
    --prompt - | --prompt-file prompt.txt -n 5 --until newline | --best-of 3 -n 3 --prompt A --until newline | --raw |
    --prompt-file prompt.txt | --max-copy 3 --corpus text.txt -n 5 | --ban the --ban my --particles 4 | --prompt Zß漢 |
    --beam 4 --prompt The | --max-copy 3 --report --prompt The | --regex '\d{2} [a-z]+' --temp 0 | --suffix 水 -n 2 |
    --device cpu | --report --corpus text.txt -n 2 | --stop 人 --dry 1 | --report""")
SCORE_BASIC = cases("""FEW --end | --context 'The sea ' 'and the wind' 'wind and' '' | FEW --no-end --words |
    FEW --chars | TWO --suggest""")
SCORE_MORE = cases("""--file lines.txt --by total | --file records.jsonl --json-lines --field body --top 4 | The 水 |
    --file lines.txt --by per-byte --sort | TWO --html page.html --suggest --context 'Nhà ' | --file bad.txt --no-sort |
    FEW --chars --sort --words | TWO --suggest --chars --context 'The ' --top 1 | FEW --html page.html --chars --raw |
    --file lines.txt --by per-byte --top 3 | --file latin1.txt --encoding latin-1 --top 4 | FEW --tsv --chars --end |
    --file - | --words --by per-byte 'The sea' 'a  b' | --file bad.txt --errors replace | --file bad.txt --errors skip |
    --top 5 | 'The sea' 'sea The' 'Ж' 'Nhà' | FEW --tsv --words --no-sort | --file null.bin --null | FEW --whole |
    FEW --tsv | FEW TWO --device cpu | FEW --html page.html""")
EVAL = cases("""val.txt | text.txt val.txt --device cpu | val.txt --adapt --adapt-decay 0.1 | val.txt --adapt | folder |
    latin1.txt --encoding latin-1 | crlf.txt | - | text.txt.gz --max-corpus-size 1MB | text.txt --max-corpus-size 9kB |
    val.txt --adapt --adapt-rule sgd --adapt-rate 0.02 --adapt-segment 40""")
RESCORE = cases("""MOSES | MOSES --sort --weight 0.5 | MOSES --feature net --format moses --end | MOSES --as-costs |
    MOSES --best --by per-char | MOSES --tune refs.txt --error cer --best | MOSES --context The --no-end --no-sort |
    KALDI COSTS --as-costs | KALDI COSTS COSTS --sort --device cpu | KALDI COSTS --tune kaldi-refs.txt --best | --best |
    MOSES --tune refs.txt | KALDI | KALDI --best --format kaldi --raw""")
OTHERS = cases("""info | compare rnn-sp-0 gru-byte-0 lines val.txt --resamples 500 --seed 3 --device cpu | info BASE |
    info members | info checkpoints/lines/model.safetensors | compare BASE layers val.txt --learn large.txt | corpora |
    sample --seed 1 | compare BASE crlf latin1.txt --encoding latin-1 --max-corpus-size 1MB | eval -m large large.txt |
    score 'The sea' | sample -m ngrams --seed 5 -n 900 --length 90 | corpora get alphabet --output - |
    corpora list | corpora get markov | score -m members --file text.txt --top 20 | CHECK blank.txt --documents blank |
    corpora get markov:2 --output made.txt | sample -m BASE --seed 5 --length 31000 | CHECK text.txt val.txt text.txt |
    CHECK text.txt | CHECK records.jsonl --text-field body | classify -m BASE -m members 'The sea' | CHECK latin1.txt |
    CHECK crlf.txt --newline keep | CHECK text.txt --max-corpus-size 1kB | compare BASE members val.txt --top 2 | play |
    CHECK crlf.txt | CHECK latin1.txt --encoding latin-1 | CHECK nfd.txt --normalize none | eval -m lines text.txt |
    classify --train labels.tsv --steps 25 --hidden 32 --seed 3 | classify -m labels 'The sea' 'Nhà của tôi' '山水' |
    classify --train labels --name three --steps 20 --hidden 32 --device cpu | classify -m three 'The sea' 'Nhà' |
    classify --train labels.tsv --name labelled --steps 20 --hidden 32 | classify -m labelled FEW |
    classify -m labels --labelled labels.tsv --seed 5 | classify -m labels | CHECK odd.txt | CHECK folder | --version |
    classify --train labels --budget 2s --name quick | train text.txt SMALL --name members --force --members 1 |
    train text.txt SMALL --name tied | train --resume BASE --steps 80 | train --resume epochs --epochs 1 | info three |
    train text.txt --budget 5s --hidden 32 --name budget | train --resume budget --more 5s""")
ERRORS = cases("""smaple | train missing.txt --steps 1 | train text.txt --init-from BASE --tokenizer byte |
    train text.txt --steps 1 --epochs 1 | train records.jsonl --text-field none --steps 1 | train text.txt --cell gruu |
    train --resume nothing | eval -m BASE val.txt --adapt-rate 0.1 | train text.txt --val val.txt --val-fraction 0.2 |
    train text.txt --steps 1 --hidden 0 | train text.txt --tokenizer sp:x --steps 1 | score -m BASE --null --whole FEW |
    train text.txt --name a/b --steps 1 | train text.txt --new-chars grow --steps 1 | train --resume BASE --hidden 48 |
    sample -m nothing | train text.txt --max-corpus-size 1kB | sample -m BASE --beam 2 --best-of 2 | CHECK none.txt |
    sample -m BASE --regex '(' | rescore --tune refs.txt --weight 1 | classify --train text.txt | compare BASE val.txt |
    sample -m BASE --temp -1 | sample -m BASE --top-p 0 | corpora get markov:9""")
WORDS = {
    "en": cases("the | sea | and | wind | green | house | of | my | river | over | stone | bright | 42 | quickly"),
    "vi": cases("nhà | của | tôi | biển | xanh | gió | thổi | qua | đồng | lúa | mùa | thu | trăm | năm | người"),
    "zh": list("山水風雨花鳥天地人心日月春秋長江大河"),
}


def sentences(seed: int, count: int, languages: tuple[str, ...] = tuple(WORDS)) -> list[str]:
    """Return random sentences in the given languages."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        language = rng.choice(languages)
        words = [rng.choice(WORDS[language]) for _ in range(rng.randint(3, 9))]
        made.append("".join(words) + "。" if language == "zh" else " ".join(words).capitalize() + rng.choice(".!?"))
    return made


def write_inputs() -> None:
    """Write every input file into the working directory."""
    import sentencepiece

    lines, few, rng = sentences(1, 900), sentences(4, 6), random.Random(2)
    text, nbest = "\n".join(lines) + "\n", [(i, n, line) for i in range(12) for n, line in enumerate(sentences(i, 4))]
    labels = {language: [f"{line}\n" for line in sentences(5, 60, (language,))] for language in WORDS}
    files: dict[str, str | bytes] = {
        "text.txt": text, "val.txt": "\n".join(sentences(3, 200)) + "\n", "null.bin": "\0".join(few),
        "crlf.txt": text[:9000].replace("\n", "\r\n"), "nfd.txt": unicodedata.normalize("NFD", text[:9000]),
        "two.txt": f"{few[0][:12]}\nthe saa 水x\n", "few.txt": "\n".join([*few, "", "Ж🙂"]) + "\n",
        "prompt.txt": "The sea\nNhà của ", "bad.txt": b"The sea\n\xff\xfe wind\nof my river",
        "separator.txt": "%%".join(lines[:300]), "text.txt.gz": gzip.compress(text.encode(), mtime=0),
        "large.txt": "".join(chr(0x4E00 + rng.randrange(3000)) if i % 20 else "\n" for i in range(24_000)),
        "odd.txt": text[:6000] + "Ж漢ß\u200b\x07 \ufeff e\u0301 Ā\n\n\n" * 20,
        "latin1.txt": "".join(f"{line} café\n" for line in sentences(6, 300, ("en",))).encode("latin-1"),
        "blank.txt": "\n\n".join("\n".join(lines[i : i + 3]) for i in range(0, 600, 3)),
        "records.jsonl": "".join(json.dumps({"id": i, "body": line}) + "\n" for i, line in enumerate(lines[:300])),
        "lines.txt": "\n".join([*sentences(8, 497), "", "Ж🙂 unknown", "a\tb  c\u200b"]) + "\n",
        "moses.txt": "".join(f"{i} ||| {line} ||| lm= {-n} ||| {-3.5 * n}\n" for i, n, line in nbest),
        "kaldi.txt": "".join(f"utt{i}-{n + 1} {line}\n" for i, n, line in nbest),
        "costs.txt": "".join(f"utt{i}-{n + 1} {2.5 * n}\n" for i, n, line in nbest),
        "refs.txt": "".join(f"{line}\n" for _, n, line in nbest if n == 2),
        "kaldi-refs.txt": "".join(f"utt{i} {line}\n" for i, n, line in nbest if n == 1),
        "labels.tsv": "".join(f"{label}\t{line}" for label, some in labels.items() for line in some),
        **{f"labels/{label}.txt": "".join(some) for label, some in labels.items()},
        **{f"folder/{i:02}.txt": "\n".join(lines[20 * i : 20 * i + 20]) for i in range(15)},
    }  # fmt: skip
    for name, content in files.items():
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    sentencepiece.SentencePieceTrainer.train(
        input="text.txt", model_prefix="pieces", vocab_size=340, byte_fallback=True, minloglevel=2, num_threads=1,
        normalization_rule_name="identity", add_dummy_prefix=False, remove_extra_whitespaces=False,
        allow_whitespace_only_pieces=True, character_coverage=1.0, user_defined_symbols=["\n", "\t"],
    )  # fmt: skip


def run_cli(arguments: list[str], stdin: bytes) -> tuple[Any, bytes]:
    """Run the command line in this process; return (exit status or name of an exception, stdout)."""
    from chargen.cli.main import main as run_main

    before, out, status = sys.stdin, io.BytesIO(), None
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with redirect_stdout(io.TextIOWrapper(out, "utf-8")) as written, redirect_stderr(io.TextIOWrapper(io.BytesIO())):
        try:
            run_main(arguments)
        except SystemExit as error:
            status = error.code
        except Exception as error:  # the user would see a traceback
            status = type(error).__name__
        written.flush()
    sys.stdin = before
    return status, out.getvalue()


def sha256(value: Any) -> str:
    """Return the hash of bytes or of a JSON value."""
    return hashlib.sha256(value if isinstance(value, bytes) else json.dumps(value).encode()).hexdigest()


def tensors_sha256(path: str) -> str | None:
    """Return a hash of the names, types, shapes and bytes of a file's tensors; None if there is no file."""
    from safetensors.numpy import load_file

    tensors = sorted(load_file(path).items()) if Path(path).is_file() else []
    return sha256(b"".join(f"{n} {t.dtype} {t.shape}".encode() + t.tobytes() for n, t in tensors)) if tensors else None


def leaves(value: Any, path: str = "", numbered: bool = False) -> Iterator[tuple[str, Any]]:
    """Yield (path of keys, value) of everything in a JSON value that is neither a list nor an object."""
    if isinstance(value, (dict, list)):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}.{key if numbered or isinstance(key, str) else '[]'}", numbered)
    else:
        yield path, value


def to_row_value(text: str, keys_only: bool = False) -> Any:
    """Return the recorded form of stdout: of JSON documents, one per line, or of other text."""
    try:
        documents = [
            json.loads(line, object_hook=lambda pairs: {k: v for k, v in pairs.items() if k not in DROPPED_KEYS})
            for line in text.splitlines()
        ]
    except ValueError:
        text = re.sub(MASKED_TEXT, "…", text)
        return text if len(text) <= MAX_FULL_CHARS else {"sha256": sha256(text), "begin": text[:200]}
    by_key: dict[str, list[Any]] = {}
    for path, leaf in leaves(documents):
        by_key.setdefault(path, []).append(leaf)
    if keys_only or sum(len(str(leaf)) for _, leaf in leaves(documents)) > MAX_FULL_CHARS:
        return {"by_key": {path: "" if keys_only else f"{len(some)}: {sha256(some)}" for path, some in by_key.items()}}
    return documents


class Recorder(dict[str, Any]):
    """A dict of rows by name, with methods that run cases and record them."""

    def cli(self, *lines: str) -> None:
        """Run command lines; record the exit status, stdout and the HTML page, if one is written."""
        stdin, page = Path("val.txt").read_bytes() if Path("val.txt").exists() else b"", Path("page.html")
        for line in lines:
            page.unlink(missing_ok=True)
            status, out = run_cli(shlex.split(line), stdin)
            by_time = "--budget" in line or "--more" in line
            text = "" if by_time and "--json" not in line else out.decode("utf-8", "backslashreplace")
            self[line] = {"exit": status, "stdout": to_row_value(text, by_time)}
            if page.exists():
                self[line]["page"] = sha256(page.read_bytes())

    def train(self, line: str, name: str) -> None:
        """Run `chargen train`; record also hashes of the tensors of the model and of the training state."""
        self.cli(f"train {line} --json")
        hashes = {"weights": tensors_sha256(MODEL.format(name)), "state": tensors_sha256(STATE.format(name))}
        self[f"train {line} --json"].update(hashes)


def library_rows(rec: Recorder) -> None:
    """Record the return values of the public methods of the library."""
    import chargen

    lm, lines, args = chargen.load(ALIASES["BASE"]), sentences(3, 200), {"seed": 3, "length": 50, "temperature": 0.8}
    plan: dict[str, Any] = {"length": {"steps": 20}, "model": {"hidden_size": 32}, "train": {"seed": 7}}
    results = {
        "score": lm.score(lines[:10], context="The ", end=True, pieces=True),
        "surprisal": lm.surprisal("The sea 水Ж"),
        "places": list(lm.char_surprisals("The sea 水Ж", num_guesses=3, end=True)),
        "suggest": lm.suggest("The sae", context="\n", num_suggestions=3),
        "samples": [lm.sample("The", **args), lm.samples(5, "The", **args), list(lm.stream("The", number=2, **args))],
        "joins": lm.infill(2, "The", "wind.", particles=8, **args),
        "read": list(lm.stream(prefix_cache=list(lm.read_prefix("The sea and "))[-1], **args)),
        "evaluate": [lm.evaluate("\n".join(lines)), lm.evaluate_lines([f"{line}\n" for line in lines])],
        "characters": [lm.unknown_characters("The Ж漢"), lm.copy_report("The sea and the wind")],
        "save": [lm.save("saved.safetensors"), tensors_sha256("saved.safetensors")],
        "train": list(chargen.train(chargen.Plan(chargen.read_corpus(["folder"]), "library", **plan)))[-1],
    }
    for name, value in results.items():
        text = json.dumps(value, default=lambda one: one.tolist() if hasattr(one, "tolist") else asdict(one))
        rec[f"library {name}"] = to_row_value(text)
    rec["library train, weights"] = tensors_sha256(MODEL.format("library"))


def record_all(rec: Recorder) -> None:
    """Run every case in the working directory."""
    write_inputs()
    for name, arguments in RUNS.items():
        rec.train(f"{arguments} --name {name}", name)
    for name in RESUMED:
        rec.train(f"{RUNS[name]} --name half-{name} --stop-after 30", f"half-{name}")
        shutil.copytree(f"checkpoints/half-{name}", f"checkpoints/stopped-{name}")
        rec.train(f"--resume half-{name}", f"half-{name}")
        whole, parts = (tensors_sha256(MODEL.format(run)) for run in (name, f"half-{name}"))
        rec[f"30 + 30 steps equal 60: {name}"] = whole == parts
    for name in RUNS:
        file = "lines.txt" if f"{name}: " in "".join(GRID) else "few.txt"
        rec.cli(f"score -m {name} --file {file} --no-sort --json", f"eval -m {name} val.txt --json")
    for name in SAMPLED:
        rec.cli(*(f"sample -m {name} --seed 5 --length 60 {case} --json" for case in SAMPLE_BASIC))
        rec.cli(*(f"score -m {name} {case} --json" for case in SCORE_BASIC))
    base = [f"sample -m mgru-char-0 --seed 5 --length 60 {case}" for case in SAMPLE_BASIC + SAMPLE_MORE]
    for name in ("mgru-char-0", "lines"):
        for command, table in {"score": SCORE_BASIC + SCORE_MORE, "eval": EVAL, "rescore": RESCORE}.items():
            base += [f"{command} -m {name} {case}" for case in table]
    rec.cli(*(f"{line}{end}" for line in base for end in ("", " --json")))
    library_rows(rec)
    rec.cli(*(f"{line}{end}" for line in OTHERS for end in ("", " --json")), *ERRORS)


def reopen_all(rec: Recorder) -> None:
    """Open the runs and the cache in the working directory; another version of the code may have written them."""
    runs = sorted(path.parent.name for path in Path().glob(MODEL.format("[!.]*")))
    times = {path.name: path.stat().st_mtime_ns for path in Path(CACHE).iterdir()}
    for name in runs:
        rec.cli(f"info {name} --json", f"score -m {name} --file few.txt --no-sort --json")
        rec.cli(f"sample -m {name} --seed 3 -n 2 --length 60 --json")
    rec.cli("info --json", "classify -m labels 'The sea' 'Nhà' --json", "classify -m three 'The sea' 'Nhà' --json")
    for name in runs:
        rec.train(f"--resume {name} --steps 70", name)
    changed = [path.name for path in Path(CACHE).iterdir() if times.get(path.name) != path.stat().st_mtime_ns]
    rec["files that were written into the cache again"] = sorted(changed)
    for path in [*Path().glob("*.*"), *Path("folder").iterdir()]:
        path.unlink()  # from here on, only the cache has the training texts
    rec.cli(*(f"sample -m {name} --seed 3 --length 40 --report --json" for name in runs), "corpora clean --json")


def rename_keys(value: Any, names: dict[str, str]) -> Any:
    """Rename words in the keys of a JSON value: keys, and options and commands in the names of rows."""
    if isinstance(value, dict):
        words = {key: re.split(r"([ .]+)", key) for key in value}
        return {"".join(names.get(w, w) for w in words[key]): rename_keys(part, names) for key, part in value.items()}
    return [rename_keys(part, names) for part in value] if isinstance(value, list) else value


def compare(before: str, after: str, names: dict[str, str]) -> int:
    """Print the rows that differ; return their number."""
    (old, new), count = (json.loads(Path(path).read_text("utf-8")) for path in (before, after)), 0
    old = rename_keys(old, names)
    for name in old | new:
        a, b = (dict(leaves(rows.get(name, "(no row)"), numbered=True)) for rows in (old, new))
        paths = [path for path in a | b if a.get(path, "(missing)") != b.get(path, "(missing)")]
        count += bool(paths)
        for line in [name] * bool(paths) + [f"  {p}: {a.get(p)!r:.150} → {b.get(p)!r:.150}" for p in paths[:MAX_SHOWN]]:
            print(line)
    print(f"{count:,} rows differ" if count else f"identical: {len(new):,} rows")
    return count


def run(out: str, work: Callable[[Recorder], None], source: str | None = None, keep: str | None = None) -> None:
    """Call `work` in a temporary folder (empty, or a copy of `source`), and write the rows to the file `out`."""
    import torch

    torch.set_num_threads(NUM_THREADS)
    home, begin, rec = Path.cwd(), time.perf_counter(), Recorder()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "work")
        shutil.copytree(source, folder) if source else folder.mkdir()
        os.chdir(folder)
        try:
            work(rec)
        finally:
            os.chdir(home)
        if keep:
            shutil.copytree(folder, keep)
    Path(out).parent.mkdir(parents=True, exist_ok=True)
    Path(out).write_text(json.dumps(rec, ensure_ascii=False, indent=1), "utf-8")
    print(f"{len(rec):,} rows in {time.perf_counter() - begin:.0f} s: {out}")


@click.command()
@click.argument("action", type=click.Choice(["record", "reopen", "compare"]))
@click.argument("paths", nargs=-1)
@click.option("--keep", metavar="FOLDER", help="Folder where `record` keeps its files for `reopen`.")
@click.option("--renamed", "names", multiple=True, metavar="OLD=NEW", help="New name of a key, option or command.")
def main(action: str, paths: tuple[str, ...], keep: str | None, names: tuple[str, ...]) -> None:
    """Record, reopen or compare; see the docstring of this file."""
    if action == "compare":
        sys.exit(compare(*paths, names=dict(name.split("=", 1) for name in names)) > 0)
    run(paths[-1], record_all if action == "record" else reopen_all, paths[0] if action == "reopen" else None, keep)


if __name__ == "__main__":
    main()

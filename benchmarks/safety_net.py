"""Record the behaviour of the program in a JSON file, so that two versions of the code can be compared.

    python -m benchmarks.safety_net record OUT.json [--keep FOLDER]     run every case; keep the files in FOLDER
    python -m benchmarks.safety_net reopen FOLDER OUT.json              use a copy of the files that were kept
    python -m benchmarks.safety_net compare BEFORE.json AFTER.json [--renamed OLD=NEW]...

The cases are in `safety_net_cases.py`, and their input files in `safety_net_inputs.py`. `compare` prints the rows that
differ and exits with status 1 if there are any. Record both files on one machine with the same packages. A row contains
an exit status and stdout; long JSON is stored as one sha256 for each key, so that keys can still be renamed. To check
files of an older version, reopen one folder with both versions.

Not covered: --device cuda and mps (they need such a device); --raw on a terminal, and play except its exit status (they
need a terminal); --help (its wording will change); random seeds; python-docs, python-source and shakespeare (they
depend on the Python version or the network). With --budget and --more the number of steps depends on the time: only the
keys of the JSON are stored. --save-every has no effect on stdout.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from benchmarks.safety_net_cases import (
    BASE,
    ERRORS,
    EVAL,
    GRID,
    OTHERS,
    RESCORE,
    RESUMED,
    RUNS,
    SAMPLE_BASIC,
    SAMPLE_MORE,
    SAMPLED,
    SCORE_BASIC,
    SCORE_MORE,
)
from benchmarks.safety_net_inputs import sentences, write_inputs

NUM_THREADS = 1  # two threads wait for each other if other processes use a core: 20 s for a run of 0.5 s
MAX_FULL_CHARS, MAX_SHOWN = 3000, 6  # longer values are stored as hashes; number of differences printed per row
MODEL, STATE, CACHE = "checkpoints/{}/model.safetensors", "checkpoints/{}/training_state.safetensors", "cache/corpora"
# Keys and text that are not recorded: times, speeds, paths, dates, and the size of model files (it contains times).
DROPPED_KEYS = {"elapsed_s", "chars_per_s", "model_path", "path", "folder", "classifier", "created", "size_bytes"}
MASKED_TEXT = r"after \d+:\d\d|[\d,]+ chars/s|(?<!\S)\S*checkpoints/\S+|size bytes +[\d,]+ *"


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
            json.loads(line, object_hook=lambda found: {k: v for k, v in found.items() if k not in DROPPED_KEYS})
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


def keep_last(arguments: list[str]) -> list[str]:
    """Remove an option and its value where the same option follows: `train` refuses an option that is given twice."""
    positions = {word: number for number, word in enumerate(arguments) if word.startswith("--")}
    repeated = [n for n, word in enumerate(arguments) if n < positions.get(word, n)]
    return [word for n, word in enumerate(arguments) if n not in repeated and n - 1 not in repeated]


class Recorder(dict[str, Any]):
    """A dict of rows by name, with methods that run cases and record them."""

    def cli(self, *lines: str) -> None:
        """Run command lines; record the exit status, stdout and the HTML page, if one is written."""
        stdin, page = Path("val.txt").read_bytes() if Path("val.txt").exists() else b"", Path("page.html")
        for line in lines:
            page.unlink(missing_ok=True)
            arguments = shlex.split(line)
            status, out = run_cli(keep_last(arguments) if arguments[0] == "train" else arguments, stdin)
            by_time = "--budget" in line or "--more" in line
            text = "" if by_time and "--json" not in line else out.decode("utf-8", "backslashreplace")
            self[line] = {"exit": status, "stdout": to_row_value(text, by_time)}
            if page.exists():
                self[line]["page"] = sha256(page.read_bytes())

    def train(self, line: str, name: str) -> None:
        """Run `chargen train`; record also hashes of the tensors of the model and of the training state."""
        self.cli(f"train {line} --json")
        found = {"weights": tensors_sha256(MODEL.format(name)), "state": tensors_sha256(STATE.format(name))}
        self[f"train {line} --json"].update(found)


def library_rows(rec: Recorder) -> None:
    """Record the return values of the public methods of the library."""
    import chargen

    lm, lines, args = chargen.load(BASE), sentences(3, 200), {"seed": 3, "length": 50, "temperature": 0.8}
    reports = chargen.train_events(
        "folder", steps=20, name="library",
        model=chargen.ModelChoices(hidden_size=32), training=chargen.TrainChoices(seed=7),
    )  # fmt: skip
    found = {
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
        "train": list(reports)[-1],
    }
    for name, value in found.items():
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
        file = "lines.txt" if name in GRID else "few.txt"
        rec.cli(f"score -m {name} --file {file} --no-sort --json", f"eval -m {name} val.txt --json")
    for name in SAMPLED:
        rec.cli(*(f"sample -m {name} --seed 5 --length 60 {case} --json" for case in SAMPLE_BASIC))
        rec.cli(*(f"score -m {name} {case} --json" for case in SCORE_BASIC))
    base = [f"sample -m {BASE} --seed 5 --length 60 {case}" for case in SAMPLE_BASIC + SAMPLE_MORE]
    for name in (BASE, "lines"):
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

    from chargen.folders import cache_folder

    torch.set_num_threads(NUM_THREADS)
    home, begin, rec = Path.cwd(), time.perf_counter(), Recorder()
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent, "work")
        shutil.copytree(source, folder) if source else folder.mkdir()
        os.chdir(folder)
        os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))  # compiled code is kept between runs
        os.environ["CHARGEN_CACHE"] = "cache"
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

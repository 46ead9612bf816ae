"""The types of the sampling settings: type checkers know every name, and they are those of `SampleConfig`."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import chargen
from chargen.sampling.settings import GeneratorSettings, SampleConfig, SampleSettings

ROOT = Path(chargen.__file__).parent.parent
METHODS = ("sample('a'", "stream('a'", "samples(3, 'a'", "infill(3, 'a', 'b'", "generator('a'")
FAULTS = {"temprature=0.5": "call-arg", "topk=5": "call-arg", "temperature='hot'": "arg-type", "stop=[1]": "list-item"}


def test_type_checkers_see_the_fields_of_the_settings_with_their_types() -> None:
    expected = {entry.name: str(entry.type) for entry in fields(SampleConfig)}
    expected |= {name: "Sequence[str]" for name, kind in expected.items() if kind == "tuple[str, ...]"}
    expected |= {name: f"{expected[name]} | None" for name in ("seed", "until")}
    found = {name: kind.__forward_arg__ for name, kind in SampleSettings.__annotations__.items()}
    assert found == expected
    assert SampleSettings.__required_keys__ == frozenset()
    assert set(GeneratorSettings.__annotations__) - set(found) == {"prefix_cache", "corpus"}


@pytest.mark.slow
def test_mypy_finds_misspelt_settings_and_wrong_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    settings = ", ".join(f"{name}={default!r}" for name, default in SampleConfig().to_json().items())
    lines = [
        "import chargen",
        "model = chargen.load('m')",
        f"settings: chargen.SampleSettings = dict({settings})",
        *(f"model.{method}, seed=None, until=None, corpus=['a.txt'])" for method in METHODS),
        *(f"model.{method}, **settings)" for method in METHODS),
        *(f"model.{method}, {fault})  # {code}" for method in METHODS for fault, code in FAULTS.items()),
    ]
    (tmp_path / "user.py").write_text("\n".join(lines))
    cache = str(ROOT / ".mypy_cache")  # without it, mypy takes half a minute
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", cache, "user.py"]
    environment = {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    errors = re.findall(r"^user\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)
    found = {int(line): code for line, code in errors}
    assert found == {n: line.split("# ")[1] for n, line in enumerate(lines, start=1) if "# " in line}, done.stdout
    assert 'did you mean "temperature"?' in done.stdout

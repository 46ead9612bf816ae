"""The rules of the house, read off the source: floors, sizes, names, no pickle."""

import ast
import re
from pathlib import Path

import pytest

from chargen.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chargen"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the ground up; a file may import from lower floors, and from its own folder. Siblings never import each other.
FLOORS: list[list[str]] = [
    ["errors", "child", "io", "jit", "schema", "registry", "config"],
    ["text"],
    ["tokenizers", "cells"],
    ["data"],
    ["networks"],
    ["graph"],
    ["checkpoint", "runs"],
    ["run_writer"],
    ["engines"],
    ["training", "sampling", "probe"],
    ["scoring"],
    ["lm"],
    ["tasks"],
    ["ui"],
    ["cli"],
]
WITHIN_FLOOR = {
    ("config", "errors"),
    ("config", "registry"),
    ("config", "schema"),
    ("schema", "errors"),
    ("registry", "errors"),
    ("io", "errors"),
}  # the words build on each other
FLOOR = {
    ("config", "errors"),
    ("config", "registry"),
    ("config", "schema"),
    ("schema", "errors"),
    ("memory", "errors"),
    ("registry", "errors"),
    ("files", "errors"),
}  # the words build on each other
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(file: Path) -> list[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
            if node.module == "chargen":
                found += [f"chargen.{alias.name}" for alias in node.names if (PACKAGE / f"{alias.name}.py").exists()]
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_to_lower_floors(file: Path) -> None:
    here = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if here in ("__init__", "__main__"):
        return
    for module in imports(file):
        if not module.startswith("chargen."):
            continue
        there = room_of(module)
        lower = FLOOR[there] < FLOOR[here]
        assert there == here or lower or (here, there) in WITHIN_FLOOR, f"{here} imports {there}"


def test_every_room_has_a_floor() -> None:
    rooms = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES} - {"__init__", "__main__"}
    assert rooms == set(FLOOR)


@pytest.mark.parametrize("floor", [0, 1, 2, 3])
def test_the_lower_floors_do_not_know_torch(floor: int) -> None:
    for room in FLOORS[floor]:
        for file in [PACKAGE / f"{room}.py", *(PACKAGE / room).rglob("*.py")]:
            if file.exists():
                assert not any(name.split(".")[0] == "torch" for name in imports(file)), file


def test_only_the_edges_print() -> None:
    for file in FILES:
        if file.relative_to(PACKAGE).parts[0] in ("ui", "cli", "__main__.py"):
            continue
        source = file.read_text(encoding="utf-8")
        calls = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
        assert not any(c.func.id == "print" for c in calls if isinstance(c.func, ast.Name)), file
        assert "sys.exit" not in source, file


def test_nothing_here_can_unpickle() -> None:
    for file in FILES:
        names = imports(file)
        assert not {"pickle", "shelve", "marshal", "dill", "joblib"} & {n.split(".")[0] for n in names}, file
        assert "torch.load" not in file.read_text(encoding="utf-8"), file


def test_files_hold_one_idea_each() -> None:
    for file in FILES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 400, file


def test_functions_fit_a_screen() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, f"{file}: {node.name}"


def test_the_readme_maps_every_file_and_names_every_command() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"[\w/]+\.py", readme.split("## The files")[1]))
    for file in FILES:
        name = file.relative_to(PACKAGE).as_posix()
        if not name.endswith("__init__.py"):
            assert name in listed, f"{name} is not in README's map"
    for name in listed:
        assert (PACKAGE / name).exists(), f"README's map names {name}, which is not there"
    for command in COMMANDS:
        assert f"chargen {command}" in readme

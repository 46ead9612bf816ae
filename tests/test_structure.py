"""The structure of the package, checked in its source: layers of imports, sizes of files, who prints, no pickle."""

import ast
import re
from pathlib import Path

import pytest

from chargen.cli.group_help import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "chargen"
FILES = sorted(PACKAGE.rglob("*.py"))

# From the base up. A file may import from its own folder and from earlier layers; folders of one layer do not import
# each other.
LAYERS: list[list[str]] = [
    ["errors", "child", "folders", "io", "jit", "schema", "registry", "config"],
    ["text"],
    ["tokenizers", "cells"],
    ["storage"],
    ["data"],
    ["networks"],
    ["graph"],
    ["about", "checkpoint", "runs"],
    ["run_lock"],
    ["run_writer"],
    ["engines"],
    ["training", "sampling"],
    ["probe"],
    ["scoring"],
    ["lm"],
    ["api"],
    ["tasks"],
    ["bulk"],
    ["export"],
    ["server"],
    ["ui"],
    ["cli"],
]
# The base modules that build on each other.
WITHIN_LAYER = {
    ("config", "errors"),
    ("config", "registry"),
    ("config", "schema"),
    ("schema", "errors"),
    ("registry", "errors"),
    ("registry", "schema"),
    ("io", "errors"),
    ("jit", "folders"),
    ("checkpoint", "about"),
    ("runs", "about"),
    ("runs", "checkpoint"),
}
LAYER = {part: number for number, parts in enumerate(LAYERS) for part in parts}
# 135 files after the restructuring of November 2026, and about 80 for cells, probes, directions and charts. A new
# feature may add files; one idea may not be cut into several.
MAX_FILES = 395  # the last ones: the index of n-grams, and compiled passes
MAX_FOLDER_FILES, MAX_FILE_LINES, MAX_FUNCTION_LINES = 16, 400, 60


def part_of(module: str) -> str:
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
def test_imports_point_to_earlier_layers(file: Path) -> None:
    here = file.relative_to(PACKAGE).with_suffix("").parts[0]
    if here in ("__init__", "__main__"):
        return
    for module in imports(file):
        if not module.startswith("chargen."):
            continue
        there = part_of(module)
        is_earlier = LAYER[there] < LAYER[here]
        assert there == here or is_earlier or (here, there) in WITHIN_LAYER, f"{here} imports {there}"


def test_every_part_of_the_package_has_a_layer() -> None:
    parts = {file.relative_to(PACKAGE).with_suffix("").parts[0] for file in FILES} - {"__init__", "__main__"}
    assert parts == set(LAYER)


@pytest.mark.parametrize("layer", [0, 1, 2, 3, 4])
def test_the_first_layers_do_not_import_torch(layer: int) -> None:
    for part in LAYERS[layer]:
        for file in [PACKAGE / f"{part}.py", *(PACKAGE / part).rglob("*.py")]:
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


def test_files_and_folders_are_few_and_short() -> None:
    assert len(FILES) <= MAX_FILES
    for folder in {file.parent for file in FILES}:
        assert len(list(folder.glob("*.py"))) <= MAX_FOLDER_FILES, folder
    for file in FILES:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES, file


def test_functions_fit_a_screen() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < MAX_FUNCTION_LINES, f"{file}: {node.name}"


def test_the_architecture_page_lists_every_file_and_the_readme_every_command() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w/]+\.py)` \|", page, re.MULTILINE))
    names = {file.relative_to(PACKAGE).as_posix() for file in FILES if file.name != "__init__.py"}
    assert listed == names
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f"chargen {command}" in readme, command


def test_tests_mirror_the_package() -> None:
    folders = {file.parent.relative_to(PACKAGE).parts[0] for file in FILES if file.parent != PACKAGE}
    for folder in folders:
        assert list((ROOT / "tests" / folder).glob("test_*.py")), f"tests/{folder} has no tests"
    for test in (ROOT / "tests").rglob("test_*.py"):
        parts = test.relative_to(ROOT / "tests").parts
        assert len(parts) == 1 or parts[0] in folders, test

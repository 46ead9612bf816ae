"""Processes that chargen starts import nothing from the working directory."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chargen import child
from tests.test_structure import FILES, PACKAGE, imports

NAMES = [
    "json", "signal", "threading", "typing", "__future__", "collections", "numpy", "chargen", "tempfile", "random",
    "sitecustomize", "usercustomize", "outlines_core", "encodings", "site", "subprocess", "resource", "importlib",
]  # fmt: skip

# Everything runs twice: first the parent process imports all that it needs, and then the folder is put on its path.
DRIVER = """
import os, sys
from chargen.cli.main import run
from chargen.sampling.regex_automaton import byte_automaton
from chargen.text import workers
from chargen.text import corpus

workers.MIN_PARALLEL_BYTES = corpus.MIN_PARALLEL_BYTES = 1
os.cpu_count = lambda: 2
for path in ([], ["", ".", os.getcwd(), "relative"]):
    sys.path[:0] = path
    assert byte_automaton("a+", b"ab").num_states > 1
    assert run(["corpora", "check", "poem.txt"]) == 0
"""


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Return a folder with modules that leave a file when they are imported, and with a text."""
    for name in NAMES:
        code = f"import os\nopen(os.path.join({str(tmp_path)!r}, 'ran-{name}'), 'w').close()\nraise SystemExit(9)\n"
        (tmp_path / f"{name}.py").write_text(code)
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(code)
    (tmp_path / "poem.txt").write_text("Trăm năm trong cõi người ta\n" * 300, encoding="utf-8")
    return tmp_path


def imported_modules(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True)


def test_children_import_nothing_from_the_working_directory(planted: Path) -> None:
    script = planted / "scripts" / "driver.py"
    script.parent.mkdir()
    script.write_text(DRIVER)
    done = run_in(planted, str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("8,400") == 2, done.stdout
    assert imported_modules(planted) == []


def test_python_m_chargen_imports_nothing_from_the_working_directory(planted: Path) -> None:
    for name in ("chargen", "runpy"):  # Python itself searches these in the working directory
        (planted / f"{name}.py").unlink(missing_ok=True)
        for path in sorted((planted / name).glob("*")):
            path.unlink()
    done = run_in(planted, "-m", "chargen", "corpora", "check", "poem.txt")
    assert done.returncode == 0, done.stderr
    assert imported_modules(planted) == []


def test_a_child_searches_the_folders_of_its_parent_except_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "libraries").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    libraries, here = str(tmp_path / "here" / "libraries"), str(tmp_path / "here")
    (tmp_path / "link").symlink_to(here)
    bad = ["", ".", "libraries", here, f"{here}/", str(tmp_path / "link"), str(tmp_path / "missing")]
    monkeypatch.setattr(sys, "path", [*bad, libraries, *bad, os.__file__.rpartition("/")[0], libraries])
    assert child.list_import_paths() == [libraries, os.__file__.rpartition("/")[0]]


def test_the_environment_of_a_child_has_no_python_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("PYTHONSTARTUP", "x.py")
    assert not [name for name in child._environment({"MORE": "1"}) if name.startswith("PYTHON")]
    assert child._environment({"MORE": "1"})["MORE"] == "1"


def test_only_child_py_starts_processes_and_only_jit_py_imports_numba() -> None:
    starters = {"subprocess", "multiprocessing", "pty", "_posixsubprocess", "_winapi", "concurrent.futures.process"}
    calls = ("exec", "spawn", "fork", "popen", "posix_spawn", "system", "startfile")
    for file in FILES:
        name, source = file.relative_to(PACKAGE).as_posix(), file.read_text(encoding="utf-8")
        used = {module for module in imports(file) if module in starters or module.split(".")[0] in starters}
        assert not used or name == "child.py", f"{name} imports {used}"
        assert name == "jit.py" or not [m for m in imports(file) if m.split(".")[0] == "numba"], name
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
                assert not node.attr.startswith(calls), f"{name}: os.{node.attr}"
            if isinstance(node, ast.ImportFrom) and node.module in ("os", "asyncio", "concurrent.futures"):
                wrong = [a.name for a in node.names if a.name.startswith((*calls, "ProcessPool", "create_subprocess"))]
                assert not wrong, f"{name}: {wrong}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("ProcessPoolExecutor", "create_subprocess_exec", "create_subprocess_shell")


# ── compiled code ─────────────────────────────────────────────────────────────


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="numba is not installed")
@pytest.mark.parametrize("named", ["", "planted", "absolute"])
def test_compiled_code_is_cached_in_the_user_cache_and_not_in_the_working_directory(tmp_path: Path, named: str) -> None:
    here, cache = tmp_path / "here", tmp_path / "cache"
    here.mkdir()
    (here / ".numba_config.yaml").write_text("cache_dir: planted\n")
    code = "import warnings; warnings.simplefilter('ignore')\nfrom chargen import jit\n" \
        "import numba.core.config as c; print(c.CACHE_DIR); c.reload_config(); print(c.CACHE_DIR)"  # fmt: skip
    named = str(tmp_path / "mine") if named == "absolute" else named
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "HOME": str(tmp_path), "LOCALAPPDATA": str(cache)}
    environment.pop("CHARGEN_CACHE", None)
    environment |= {"NUMBA_CACHE_DIR": named, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=here, env=environment, capture_output=True, text=True)
    found = set(done.stdout.split())
    assert len(found) == 1, done.stderr
    folder = Path(found.pop())
    assert folder == Path(named) if os.path.isabs(named) else tmp_path in folder.parents and here not in folder.parents
    assert [path.name for path in here.iterdir()] == [".numba_config.yaml"]


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="only Linux uses XDG_CACHE_HOME")
def test_a_relative_or_unwritable_cache_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit = pytest.importorskip("chargen.jit", reason="numba is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CHARGEN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "planted")
    assert jit.make_cache_folder() == tmp_path / "home" / ".cache" / "chargen" / "numba"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert jit.make_cache_folder() is None
    assert not (tmp_path / "planted").exists()

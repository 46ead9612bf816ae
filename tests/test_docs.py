"""Every example in the README and in `docs/` is run, page by page; training budgets are cut short.

```console            each "$ " line must exit with 0 and print something
```console exact      must print exactly the lines below it
```console fails      each "$ " line must exit with a status other than 0
```python             must run
```sh                 sets something up; `make` and continuous integration run these
```text               is output or a drawing

A page runs in one folder from top to bottom: later commands use the models of earlier ones. A line
`<!-- files: NAME ... -->` names files of `docs/examples/` that are copied to the folder first; `examples/NAME` is a
program of `examples/` and is copied to a folder of this name. The pages of `docs/` have the marker `docs`: `make docs`
runs them, `make test` runs the README alone.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "examples"
PAGES = sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts
)
BLOCK = re.compile(r"^```(\w+)( exact| fails)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = re.compile(r"<!-- files: (.*?) -->")
BUDGET = re.compile(r"--budget \w+")
SHORT_BUDGET = "--budget 10s"
SECONDS = re.compile(r"--seconds \d+")  # of the programs in examples/
TRAIN_WITHOUT_LENGTH = re.compile(r"^(chargen train (?!.*(--budget|--steps|--epochs|--resume|--help)).*)$")


def run(command: str, folder: Path, fails: bool = False) -> str:
    """Run a command of a page with the chargen of this environment, and return what it printed."""
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "COLUMNS": "100", "HOME": str(folder)}
    environment["PYTHONPATH"] = str(ROOT)  # this tree, also where another one is installed
    # Compiled loops are those of earlier runs on this machine: compiling them takes as long as a short budget.
    environment["NUMBA_CACHE_DIR"] = os.environ["NUMBA_CACHE_DIR"]  # `conftest.py` sets it
    command = BUDGET.sub(SHORT_BUDGET, TRAIN_WITHOUT_LENGTH.sub(rf"\1 {SHORT_BUDGET}", command))
    command = SECONDS.sub("--seconds 2", command)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert (done.returncode != 0) == fails, f"{command}\n{done.stderr}"
    return done.stdout or done.stderr


def run_page(page: Path, folder: Path) -> int:
    """Run the blocks of a page in a folder, and return how many there were."""
    text = page.read_text(encoding="utf-8")
    for name in " ".join(FILES.findall(text)).split():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy((ROOT if name.startswith("examples/") else EXAMPLES) / name, folder / name)
    blocks = BLOCK.findall(text)
    for language, kind, body in blocks:
        if language == "console":
            for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
                command, _, expected = part.partition("\n")
                printed = run(command, folder, fails=kind == " fails")
                assert printed.strip("\n"), f"{command} printed nothing"
                if kind == " exact":
                    assert printed == expected
        elif language == "python":
            (folder / "example.py").write_text(body, encoding="utf-8")
            run(f"{sys.executable} example.py", folder)
        else:
            assert language in ("sh", "text", "toml", "yaml", "json", "html", "nginx"), language
    return len(blocks)


@pytest.mark.timeout(240)
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    assert run_page(ROOT / "README.md", tmp_path) >= 4


@pytest.mark.docs
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_the_documentation_runs(page: str, tmp_path: Path) -> None:
    fences = re.findall(r"^```\w", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert run_page(ROOT / page, tmp_path) == len(fences)  # no block escapes the pattern


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200

"""Every block of the README is run, in its order, in one folder; budgets are cut short.

```console            each "$ " line must exit with 0 and print something
```console exact      and print exactly what stands below it
```python             must run
```sh                 setting up, which `make` and CI do
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)( exact)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUDGET = re.compile(r"--budget \w+")


def run(command: str, folder: Path) -> str:
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "COLUMNS": "100", "HOME": str(folder)}
    command = BUDGET.sub("--budget 6s", command)
    done = subprocess.run(["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout or done.stderr


@pytest.mark.timeout(240)
def test_every_block_of_the_readme_runs(tmp_path: Path) -> None:
    blocks = BLOCK.findall(README.read_text(encoding="utf-8"))
    assert {kind for kind, _, _ in blocks} == {"sh", "console", "python"}
    (tmp_path / "corpus.txt").write_text("Trăm năm trong cõi người ta,\nChữ tài chữ mệnh khéo là ghét nhau.\n" * 200)
    for kind, exact, text in blocks:
        if kind == "python":
            (tmp_path / "block.py").write_text(text, encoding="utf-8")
            run(f"{sys.executable} block.py", tmp_path)
        elif kind == "console":
            commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
            assert commands, "a console block without a command"
            for command in commands:
                # A line that ends with a backslash goes on; what follows the command is its output.
                first, _, shown = re.sub(r"\\\n\s*", "", command).partition("\n")
                found = run(first, tmp_path)
                assert found.strip()
                if exact:
                    lines = [line.rstrip() for line in found.splitlines()]
                    assert [line for line in lines if line] == shown.rstrip().splitlines()

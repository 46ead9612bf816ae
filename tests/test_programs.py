"""In continuous integration a test fails if something that it needs is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = {
    "test_import.py": 'import pytest\nmodule = pytest.importorskip("no_such_module")\ndef test_it() -> None: ...\n',
    "test_inside.py": 'import pytest\ndef test_it() -> None:\n    pytest.importorskip("no_such_module")\n',
    "test_mark.py": 'import pytest\n@pytest.mark.skipif(True, reason="chromium is not installed")\n'
    "def test_it() -> None: ...\n",
    "test_gpu.py": 'import pytest\n@pytest.mark.skipif(True, reason="no CUDA device here")\n'
    "def test_it() -> None: ...\n",
}


@pytest.mark.parametrize(("value", "summary"), [("1", "1 failed, 1 skipped, 2 errors"), ("", "4 skipped")])
def test_what_is_not_installed_is_a_failure_where_everything_is_needed(
    tmp_path: Path, value: str, summary: str
) -> None:
    for name, source in TESTS.items():
        (tmp_path / name).write_text(source, encoding="utf-8")
    environment = {**os.environ, "TESTS_NEED_EVERYTHING": value, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.programs", "--continue-on-collection-errors"]
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert summary in done.stdout.splitlines()[-1], done.stdout
    assert (done.returncode != 0) == bool(value)

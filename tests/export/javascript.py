"""Run JavaScript in the tests, with node or in chromium."""

from __future__ import annotations

import json
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

from tests.programs import CHROMIUM, NODE, needs_chromium, needs_javascript

__all__ = ["needs_chromium", "needs_javascript", "run_javascript"]

CHROMIUM_OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--timeout=170000")


def run_javascript(source: str, folder: Path, in_chromium: bool = False) -> Any:
    """Run a script, and return the value that it assigns to `result`, which JSON can represent.

    Args:
        source: The script.
        folder: A folder for its file.
        in_chromium: Whether it is run in chromium, as a page opened from the disk; else in node if it is installed.
    """
    if NODE and not in_chromium:
        script = folder / "script.js"
        script.write_text(f"let result;\n{source}\nconsole.log(JSON.stringify(result));\n", encoding="utf-8")
        done = subprocess.run([NODE, str(script)], capture_output=True, check=False, timeout=170)
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return json.loads(done.stdout)
    return _run_in_chromium(source, folder)


def _run_in_chromium(source: str, folder: Path) -> Any:
    page = folder / "page.html"
    show = "document.body.textContent = "
    page.write_text(
        '<!doctype html><meta charset="utf-8"><body></body><script>"use strict";\ntry {\nlet result;\n'
        f"{source}\n{show}JSON.stringify({{result}});\n}} catch (error) {{ {show}String(error.stack); }}</script>",
        encoding="utf-8",
    )
    command = [str(CHROMIUM), *CHROMIUM_OPTIONS, f"--user-data-dir={folder / 'profile'}", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, check=True, timeout=170)
    body = unescape(done.stdout.decode().partition("<body>")[2].partition("</body>")[0]).partition("<script>")[0]
    assert body.startswith("{"), body[:3000]
    return json.loads(body)["result"]

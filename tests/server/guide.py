"""The examples of the guide to serving, as a test runs them: with a model, a port and a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from chargen.checkpoint import save_checkpoint
from tests.conftest import random_model
from tests.programs import PEERS
from tests.server.test_process import Server

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serving.md").read_text(encoding="utf-8")
MODEL = "docs"  # the name of the model in the guide


def find_blocks(language: str, containing: str = "", text: str = GUIDE) -> list[str]:
    """Return the blocks of a page in this language that contain a string."""
    blocks = re.findall(rf"^```{language}(?: exact)?\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for block in blocks if containing in block]


def find_block(language: str, containing: str = "") -> str:
    """Return the only block of the guide in this language that contains a string."""
    (block,) = find_blocks(language, containing)
    return block


def serve_guide_model(folder: Path, *arguments: str) -> Server:
    """Serve a model with the name that the guide uses."""
    save_checkpoint(folder / "checkpoints" / MODEL / "model.safetensors", random_model())
    return Server(folder, MODEL, *arguments)


def with_address(example: str, server: Server) -> str:
    """Return an example with the address of a server instead of that of the guide."""
    replaced = re.sub(r"127\.0\.0\.1:(8765|8000)", server.url.removeprefix("http://"), example)
    assert replaced != example
    return replaced


def run_in_shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder; the programs in .peers are found first."""
    variables = {**os.environ, "PATH": f"{PEERS}{os.pathsep}{os.environ['PATH']}", **environment}
    variables.pop("PYTHONPATH", None)
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=170
    )

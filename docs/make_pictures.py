"""Draw the pictures of the README and the documentation from real commands.

    python docs/make_pictures.py FOLDER        # FOLDER has a run named `docs` under checkpoints/

Each command runs with stdout on a pseudo-terminal, as a person would see it; rich turns the output into an SVG. Look at
the pictures before you commit them: they are written to docs/pictures/.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import termios
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI
from rich.text import Text

PICTURES = Path(__file__).parent / "pictures"
COLUMNS, ROWS = 116, 40
SENTENCES = ("It returns a new list.", "It returns an new list.", "List new a returns it.")
SESSION = [
    ["chargen", "sample", "--temp", "0.6", "--seed", "5", "--length", "230", "--prompt", "The function "],
    ["chargen", "score", *SENTENCES],
]
HEAT_MAP = [["chargen", "score", "--chars", "--suggest", "The function retruns a list of strings."]]


def run_on_terminal(command: list[str], folder: Path) -> str:
    """Run a command with a pseudo-terminal as stdout, and return what it wrote there, escape sequences included."""
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(COLUMNS)}
    script = [sys.executable, "-m", *command]
    process = subprocess.Popen(script, cwd=folder, env=environment, stdout=child, stderr=subprocess.DEVNULL)
    os.close(child)
    written = b""
    while True:
        try:
            block = os.read(parent, 1 << 16)
        except OSError:  # Linux reports the closed terminal as an error
            break
        if not block:
            break
        written += block
    if process.wait():
        raise SystemExit(f"{shlex.join(command)} failed")
    text = written.decode().replace("\r\n", "\n")
    return re.sub(r"\x1b\[[0-9;?]*[A-HJKSTfhlnsu]", "", text)  # keeps colours, drops movements of the cursor


def draw(commands: list[list[str]], title: str, file: str, folder: Path) -> None:
    """Write the SVG of a terminal session."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    for number, command in enumerate(commands):
        if number:
            console.print()
        console.print(Text.assemble(("$ ", "bold green"), shlex.join(command)), soft_wrap=False)
        console.print(Text.from_ansi(run_on_terminal(command, folder).rstrip("\n")))
    PICTURES.mkdir(exist_ok=True)
    console.save_svg(str(PICTURES / file), title=title, theme=DIMMED_MONOKAI)


def main() -> None:
    """Draw all pictures with the run `docs` of a folder."""
    folder = Path(sys.argv[1])
    draw(SESSION, "chargen", "session.svg", folder)
    draw(HEAT_MAP, "chargen score --chars --suggest", "heat-map.svg", folder)


if __name__ == "__main__":
    main()

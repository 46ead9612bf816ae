"""Start a child process that runs one function of this package and imports nothing from the working directory.

    start_child("module:function") ─▶ python -I child.py module:function PATH … ─▶ module.function()

`python -c` and `python -m` put the working directory first on `sys.path`, so they would import a `json.py` or `numpy/`
from there. A child process is started with `-I` instead (isolated mode: no PYTHON… variables, no working directory, no
user site). It loads this package from the folder of this file. It searches other packages first in its own
installation and then in the folders where the parent process finds packages.
"""

# Nothing else is imported here, not even `__future__`. Python itself loads these modules at start-up, so they cannot
# come from the working directory, which `python -m chargen` has on its path until
# `remove_working_directory_from_path` runs.
import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False  # type checkers treat this name as true
if TYPE_CHECKING:
    import subprocess

PACKAGE = os.path.dirname(os.path.abspath(__file__))


def start_child(function: str, environment: dict[str, str], pipe_bytes: int) -> "subprocess.Popen[bytes]":
    """Start a process that runs a function of this package, with pipes to its stdin and from its stdout.

    Args:
        function: "module:name" of a function without parameters.
        environment: Environment variables to add.
        pipe_bytes: Capacity of each pipe in bytes, on systems where it can be set.
    """
    import subprocess

    pipe = subprocess.PIPE
    return subprocess.Popen(
        _command(function),
        stdin=pipe,
        stdout=pipe,
        env=_environment(environment),
        pipesize=pipe_bytes,
        start_new_session=True,  # so Ctrl-C in the terminal reaches only the parent process
    )


def run_child(function: str, data: bytes, timeout_s: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a function of this package in a child process and wait for its end.

    Args:
        function: "module:name" of a function without parameters.
        data: Bytes for the stdin of the process.
        timeout_s: Time limit in seconds.

    Returns:
        The exit status of the process, and the bytes that it wrote to stdout and stderr.

    Raises:
        TimeoutError: If the process did not end in time; it is killed.
    """
    import subprocess

    try:
        return subprocess.run(
            _command(function),
            input=data,
            capture_output=True,
            timeout=timeout_s,
            env=_environment({}),
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError from None


def _command(function: str) -> list[str]:
    """Return the command line of a child process."""
    return [sys.executable, "-I", os.path.join(PACKAGE, "child.py"), function, *list_import_paths()]


def _environment(added: dict[str, str]) -> dict[str, str]:
    """Return this process's environment without Python's own variables, plus the added ones.

    The child ignores Python's variables anyway because of `-I`; without them, the processes that it starts do, too.
    """
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, **added}


def list_import_paths() -> list[str]:
    """Return the entries of `sys.path` from which a child process may import: absolute paths that exist.

    The working directory is not one of them, unless this package itself is in it.
    """
    parent = os.path.dirname(PACKAGE)
    paths = [path for path in sys.path if os.path.isabs(path) and os.path.exists(path)]
    return [path for path in dict.fromkeys(paths) if _is_same(path, parent) or not _is_same(path, os.curdir)]


def _is_same(path: str, other: str) -> bool:
    """Return whether two paths lead to the same folder; false if one of them was removed."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def remove_working_directory_from_path() -> None:
    """Remove the entry that `python -m` puts first on `sys.path`, unless this package is in the working directory."""
    if getattr(sys.flags, "safe_path", False) or not sys.path:
        return
    if _is_same(sys.path[0] or os.curdir, os.curdir) and not _is_same(os.path.dirname(PACKAGE), os.curdir):
        del sys.path[0]


def _run(function: str, paths: list[str]) -> None:
    """Load this package from its folder and call a function; this is the main program of a child process."""
    init = os.path.join(PACKAGE, "__init__.py")
    spec = importlib.util.spec_from_file_location("chargen", init, submodule_search_locations=[PACKAGE])
    assert spec and spec.loader  # true for every path that ends in .py
    sys.modules["chargen"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    sys.path.extend(
        path for path in paths if path not in sys.path
    )  # at the end, so that they hide no installed package
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)()


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2:])

"""Start a process that runs one function of this package, and nothing that the working directory contains.

    start_child("module:function") ─▶ python -I child.py module:function PATH … ─▶ module.function()

`python -c` and `python -m` put the working directory first on `sys.path`, so a `json.py` or `numpy/` in it would be
imported. A child is started with `-I` instead (isolated: no PYTHON… variable, no working directory, no user site). It
loads this package from the folder of this file, and looks for other packages where its own installation has them
first, and then at the places where the parent process found packages.
"""

# Nothing else is imported here, not even `__future__`. Python itself loads these modules at start-up, so they cannot
# come from the working directory, which `python -m chargen` has on its path until
# `remove_working_directory_from_path` runs.
import importlib
import importlib.util
import os
import sys

TYPE_CHECKING = False  # type checkers take it for true
if TYPE_CHECKING:
    import subprocess

PACKAGE = os.path.dirname(os.path.abspath(__file__))


def start_child(function: str, environment: dict[str, str], pipe_bytes: int) -> "subprocess.Popen[bytes]":
    """Start a process that runs a function of this package, with pipes to its stdin and from its stdout.

    Args:
        function: "module:name", of a function without arguments.
        environment: variables to add.
        pipe_bytes: how much a pipe holds, where the system lets this be set.
    """
    import subprocess

    pipe = subprocess.PIPE
    return subprocess.Popen(
        _command(function),
        stdin=pipe,
        stdout=pipe,
        env=_environment(environment),
        pipesize=pipe_bytes,
        start_new_session=True,  # Ctrl-C on the terminal is for the process that starts it
    )


def run_child(function: str, data: bytes, timeout_s: float) -> "subprocess.CompletedProcess[bytes]":
    """Run a function of this package in a process of its own, with `data` on its stdin, and return what it wrote.

    Raises:
        TimeoutError: it was not done in time, and was ended.
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
    return [sys.executable, "-I", os.path.join(PACKAGE, "child.py"), function, *list_import_paths()]


def _environment(more: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with more, but without Python's own variables.

    `-I` ignores those already; this also keeps them from whatever the child starts.
    """
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}, **more}


def list_import_paths() -> list[str]:
    """Return the entries of `sys.path` from which a child may import.

    They are absolute and exist. The working directory is left out, unless it is where this package itself is
    installed.
    """
    own = os.path.dirname(PACKAGE)
    paths = [path for path in sys.path if os.path.isabs(path) and os.path.exists(path)]
    return [path for path in dict.fromkeys(paths) if _is_same(path, own) or not _is_same(path, os.curdir)]


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them was removed


def remove_working_directory_from_path() -> None:
    """Take the entry that `python -m` puts before all others off `sys.path`, unless this package stands in it."""
    if getattr(sys.flags, "safe_path", False) or not sys.path:
        return
    if _is_same(sys.path[0] or os.curdir, os.curdir) and not _is_same(os.path.dirname(PACKAGE), os.curdir):
        del sys.path[0]


def _run(function: str, paths: list[str]) -> None:
    """Load the package by its place, and call the function; this is all that a child does."""
    init = os.path.join(PACKAGE, "__init__.py")
    spec = importlib.util.spec_from_file_location("chargen", init, submodule_search_locations=[PACKAGE])
    assert spec and spec.loader  # of a file that ends with .py
    sys.modules["chargen"] = package = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(package)
    sys.path.extend(path for path in paths if path not in sys.path)  # at the end: nothing installed is replaced
    module, _, name = function.partition(":")
    getattr(importlib.import_module(module), name)()


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2:])

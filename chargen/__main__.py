"""Run the command line with `python -m chargen`, or with the installed script `chargen`."""

# `python -m` puts the working directory on the path. Until it is removed, import only modules that Python itself has
# already loaded; others, even `__future__`, could come from the working directory.
import os
import sys

STOPPED = 130  # exit status after Ctrl-C
GC_THRESHOLD = 300_000  # new objects between two collections: no command has made as many when it starts its work


def main() -> None:
    """Run the command line and exit with its status. Ctrl-C during the imports ends the process without a traceback."""
    try:
        import gc
        import signal

        gc.set_threshold(GC_THRESHOLD)
        from chargen.cli.group_help import COMPLETE_VARIABLE, print_help

        if COMPLETE_VARIABLE not in os.environ and print_help(sys.argv[1:]):
            return
        from chargen.cli.main import main as run_and_exit
    except KeyboardInterrupt:
        _quit()
    try:
        run_and_exit()
    finally:
        gc.freeze()  # otherwise Python searches all objects for cycles when it exits, which takes 10 ms or more
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the exit of Python shows no traceback


def _quit() -> None:
    """End the process at once: an import that was interrupted has nothing to save, and its rest could raise again."""
    sys.stderr.write("stopped\n")
    sys.stderr.flush()
    os._exit(STOPPED)


if __name__ == "__main__":
    try:
        from chargen.child import remove_working_directory_from_path

        remove_working_directory_from_path()
    except KeyboardInterrupt:
        _quit()
    main()

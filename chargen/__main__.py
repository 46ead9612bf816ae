"""Run the command line with `python -m chargen`, or with the installed script `chargen`."""

# `python -m` puts the working directory on the path. Until it is removed, import only modules that Python itself has
# already loaded; others, even `__future__`, could come from the working directory.
from chargen.child import remove_working_directory_from_path


def main() -> None:
    """Run the command line and exit with its status."""
    from chargen.cli.main import main as run_and_exit

    run_and_exit()


if __name__ == "__main__":
    remove_working_directory_from_path()
    main()

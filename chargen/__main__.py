"""`python -m chargen` is `chargen`."""

# Before the working directory is off the path, nothing is imported that Python has not loaded already: `python -m`
# would take it from there. That includes `__future__`.
from chargen.child import remove_working_directory_from_path


def main() -> None:
    """Run the command line and exit with its status."""
    from chargen.cli.main import main as run_and_exit

    run_and_exit()


if __name__ == "__main__":
    remove_working_directory_from_path()
    main()

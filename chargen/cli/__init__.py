"""The command line: one file per command in `commands/`, each a thin layer over the library."""

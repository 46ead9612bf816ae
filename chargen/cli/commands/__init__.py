"""The commands, one file each; `main.py` lists them in `COMMANDS`."""

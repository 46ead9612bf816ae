"""The recurrences, each written once as its equations, one file a cell.

To add one: write `cells/mine.py` with a `Cell` (see `cell.py`), and add its line here. It is then trained, saved,
sampled, scored and tested like the others.
"""

from chargen.cells.cell import Cell
from chargen.registry import Registry

CELLS: Registry[Cell] = Registry(
    "cell",
    {
        "rnn": "chargen.cells.rnn:CELL",
        "lstm": "chargen.cells.lstm:CELL",
        "gru": "chargen.cells.gru:CELL",
        "mgru": "chargen.cells.mgru:CELL",
    },
)

__all__ = ["CELLS", "Cell"]

"""Recurrent cells: one file per cell, written as the equations of its paper.

To add a cell:

1. Write `cells/mine.py` with a subclass of `Cell` (see `cell.py`) and an instance `CELL`. The subclass sets
   `num_gates`, `num_input_gates` and `state_names`, and implements `step`.
2. Add the line `"mine": "chargen.cells.mine:CELL"` to `CELLS` below.

`chargen train --cell mine` then trains it with PyTorch's autograd; saving, sampling, scoring and the property tests
work for it, too. Faster back ends for single cells are in `networks/kernels/` and are optional.
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

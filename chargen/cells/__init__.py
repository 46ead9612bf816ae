"""Recurrent cells: one file per cell, written as the equations of its paper.

    rnn, lstm, gru, mgru    in this folder
    variants/               variants of these with other gates, initial weights or activations
    linear/                 linear recurrences h' = a ∘ h + b, where a and b depend on the input alone
    windows/                no recurrence: functions of the last n inputs

To add a cell:

1. Write `cells/mine.py` with a subclass of `Cell` (see `cell.py`) and an instance `CELL`. The subclass sets
   `num_gates`, `num_input_gates` and `state_names`, and implements `step`.
2. Add the line `"mine": "chargen.cells.mine:CELL"` to `CELLS` below.

`chargen train --cell mine` then trains it with PyTorch's autograd; saving, sampling, scoring and the property tests
work for it, too. Faster back ends for single cells are in `networks/kernels/` and are optional.
"""

from chargen.cells.cell import Cell
from chargen.errors import ConfigError
from chargen.registry import Registry


class CellRegistry(Registry[Cell]):
    """The registry of cells. A name can have an option after a colon: `get("mlp:16")`."""

    def get(self, name: str) -> Cell:
        """Return the cell with this name and option.

        Raises:
            ConfigError: If there is no such cell, or if it takes no such option.
        """
        base, colon, option = name.partition(":")
        cell = super().get(base)
        if not colon:
            return cell
        try:
            return cell.with_option(option)
        except ConfigError as error:
            raise ConfigError(f"--cell {name}: {error.message}", error.hint) from error


CELLS = CellRegistry(
    "cell",
    {
        "rnn": "chargen.cells.rnn:CELL",
        "rnn-relu": "chargen.cells.variants.rnn_relu:CELL",
        "lstm": "chargen.cells.lstm:CELL",
        "lstm-peephole": "chargen.cells.variants.lstm_peephole:CELL",
        "lstm-coupled": "chargen.cells.variants.lstm_coupled:CELL",
        "mlstm": "chargen.cells.variants.mlstm:CELL",
        "gru": "chargen.cells.gru:CELL",
        "gru-v1": "chargen.cells.variants.gru_v1:CELL",
        "mgu": "chargen.cells.variants.mgu:CELL",
        "mgru": "chargen.cells.mgru:CELL",
        "indrnn": "chargen.cells.variants.indrnn:CELL",
        "minlstm": "chargen.cells.linear.minlstm:CELL",
        "mingru": "chargen.cells.linear.mingru:CELL",
        "lru": "chargen.cells.linear.lru:CELL",
        "mlp": "chargen.cells.windows.mlp:CELL",
        "conv": "chargen.cells.windows.conv:CELL",
    },
)

__all__ = ["CELLS", "Cell"]

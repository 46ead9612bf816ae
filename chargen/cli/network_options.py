"""The options that set the shape of a network, which `train` and `classify --train` share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from chargen.cells import CELLS
from chargen.cli import options
from chargen.config import ModelConfig

if TYPE_CHECKING:
    from chargen.training.choices import ModelChoices

F = TypeVar("F", bound=Callable[..., Any])

network_option = options.option_group("Network")
NUMBERS = options.numbers(ModelConfig)  # the types of the numeric options


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)  # each generated method takes start-up time
class NetworkArguments:
    """The options of `network_options`; None leaves a setting to the recipe. The names are those of `ModelConfig`."""

    cell: str | None = None
    num_layers: int | None = None
    hidden_size: int | None = None
    ensemble_size: int | None = None
    embedding_dim: int | None = None
    ngrams: int | None = None
    ngram_words: int | None = None
    tie_weights: bool | None = None
    dropout: float | None = None
    weight_dropout: float | None = None
    ngram_dropout: float | None = None
    residual: bool | None = None
    skip: bool | None = None
    layer_norm: bool | None = None

    def model_choices(self) -> ModelChoices:
        """Return the settings that were given.

        Raises:
            ConfigError: If one is out of range, if two contradict each other, or if there is no cell of a name.
        """
        for name in self.cell.split(",") if self.cell else ():
            CELLS.get(name)
        from chargen.training.choices import ModelChoices

        return ModelChoices(**{field.name: getattr(self, field.name) for field in fields(NetworkArguments)})


# Names of options, for tables of `effects.py`.
CONNECTION_OPTIONS = "--residual --skip"  # they connect layers
SHAPE_OPTIONS = (
    "--cell --layers --hidden --ensemble --embedding --ngrams --ngram-words --tie-weights "
    f"{CONNECTION_OPTIONS} --layer-norm"
)
NETWORK_OPTIONS = f"{SHAPE_OPTIONS} --dropout --weight-dropout --ngram-dropout"


def network_options(command: F) -> F:
    """Add the options that set the shape of a network to a command; the recipe chooses what is not given."""
    by_recipe = partial(network_option, show_default="auto")
    declarations = [
        by_recipe("--cell", type=options.CELL_NAMES, metavar="CELL",
                  help=f"Recurrent cell: {', '.join(CELLS.names())}. mlp and conv have no recurrence; they see the "
                  "last 8 and 3 inputs, or as many as you give: mlp:16. Several names, as in lstm,gru, are the cells "
                  "of the layers from the first to the last."),
        by_recipe("--layers", "num_layers", type=NUMBERS["num_layers"], metavar="N",
                  help="Number of recurrent layers. Defaults to 1, or to the number of names in --cell."),
        network_option("--residual", is_flag=True, default=None,
                       help="Add the output of each layer to that of the layer below it."),
        network_option("--skip", is_flag=True, default=None,
                       help="Let the output layer read all recurrent layers, not only the last one."),
        network_option("--layer-norm", is_flag=True, default=None,
                       help="Normalize the output of each recurrent layer before the next layer reads it."),
        by_recipe("--hidden", "hidden_size", type=NUMBERS["hidden_size"], metavar="N",
                  help="Hidden size of each layer."),
        by_recipe("--ensemble", "ensemble_size", type=NUMBERS["ensemble_size"], metavar="N",
                  help="Number of networks that are trained together; the mean of their logits is the prediction."),
        by_recipe("--embedding", "embedding_dim", type=NUMBERS["embedding_dim"], metavar="N",
                  help="Size of the embedding."),
        by_recipe("--ngrams", type=NUMBERS["ngrams"], metavar="N",
                  help="Longest n-gram of characters that the output layer gets as hashed features; 0 for none."),
        by_recipe("--ngram-words", type=NUMBERS["ngram_words"], metavar="N",
                  help="N-grams that start with a word: 1 for those that start with the last word, 2 for those that "
                  "start with the word before as well, and so on; 0 for none."),
        network_option("--tie-weights", is_flag=True, default=None,
                       help="Use one matrix for the embedding and the output layer."),
        by_recipe("--dropout", type=NUMBERS["dropout"], metavar="RATE",
                  help="Dropout rate for units between layers and before the output layer."),
        by_recipe("--weight-dropout", type=NUMBERS["weight_dropout"], metavar="RATE",
                  help="Dropout rate for recurrent weights (DropConnect)."),
        by_recipe("--ngram-dropout", type=NUMBERS["ngram_dropout"], metavar="RATE",
                  help="Dropout rate for the n-gram features, independent at each position."),
    ]  # fmt: skip
    for declare in reversed(declarations):  # a decorator that is applied later is listed earlier
        command = declare(command)
    return command

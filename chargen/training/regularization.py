"""The rules of the recipe that keep a network from memorizing its text: weight decay, dropout, and the last epoch.

They depend on how often the text is read, how long it is, and how rare its token ids are. `benchmarks/LOG.md` has the
measurements behind them.
"""

from __future__ import annotations

import math
from dataclasses import replace

from chargen.config import MAX_EPOCHS, TrainConfig

MAX_USEFUL_EPOCHS = 24.0  #: more passes over the text of a run with a time budget overfit, or gain little
MIN_CAPPED_STEPS = 150  #: a tiny text is read as often as this number of steps needs
WEIGHT_DECAY_PER_EPOCH, MAX_WEIGHT_DECAY = 0.075, 0.3
#: if a text has fewer tokens than the first number, the maximum is multiplied by (first number / tokens) ** power, at
#: most by the last number
DECAY_IDS, DECAY_POWER, MAX_DECAY_FACTOR = 2e5, 0.3, 1.5
#: if a text has fewer tokens than the first number for each token id beyond the alphabet, the maximum is multiplied
#: by (first number / tokens for each such token id) ** power as well; the product is the last number at most
RARE_OCCURRENCES, RARE_POWER, ALPHABET_SIZE, MAX_RARE_WEIGHT_DECAY = 100.0, 0.4, 256, 0.8
FEW_EPOCHS, MANY_EPOCHS = 4.0, 12.0  #: dropout begins after the first number, and has its full rate at the second one
#: the full rate for a text of this length; a tenth of the length doubles it, a hundredth triples it
FULL_DROPOUT, LONG_TEXT_IDS = 0.05, 1e6
MAX_DROPOUT_SHARE, MAX_DROPOUT = 1.3, 0.3
HALF_NGRAM_DROPOUT_EPOCHS = 6.0  #: epochs for which half of the n-grams are dropped
#: the maximum for a text of this length; ten times the length adds the last number, within the limits
MID_NGRAM_DROPOUT, MID_NGRAM_IDS, NGRAM_DROPOUT_PER_DECADE = 0.53, 1e5, 0.27
MIN_NGRAM_LIMIT, MAX_NGRAM_LIMIT = 0.4, 0.9


def weight_decay(epochs: float, num_train_ids: int, vocab_size: int) -> float:
    """Return the weight decay: the default, or more for a text that is read more than once or twice.

    Args:
        epochs: How many times the run reads the text.
        num_train_ids: Length of the text in tokens.
        vocab_size: Number of token ids. Of a short text with many, such as one in Chinese, most are rare, and rare ones
            are memorized.
    """
    rarity = max(1.0, RARE_OCCURRENCES * max(0, vocab_size - ALPHABET_SIZE) / max(1, num_train_ids))
    shortness = max(1.0, DECAY_IDS / max(1, num_train_ids))
    factor = min(MAX_DECAY_FACTOR, math.pow(shortness, DECAY_POWER)) * math.pow(rarity, RARE_POWER)
    maximum = min(MAX_RARE_WEIGHT_DECAY, MAX_WEIGHT_DECAY * factor)
    return round(min(maximum, max(TrainConfig.weight_decay, WEIGHT_DECAY_PER_EPOCH * epochs)), 2)


def dropout(epochs: float, num_train_ids: int) -> float:
    """Return the dropout rate of units and weights.

    Args:
        epochs: How many times the run reads the text.
        num_train_ids: Length of the text in tokens.
    """
    share = max(0.0, (epochs - FEW_EPOCHS) / (MANY_EPOCHS - FEW_EPOCHS))
    full = FULL_DROPOUT * max(0.0, 1.0 + math.log10(LONG_TEXT_IDS / max(1, num_train_ids)))
    return round(min(MAX_DROPOUT, full * min(share, MAX_DROPOUT_SHARE)), 2)


def ngram_dropout(epochs: float, num_train_ids: int) -> float:
    """Return the dropout rate of the n-grams: the more often the text is read, the higher, up to a limit.

    The limit rises with the length of the text: on short texts a high rate raised the validation loss.

    Args:
        epochs: How many times the run reads the text.
        num_train_ids: Length of the text in tokens.
    """
    limit = MID_NGRAM_DROPOUT + NGRAM_DROPOUT_PER_DECADE * math.log10(max(1, num_train_ids) / MID_NGRAM_IDS)
    limit = min(MAX_NGRAM_LIMIT, max(MIN_NGRAM_LIMIT, limit))
    return round(min(limit, epochs / (epochs + HALF_NGRAM_DROPOUT_EPOCHS)), 2)


def max_useful_epochs(windows_per_epoch: float) -> float:
    """Return how many times a run with a time budget reads its text at most.

    Args:
        windows_per_epoch: Number of steps in which the text is read once.
    """
    enough_steps = float(math.ceil(MIN_CAPPED_STEPS / windows_per_epoch))
    return min(MAX_EPOCHS, max(MAX_USEFUL_EPOCHS, enough_steps))


def limit_epochs(train: TrainConfig, windows_per_epoch: int) -> TrainConfig:
    """Return the settings of a run with the limit of its epochs for the windows that its text has in fact.

    The recipe estimates their number. A text of short documents has more windows, and a short text may have fewer rows.
    """
    if train.max_epochs is None:
        return train
    return replace(train, max_epochs=max_useful_epochs(windows_per_epoch))

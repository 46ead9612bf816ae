"""Tasks that need memory: sequences of tokens whose answers depend on tokens a chosen number of steps back.

All tasks are sequences of token ids, as texts are, and the answer is the next token. `▷` marks what is scored.

    copy     s₁ s₂ s₃ s₄ · · · · · · ? ▷s₁ ▷s₂ ▷s₃ ▷s₄       Hochreiter & Schmidhuber (1997), Arjovsky et al. (2016)
             4 symbols out of 8 are remembered for `lag` blanks, until "?" asks for them; by chance 1 in 8 is right

    adding   3 1̂ 0 4 2 2̂ 4 1 0 3 = ▷3                        Hochreiter & Schmidhuber (1997), with digits as tokens
             `lag` digits from 0 to 4, of which one in each half is marked; the answer is the sum of the two, a token
             of its own. Hochreiter and Schmidhuber add real numbers and measure the squared error; a language model
             reads tokens, so each digit is a token, marked or not, and accuracy is the share of correct sums. The sum
             4 is the most frequent one, so by chance 1 in 5 is right

    reber    B T  B T S X X V V E  ▷T E                       Cleeremans et al. (1989), Hochreiter & Schmidhuber (1997)
             the embedded Reber grammar: a string of the Reber grammar with `lag` symbols between two equal ones, T or
             P. Every symbol is predicted in training; the second-to-last one is scored. By chance 1 in 2 is right

The batches are random and endless: a network cannot memorise them. Each row starts from the initial state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from chargen.data.batches import NO_TARGET, Batch, BatchSource, Position
from chargen.errors import ConfigError
from chargen.registry import did_you_mean

Ids = NDArray[np.int64]


NUM_SYMBOLS, NUM_COPIED = 8, 4  #: different symbols of the copy task; symbols that are copied
MAX_DIGIT = 4  #: largest digit of the adding task
MAX_LAG = 100_000


class MemoryTask(ABC):
    """A task with sequences of a fixed length."""

    name: str
    vocab_size: int
    min_lag: int  #: the shortest lag that the task has
    chance: float  #: accuracy of the best guess without memory

    @abstractmethod
    def sample(self, rng: np.random.Generator, lag: int, num_rows: int) -> tuple[Ids, Ids, Ids]:
        """Return random sequences.

        Args:
            rng: The random generator.
            lag: How many tokens lie between what is remembered and its use.
            num_rows: The number of sequences B.

        Returns:
            (inputs [T, B], targets of the training [T, B], answers that are scored [T, B]); NO_TARGET where there is
            none.
        """


class CopyTask(MemoryTask):
    """Repeat four symbols after a number of blanks. Token ids: 0 the blank, 1 the question, 2 … 9 the symbols."""

    name = "copy"
    vocab_size = 2 + NUM_SYMBOLS
    min_lag = 1
    chance = 1 / NUM_SYMBOLS

    def sample(self, rng: np.random.Generator, lag: int, num_rows: int) -> tuple[Ids, Ids, Ids]:
        """Return sequences of 2·4 + lag tokens; see `MemoryTask.sample`."""
        symbols = rng.integers(2, 2 + NUM_SYMBOLS, (NUM_COPIED, num_rows))
        inputs = np.concatenate([symbols, np.zeros((lag, num_rows), np.int64), np.ones((1, num_rows), np.int64)])
        inputs = np.concatenate([inputs, symbols[:-1]])  # while it answers, it reads its own correct answers
        answers = np.full(inputs.shape, NO_TARGET, dtype=np.int64)
        answers[-NUM_COPIED:] = symbols
        return inputs, answers, answers


class AddingTask(MemoryTask):
    """Add two marked digits. Token ids: 0 is "=", then the digits, the marked digits, and the sums."""

    name = "adding"
    vocab_size = 1 + 2 * (MAX_DIGIT + 1) + 2 * MAX_DIGIT + 1
    min_lag = 2
    chance = 1 / (MAX_DIGIT + 1)

    def sample(self, rng: np.random.Generator, lag: int, num_rows: int) -> tuple[Ids, Ids, Ids]:
        """Return sequences of lag + 1 tokens; see `MemoryTask.sample`."""
        digits = rng.integers(0, MAX_DIGIT + 1, (lag, num_rows))
        half = lag // 2
        columns = np.arange(num_rows)
        first, second = rng.integers(0, half, num_rows), rng.integers(half, lag, num_rows)
        sums = digits[first, columns] + digits[second, columns]
        inputs = np.concatenate([1 + digits, np.zeros((1, num_rows), np.int64)])
        inputs[first, columns] += MAX_DIGIT + 1
        inputs[second, columns] += MAX_DIGIT + 1
        answers = np.full(inputs.shape, NO_TARGET, dtype=np.int64)
        answers[-1] = 1 + 2 * (MAX_DIGIT + 1) + sums
        return inputs, answers, answers


SYMBOLS = "BEPSTVX"  #: token ids of the Reber grammar
# The Reber grammar: from each node, the symbols and the nodes that they lead to. Node 0 is the start, END the end.
END = 7
REBER: dict[int, list[tuple[str, int]]] = {
    0: [("B", 1)], 1: [("T", 2), ("P", 3)], 2: [("S", 2), ("X", 4)], 3: [("T", 3), ("V", 5)],
    4: [("X", 3), ("S", 6)], 5: [("P", 4), ("V", 6)], 6: [("E", END)],
}  # fmt: skip


class ReberTask(MemoryTask):
    """Predict the second-to-last symbol of strings of the embedded Reber grammar."""

    name = "reber"
    vocab_size = len(SYMBOLS)
    min_lag = 5
    chance = 0.5

    def sample(self, rng: np.random.Generator, lag: int, num_rows: int) -> tuple[Ids, Ids, Ids]:
        """Return strings of lag + 4 symbols, without the last one as input; see `MemoryTask.sample`."""
        outer = rng.choice([SYMBOLS.index("T"), SYMBOLS.index("P")], num_rows)
        inner = self._inner_strings(rng, lag, num_rows)
        first, last = (np.full((1, num_rows), SYMBOLS.index(symbol)) for symbol in "BE")
        strings = np.concatenate([first, outer[None], inner, outer[None], last])
        inputs, targets = strings[:-1], strings[1:]
        answers = np.full(inputs.shape, NO_TARGET, dtype=np.int64)
        answers[-2] = outer
        return inputs, targets, answers

    def _inner_strings(self, rng: np.random.Generator, length: int, num_rows: int) -> Ids:
        """Return strings of the Reber grammar with exactly this length, [length, B].

        A branch is taken with the probability that it has in the strings of this length, if both branches of every node
        are equally likely.
        """
        odds = reber_odds(length)
        nodes = np.zeros(num_rows, np.int64)
        strings = np.empty((length, num_rows), np.int64)
        for position in range(length):
            second = rng.random(num_rows) < odds[length - position, nodes]
            for node, branches in REBER.items():
                for choice, (symbol, following) in enumerate(branches):
                    rows = (nodes == node) & (second == bool(choice))
                    strings[position, rows] = SYMBOLS.index(symbol)
                    nodes = np.where(rows, following + 100, nodes)  # marked as done in this step
            nodes = nodes - 100
        return strings


@lru_cache
def reber_odds(length: int) -> NDArray[np.float64]:
    """Return the probability of the second branch of each node, if a number of symbols is left: [length + 1, 8].

    Computed backwards: the probability that a random walk from a node ends after exactly n symbols, for each n. Only
    ratios matter, so each row is scaled to a maximum of 1.
    """
    ends = np.zeros((length + 1, END + 1))  # [n]: the probability of an end after n symbols
    odds = np.zeros((length + 1, END + 1))
    ends[0, END] = 1.0
    for left in range(1, length + 1):
        for node, branches in REBER.items():
            likely = [ends[left - 1, following] for _, following in branches]
            ends[left, node] = sum(likely) / len(likely)
            odds[left, node] = likely[1] / sum(likely) if len(likely) == 2 and sum(likely) else 0.0
        ends[left] /= ends[left].max() or 1.0
    return odds


TASKS: dict[str, MemoryTask] = {task.name: task for task in (CopyTask(), AddingTask(), ReberTask())}


def find_task(name: str) -> MemoryTask:
    """Return the task of this name.

    Raises:
        ConfigError: If there is none. The hint lists the names and suggests the most similar one.
    """
    if name not in TASKS:
        hint = f"{did_you_mean(name, TASKS)} Known: {', '.join(TASKS)}.".strip()
        raise ConfigError(f"no memory task named {name!r}", hint)
    return TASKS[name]


class TaskBatches(BatchSource):
    """Endless random batches of a task. A batch depends on the seed and its position alone.

    Args:
        task: The task.
        lag: The lag in tokens.
        batch_size: Sequences of a batch.
        seed: Seed of the sequences.
    """

    def __init__(self, task: MemoryTask, lag: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self.seq_len = len(task.sample(np.random.default_rng(0), lag, 1)[0])
        self.windows_per_epoch = 1 << 40
        self.ids_per_epoch = self.windows_per_epoch * batch_size * self.seq_len
        self.num_ids = self.ids_per_epoch
        self._task, self._lag, self._seed = task, lag, seed

    def num_ids_before(self, position: Position) -> int:
        """Return the number of tokens of the batches before a position."""
        return position.window * self.batch_size * self.seq_len

    def get_batch(self, position: Position) -> Batch:
        """Return the batch at a position."""
        rng = np.random.default_rng([self._seed, position.epoch, position.window])
        inputs, targets, _ = self._task.sample(rng, self._lag, self.batch_size)
        return Batch(inputs, targets, np.ones(self.batch_size, np.bool_))

"""What the ranks other than the leader do: wait for its announcements, and do their part.

A follower writes no files, prints nothing and decides nothing. It leaves signals to the leader: the launcher sends them
to all ranks, and the leader then ends the run in order. A follower ends when the leader has announced the end, or when
the connection to the leader is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chargen.config import DataConfig, ModelConfig, TrainConfig
from chargen.data.batches import build_batches
from chargen.data.dataset import Dataset, prepare_dataset
from chargen.data.token_store import load_encoded_ids, text_key
from chargen.engines.torch_engine import TorchEngine
from chargen.errors import ChargenError, ConfigError, DivergenceError
from chargen.networks.network import Network
from chargen.networks.precision import check_precision
from chargen.networks.torch_runtime import keep_freed_memory, resolve_device
from chargen.schema import format_count
from chargen.text.documents import NONE
from chargen.tokenizers.tokenizer import tokenizer_from_json
from chargen.training.ranks.agreement import Facts, check_agreement
from chargen.training.ranks.group import Command, Ranks
from chargen.training.ranks.launch import local_rank
from chargen.training.ranks.reading import DividedReader
from chargen.training.trainer import Trainer

if TYPE_CHECKING:
    from chargen.training.run import Plan


@dataclass(frozen=True)
class SetUp:
    """What a follower needs to build its network and its batches."""

    tokenizer: dict[str, Any]
    data: dict[str, Any]
    model: dict[str, Any]
    train: dict[str, Any]
    start_ids: list[int]
    text_key: str  #: names the encoded training text in the cache


def check_ranks(ranks: Ranks, facts: Facts) -> None:
    """Check, on the leader, that all ranks agree.

    Raises:
        ConfigError: If they differ.
    """
    if ranks.is_divided:
        ranks.announce(Command.CHECK)
        check_agreement(ranks.collect(facts))


def set_up_ranks(ranks: Ranks, data: Dataset, model: ModelConfig, train: TrainConfig, batch_size: int) -> None:
    """Send the settings of the run to the followers, and wait until each has its training text.

    Args:
        ranks: The ranks.
        data: The data, which the leader has encoded.
        model: The shape of the network.
        train: The training settings.
        batch_size: The batch rows, which the ranks divide among them.

    Raises:
        ConfigError: If there are more ranks than batch rows, or if a rank cannot take part; the message says why.
    """
    if not ranks.is_divided:
        return
    if ranks.size > batch_size:
        raise ConfigError(
            f"{ranks.size} processes cannot divide {format_count(batch_size, 'batch row')} among them",
            "Start fewer processes (--nproc-per-node), or give a larger --batch or a longer text.",
        )
    ranks.announce(Command.SET_UP)
    tokenizer, key = data.tokenizer.to_json(), text_key(data.tokenizer, data.train_text)
    start_ids = data.start_ids.tolist()
    ranks.send(SetUp(tokenizer, data.config.to_json(), model.to_json(), train.to_json(), start_ids, key))
    for _ in ("the first process of each machine encodes the text", "the others open it"):
        for rank, problem in enumerate(ranks.collect("")):
            if problem:
                raise ConfigError(f"rank {rank} cannot take part in the run: {problem}")


class Follower:
    """A process that does what the leader announces.

    Args:
        ranks: The ranks.
        make_plan: Reads the corpus; only the first process of another machine needs it.
        make_facts: Returns the facts of this process; its argument is the plan, or None if the corpus was not read.
    """

    def __init__(self, ranks: Ranks, make_plan: Callable[[], Plan], make_facts: Callable[[Plan | None], Facts]) -> None:
        self._ranks, self._make_plan, self._make_facts = ranks, make_plan, make_facts
        self._plan: Plan | None = None

    def run(self) -> bool:
        """Follow the leader to the end of the run, and return whether it has ended as it should.

        Raises:
            RankLostError: If the connection to the leader is lost.
        """
        while True:
            command, value = self._ranks.next_command()
            if command == Command.END:
                return bool(value)
            if command == Command.CHECK:
                self._check()
            elif command == Command.SET_UP and (built := self._set_up()):
                return follow(self._ranks, *built)

    def _check(self) -> None:
        """Send the facts of this process to the leader."""
        if local_rank() == 0:
            self._plan = self._make_plan()
        self._ranks.collect(self._make_facts(self._plan))

    def _set_up(self) -> tuple[Trainer, DividedReader] | None:
        """Build what the leader's settings need; None if a rank cannot, which the leader reports."""
        setup: SetUp = self._ranks.send(None)
        problem = ""
        try:
            if self._plan is not None:  # the text is in the cache of another machine
                data = DataConfig.from_json(setup.data)
                prepare_dataset(self._plan.corpus, self._plan.val_corpus, data, tokenizer_from_json(setup.tokenizer))
        except ChargenError as error:
            problem = str(error)
        if any(self._ranks.collect(problem)):
            return None
        built = None
        try:
            built = self._build(setup)
        except ChargenError as error:
            problem = str(error)
        return None if any(self._ranks.collect(problem)) else built

    def _build(self, setup: SetUp) -> tuple[Trainer, DividedReader]:
        model, train = ModelConfig.from_json(setup.model), TrainConfig.from_json(setup.train)
        check_precision(train.precision, model.cell_names, train.device)
        has_documents = DataConfig.from_json(setup.data).documents != NONE
        ids = load_encoded_ids(setup.text_key, model.vocab_size)
        batches = build_batches(ids, setup.start_ids[-1], has_documents, train.batch_size, train.seq_len, train.seed)
        keep_freed_memory()
        network = Network(model).to(resolve_device(train.device))
        start_ids = np.array(setup.start_ids, dtype=np.int32)
        reader = DividedReader(TorchEngine(network), start_ids, has_documents, self._ranks)
        return Trainer(network, batches, train, ranks=self._ranks), reader


def follow(ranks: Ranks, trainer: Trainer, reader: DividedReader) -> bool:
    """Train and read texts as the leader announces, until the end of the run; return whether it ends as it should.

    Raises:
        RankLostError: If the connection to the leader is lost.
    """
    while True:
        command, value = ranks.next_command()
        if command == Command.END:
            return bool(value)
        if command == Command.STEP:
            with suppress(DivergenceError):  # the leader has the same loss, and decides what to do
                trainer.train_step(value)
        elif command == Command.STATE:
            trainer.tensors()
        elif command == Command.RESTORE:
            trainer.share_state(None, None)
        elif command == Command.WEIGHTS:
            trainer.share_weights(None)
        elif command == Command.READ:
            reader.read(None)

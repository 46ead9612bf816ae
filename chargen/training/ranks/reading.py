"""Divide the reading of a text among the ranks: each reads some of its parts, or of its documents.

The log probabilities of all parts are put one after another on the leader, which adds them up as a single process does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chargen.engines.interface import Engine
from chargen.tokenizers.tokenizer import Ids
from chargen.training.ranks.group import Command, Ranks
from chargen.training.validation import read_text


@dataclass(frozen=True)
class DividedReader:
    """Reads texts on all ranks, with the network of each."""

    engine: Engine
    start_ids: Ids  #: the token ids that the model reads before a text
    has_documents: bool  #: whether the texts consist of documents
    ranks: Ranks

    def read(self, ids: Ids | None) -> NDArray[np.float64]:
        """Return log p of each token id of a text, [N], in nats, on the leader.

        Args:
            ids: The token ids, [N]; a follower passes None, and its result is undefined.
        """
        self.ranks.announce(Command.READ)
        text = self.ranks.send_arrays(None if ids is None else {"ids": np.asarray(ids)})["ids"]
        own = read_text(self.engine, text, self.start_ids, self.has_documents, self.ranks.part)
        return self.ranks.join_arrays(own)

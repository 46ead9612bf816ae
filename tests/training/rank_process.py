"""A process of `test_ranks.py`: rank 0 trains networks on all ranks and writes what it found; the others follow it.

python rank_process.py RANK SIZE local|gloo STORE OUT CASE...
"""

from __future__ import annotations

import sys
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist

from chargen.cells import CELLS
from chargen.cells.ngram_index import build_index
from chargen.config import ModelConfig, TrainConfig
from chargen.data.batches import build_batches
from chargen.engines.torch_engine import TorchEngine
from chargen.networks.network import Network
from chargen.training.ranks.follower import follow
from chargen.training.ranks.group import ALONE, Command, Ranks
from chargen.training.ranks.reading import DividedReader
from chargen.training.trainer import Trainer

STEPS = 50
ALL_DROPOUTS = {"dropout": 0.2, "weight_dropout": 0.2, "ngram_dropout": 0.3, "ngrams": 3, "ngram_rows": 64}
#: name: (settings of the network, batch rows, whether the text consists of documents)
CASES: dict[str, tuple[dict[str, object], int, bool]] = {
    "gru, every dropout, n-grams": ({"cell": "gru", **ALL_DROPOUTS}, 5, False),
    "members": ({"cell": "mgru", "ensemble_size": 2, **ALL_DROPOUTS}, 4, False),
    "documents": ({"cell": "mingru", "dropout": 0.1, "ngrams": 2, "ngram_rows": 64}, 3, True),
    "index": ({"cell": "mgru", **ALL_DROPOUTS, "ngram_words": 2, "ngram_index": True}, 5, True),
    "a stack": ({"cell": "lstm,rnn", "num_layers": 2, "residual": True, "layer_norm": True}, 4, False),
    "sampled softmax": ({"cell": "gru", "vocab_size": 1200, "dropout": 0.1}, 6, False),
    **{name: ({"cell": name, "dropout": 0.2}, 4, False) for name in CELLS.names()},
}


def build(name: str, ranks: Ranks) -> tuple[Trainer, DividedReader]:
    settings, batch_size, has_documents = CASES[name]
    config = ModelConfig(**{"vocab_size": 12, "hidden_size": 16, "embedding_dim": 8, **settings})  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    ids = rng.integers(0 if has_documents else 2, config.vocab_size, 700)
    if has_documents:
        ids[rng.integers(0, 700, 60)] = 0
        ids[-1] = 0
    batches = build_batches(ids, 1, has_documents, batch_size, 10, seed=3)
    train = TrainConfig(steps=STEPS, batch_size=batch_size, seq_len=10, learning_rate=2e-3, seed=1)
    network = Network(config, torch.Generator().manual_seed(0))
    if config.ngram_index and ranks.rank == 0:  # the others get it with the weights
        words = (np.arange(config.vocab_size) % 3).astype(np.uint8)
        network.set_ngram_index(build_index(config, ids, words), words)
    reader = DividedReader(TorchEngine(network), np.array([1]), has_documents, ranks)
    return Trainer(network, batches, train, ranks=ranks), reader


def lead(name: str, ranks: Ranks) -> dict[str, np.ndarray]:
    """Train, save the state halfway and restore it, read a text, and return everything that was computed."""
    trainer, reader = build(name, ranks)
    if ranks.is_divided:
        trainer.share_weights(trainer.network.export_weights())
    losses = []
    for step in range(STEPS):
        trainer.train_step(step / STEPS)
        losses.append(trainer.recent.pop())
        if step == STEPS // 2:
            trainer.share_state(trainer.tensors(), trainer.counters())
    text = np.random.default_rng(1).integers(0, 12, 3000)
    found = {"losses": np.array(losses), "log probabilities": reader.read(text), **trainer.tensors()}
    ranks.announce(Command.END)
    return found


def main() -> None:
    rank, size = int(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    if size == 1:
        ranks = ALONE
    else:
        store = dist.FileStore(sys.argv[4], size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=60))
        ranks = Ranks(rank, size)
        if sys.argv[3] == "local":
            ranks.connect_locally()
    for number, name in enumerate(sys.argv[6:]):
        if rank == 0:
            np.savez(f"{sys.argv[5]}-{number}.npz", **lead(name, ranks))
        else:
            follow(ranks, *build(name, ranks))
    if size > 1:
        dist.destroy_process_group()  # its threads would otherwise end the process with an error now and then


if __name__ == "__main__":
    main()

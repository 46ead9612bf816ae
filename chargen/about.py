"""The description of a model in its file: the valid keys and values of its JSON (`checkpoint.py`)."""

from __future__ import annotations

from chargen.config import MAX_STEPS
from chargen.schema import Integer, Nullable, Number, Record, Spec, String

NULLABLE_NUMBER = Nullable(Number())
ABOUT_SPEC: Spec = Record(  # how a model was trained; later versions may add keys
    optional={
        "chargen": String(100),
        "corpus": String(),
        "corpus_sha256": String(64, 64),
        "train_chars": Integer(),
        "choice_loss_nats_per_char": NULLABLE_NUMBER,
        "uniform_loss_nats_per_char": NULLABLE_NUMBER,
        "data": Record(),
        "train": Record(),
        "step": Integer(0, MAX_STEPS),
        "result": Record(
            optional={
                "best_step": Integer(0, MAX_STEPS),
                "steps": Integer(0, MAX_STEPS),
                "epochs": NULLABLE_NUMBER,
                "train_loss_nats_per_char": NULLABLE_NUMBER,
                "train_loss_without_dropout_nats_per_char": NULLABLE_NUMBER,
                "val_loss_nats_per_char": NULLABLE_NUMBER,
                "val_bits_per_char": NULLABLE_NUMBER,
                "val_bits_per_byte": NULLABLE_NUMBER,
                "val_perplexity_per_char": NULLABLE_NUMBER,
                "val_first_half_nats_per_char": NULLABLE_NUMBER,
                "val_second_half_nats_per_char": NULLABLE_NUMBER,
                "ngram_5_nats_per_char": NULLABLE_NUMBER,
                "lzma_nats_per_char": NULLABLE_NUMBER,
                "entropy_nats_per_char": NULLABLE_NUMBER,
                "diagnosis": String(),
                "verdict": String(),  # the name of `diagnosis` in earlier versions
            }
        ),
    }
)
MODEL_SPEC: Spec = Record({"config": Record(), "tokenizer": Record({"name": String(100)})}, {"about": ABOUT_SPEC})

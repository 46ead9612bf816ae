"""What a run's numbers mean, in words, and what to try next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chargen.training.reports import Finished

RISEN = 0.02  #: nats per character above the best that say the model has begun to learn the text by heart
WIDE_GAP = 0.25  #: nats per character between training and validation that more regularisation can narrow


def verdict(result: Finished, history: Sequence[Mapping[str, float]], dropout: float) -> tuple[str, tuple[str, ...]]:
    """Return (what happened, what to try next).

    Args:
        result: the run's numbers.
        history: the looks at validation in their order: {"step", "train", "val"}, losses in nats per character.
        dropout: what the run used.
    """
    last = history[-1]
    best = min(look["val"] for look in history)
    gap = result.val_loss_nats_per_char - last["train"]
    risen = last["val"] - best
    entropy = result.entropy_nats_per_char
    baseline = min(result.ngram_5_nats_per_char, result.lzma_nats_per_char)
    advice: list[str] = []
    if result.best_step == 0:
        return (
            "Nothing gained: on this text the model that the run began from is the best still, and was kept.",
            ("A lower rate (--lr), or more text.",),
        )
    if entropy is not None and result.val_loss_nats_per_char - entropy < 0.02 * entropy + 0.005:
        return "The model is as good as this source allows.", ()
    if risen > RISEN:
        said = f"Overfitting: validation was best at step {result.best_step:,}, then rose by {risen:.3f} nats."
        advice.append(f"More dropout (--dropout {min(0.5, dropout + 0.2):.1f}), a smaller --hidden, or more text.")
        advice.append(f"Less time is enough: about {result.best_step:,} of {result.steps:,} steps.")
    elif gap > WIDE_GAP:
        said = f"Fits, with a gap: validation is {gap:.2f} nats above training, and was not rising yet."
        advice.append(f"More dropout (--dropout {min(0.5, dropout + 0.1):.1f}) or more text would narrow it.")
    else:
        above = f"only {gap:.2f} nats above" if gap >= 0.005 else "no higher than"
        said = f"Underfitting: validation is {above} training, and was not rising."
        advice.append("More time (--budget), then a larger --hidden: the text has more to give.")
    if result.val_loss_nats_per_char > baseline:
        advice.append(
            "A 5-gram or a compressor does better still: the text repeats long passages, or the run was too short."
        )
    return said, tuple(advice)

"""Explain the numbers at the end of a training run, and say what would help.

    what the numbers say                                                    what helps
    the entropy of the source is reached, or the text is fully predicted    nothing
    with an initial model: it is still the best one                         a lower learning rate, or more text
    few characters were held out                                            more text
    the run was interrupted                                                 the rest of it
    the model is worse than the frequencies of the characters,
        and so is a 5-gram: the text is random, or its parts differ         nothing
        but a 5-gram is not                                                 more steps, or a lower learning rate
    the validation loss rose, and the training loss with it                 a lower learning rate
    the validation loss rose, while the training loss fell                  the recipe's settings, or a shorter run
    the validation loss was still falling at the end                        a longer run
    it was level, far above the training loss                               the recipe's settings, or more text
    it was level, near the training loss                                    a larger network, if this one is small

The recipe's settings are those that `recipe.py` chooses for the same text and the same number of epochs. Its rules are
measured, so a run that has these settings already is not told to change them. A shorter run is better than the best
model of a run that overfitted, because its learning rate has fallen by then. `benchmarks/LOG.md` has runs in which the
advice was followed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chargen.config import LN2, ModelConfig, TrainConfig
from chargen.schema import format_count
from chargen.training.events import Finished
from chargen.training.validation import Baselines

MAX_RISE = 0.02  #: nats per character; if the last validation loss is further above the best one, it rose
MIN_FALL = 0.015  #: share of the loss; if the last third of the run lowered it by less, it was level
MAX_GAP = 0.15  #: nats per character; a network with a larger gap memorizes its training text
PREDICTED_NATS = 0.01  #: nats per character; with a lower loss there is nothing left to learn
MIN_JUDGED_CHARS = 100  #: validation characters; on fewer, a loss says little
NOTHING_LEARNED = 0.98  #: share of the loss by character frequencies that a model or a 5-gram must fall below
MIN_OVERHEADS = 3  #: a shorter budget is advised if it trains for this many times the overhead; else steps are
LARGER = 1.3  #: factor from which a setting counts as larger or smaller than the recommended one
LESS_DROPOUT = 0.05  #: difference from which a dropout rate counts as lower than the recommended one
UNPREDICTABLE = (
    "A 5-gram, too, predicts the held-out text no better than the frequencies of the characters do: the text is "
    "random, or its parts are of different kinds."
)
NO_SETTING_HELPS = "No setting will help. If the parts differ, give a validation text of the same kind (--val)."


@dataclass(frozen=True)
class Evidence:
    """What is known at the end of a run. Losses are in nats per character."""

    result: Finished
    progress: float  #: completed share of the run, 0 to 1
    overhead_s: float  #: seconds before the first step and after the last one
    history: Sequence[Mapping[str, float]]  #: all validations in order: {"step", "train", "val"}
    val_chars: int  #: characters of the validation text
    baselines: Baselines
    model: ModelConfig
    train: TrainConfig
    recommended_model: ModelConfig  #: by the recipe, for the same text and number of epochs
    recommended_train: TrainConfig
    max_hidden_size: int  #: the largest that the recipe chooses for a text of this length, however long the run is

    @property
    def gap(self) -> float:
        """The validation loss above the training loss, both without dropout."""
        return self.result.val_loss_nats_per_char - self.result.train_loss_without_dropout_nats_per_char

    @property
    def is_useless(self) -> bool:
        """Whether the model predicts the held-out text no better than the frequencies of the characters do."""
        return self.result.val_loss_nats_per_char >= NOTHING_LEARNED * self.baselines.unigram_nats_per_char

    @property
    def rise(self) -> float:
        """The last validation loss above the best one; infinite if the last one was not finite."""
        rise = self.history[-1]["val"] - min(v["val"] for v in self.history if math.isfinite(v["val"]))
        return rise if math.isfinite(rise) else math.inf

    @property
    def fall(self) -> float:
        """How much about the last third of the run lowered the validation loss, as a share of it.

        Infinite if there was only one validation: such a run was short.
        """
        *before, last = self.history
        if not before:
            return math.inf
        nearest = min(before, key=lambda validation: abs(validation["step"] - self.result.steps * 2 / 3))
        return (nearest["val"] - last["val"]) / last["val"]


@dataclass(frozen=True)
class Diagnosis:
    """What happened in a run, and what to try next."""

    summary: str
    advice: tuple[str, ...] = ()


def diagnose(evidence: Evidence) -> Diagnosis:
    """Explain the numbers of a run, and name what would lower its loss, or say that nothing will."""
    for rule in (_nothing_left, _too_little_text, _interrupted, _nothing_learned, _risen):
        found = rule(evidence)
        if found:
            return found
    return _falling_or_level(evidence)


def _nothing_left(evidence: Evidence) -> Diagnosis | None:
    """Recognise runs after which nothing is left to learn."""
    result = evidence.result
    loss, entropy = result.val_loss_nats_per_char, result.entropy_nats_per_char
    if entropy is not None and loss - entropy < 0.02 * entropy + 0.005:
        return Diagnosis("The model reaches the entropy of the source: no better model is possible.")
    if loss < PREDICTED_NATS:
        return Diagnosis("Fully predicted: the held-out text costs almost no bits. There is nothing left to learn.")
    if result.best_step == 0:
        return Diagnosis(
            "No improvement: on this text the initial model is still the best one, so it was kept.",
            (f"Use a lower learning rate (--lr {evidence.train.learning_rate / 10:.1g}) or more text.",),
        )
    return None


def _nothing_learned(evidence: Evidence) -> Diagnosis | None:
    """Recognise runs whose model predicts the held-out text no better than the frequencies of the characters do."""
    result, baselines = evidence.result, evidence.baselines
    if not evidence.is_useless:
        return None
    if _is_unpredictable(evidence) and evidence.rise <= MAX_RISE:
        return Diagnosis(f"Nothing to learn: {UNPREDICTABLE}", (NO_SETTING_HELPS,))
    if result.train_loss_without_dropout_nats_per_char < NOTHING_LEARNED * baselines.unigram_nats_per_char:
        return None  # the model has learned something, which does not carry over
    if result.val_loss_nats_per_char > 1.05 * baselines.uniform_nats_per_char:
        summary = "Diverged: the model is worse than one for which all characters are equally likely."
        return Diagnosis(summary, (f"Use a lower learning rate: {_lower_rate(evidence)}.",))
    steps = format_count(result.steps, "step")
    summary = f"Nothing learned in {steps}: the model is no better than the frequencies of the characters."
    if _is_rate_high(evidence) or evidence.rise > MAX_RISE:
        return Diagnosis(summary, (f"Use a lower learning rate: {_lower_rate(evidence)}.",))
    return Diagnosis(summary, (_longer(evidence, 4.0 if evidence.train.budget_s else max(4.0, 100 / result.steps)),))


def _risen(evidence: Evidence) -> Diagnosis | None:
    """Recognise runs whose validation loss rose after its minimum."""
    result, history = evidence.result, evidence.history
    if evidence.rise <= MAX_RISE:
        return None
    amount = f"by {evidence.rise / LN2:.2f} bits" if math.isfinite(evidence.rise) else "beyond all bounds"
    best = f"the validation loss was lowest at step {result.best_step:,}, then rose {amount}"
    train_at_best = next((v["train"] for v in history if v["step"] == result.best_step), math.nan)
    if math.isinf(evidence.rise) or history[-1]["train"] > train_at_best + MAX_RISE:
        return Diagnosis(
            f"Unstable: {best}, and the training loss rose, too.",
            (f"Use a lower learning rate: {_lower_rate(evidence)}.",),
        )
    summary = f"Overfitting: {best} while the training loss fell."
    if evidence.is_useless and _is_unpredictable(evidence):
        return Diagnosis(f"{summary} {UNPREDICTABLE}", (NO_SETTING_HELPS,))
    settings = _recommended_settings(evidence)
    return Diagnosis(summary, settings or (_shorter(evidence), "Then only more text will help."))


def _interrupted(evidence: Evidence) -> Diagnosis | None:
    if not evidence.result.interrupted:
        return None
    return Diagnosis(
        f"Interrupted after {evidence.progress:.0%} of the run. The learning rate falls until its end, and so does the "
        "loss.",
        (_longer(evidence),),
    )


def _too_little_text(evidence: Evidence) -> Diagnosis | None:
    if evidence.val_chars >= MIN_JUDGED_CHARS:
        return None
    held_out = format_count(evidence.val_chars, "character was", "characters were")
    return Diagnosis(
        f"Too little text to judge: only {held_out} held out, on which a loss says little.",
        ("Give a longer text, or a separate validation text (--val).",),
    )


def _falling_or_level(evidence: Evidence) -> Diagnosis:
    """Explain a run whose last validation was its best one, or nearly so."""
    gap_bits = evidence.gap / LN2
    comparison = f"{gap_bits:.2f} bits above" if gap_bits >= 0.005 else "not above"
    if evidence.fall >= MIN_FALL:
        # With the recipe's settings, a longer run gets more dropout. With others, it may overfit.
        settings = _recommended_settings(evidence) if evidence.gap > MAX_GAP else ()
        return Diagnosis(
            "Underfitting: the validation loss was still falling at the end, and is "
            f"{comparison} the training loss without dropout.",
            (*(settings or (_longer(evidence),)), *_compared_with_baselines(evidence)),
        )
    if evidence.gap > MAX_GAP:
        return Diagnosis(
            f"Limited by the text: the validation loss has stopped falling, {comparison} the training loss without "
            "dropout.",
            _recommended_settings(evidence) or ("Only more text will help; more time will hardly do.",),
        )
    hidden_size = evidence.recommended_model.hidden_size
    if hidden_size >= LARGER * evidence.model.hidden_size:
        advice = (f"Use a larger network: --hidden {hidden_size}.",)
        return Diagnosis(
            f"Limited by the network: the loss has stopped falling, and the validation loss is {comparison} the "
            "training loss.",
            (*advice, *_compared_with_baselines(evidence)),
        )
    return Diagnosis(
        f"Learned: the loss has stopped falling, and the validation loss is {comparison} the training loss. More time "
        "or another setting will hardly help.",
        _compared_with_baselines(evidence),
    )


def _is_unpredictable(evidence: Evidence) -> bool:
    """Return whether a 5-gram predicts the held-out text no better than the frequencies of the characters do."""
    ngram, unigram = evidence.baselines.ngram_5_nats_per_char, evidence.baselines.unigram_nats_per_char
    return ngram is not None and ngram >= NOTHING_LEARNED * unigram


def _recommended_settings(evidence: Evidence) -> tuple[str, ...]:
    """Return the advice to regularize as much as the recipe does, or nothing if the run did so."""
    model, recommended = evidence.model, evidence.recommended_model
    options = []
    if model.dropout < recommended.dropout - LESS_DROPOUT:
        options.append(f"--dropout {recommended.dropout:g}")
    if model.weight_dropout < recommended.weight_dropout - LESS_DROPOUT:
        options.append(f"--weight-dropout {recommended.weight_dropout:g}")
    if model.hidden_size >= LARGER * evidence.max_hidden_size:
        options.append(f"--hidden {evidence.max_hidden_size}")
    return (f"Use the settings that suit this text: {' '.join(options)}.",) if options else ()


def _compared_with_baselines(evidence: Evidence) -> tuple[str, ...]:
    """Return a note if a baseline is better than the model."""
    loss = evidence.result.val_loss_nats_per_char
    ngram, lzma = evidence.baselines.ngram_5_nats_per_char, evidence.baselines.lzma_nats_per_char
    if ngram is None or lzma is None or loss <= min(ngram, lzma):
        return ()
    if lzma < ngram:
        return ("A compressor is better: the text repeats long passages (`chargen corpora check`).",)
    return ("A 5-gram is still better than this model.",)


def _is_rate_high(evidence: Evidence) -> bool:
    return evidence.train.learning_rate >= LARGER * evidence.recommended_train.learning_rate


def _lower_rate(evidence: Evidence) -> str:
    """Return the option for a lower learning rate: the recommended one, or a third of the rate if that is lower."""
    recommended = evidence.recommended_train.learning_rate
    rate = recommended if _is_rate_high(evidence) else evidence.train.learning_rate / 3
    return f"--lr {rate:.1g}"


def _longer(evidence: Evidence, factor: float = 2.0) -> str:
    """Return the advice to continue an interrupted run, or else to train `factor` times as long."""
    if evidence.result.interrupted:
        return f"Continue the run: --resume {evidence.result.run}."
    return f"Train longer: {_length(evidence, factor)}."


def _shorter(evidence: Evidence) -> str:
    """Return the advice to train until midway between the best validation and the next, around the true minimum."""
    best_step, steps = evidence.result.best_step, evidence.result.steps
    next_step = min(v["step"] for v in evidence.history if v["step"] > best_step)
    return f"Train shorter: {_length(evidence, (best_step + next_step) / (2 * steps))}."


def _length(evidence: Evidence, factor: float) -> str:
    """Return the option for a run with `factor` times as much training."""
    train = evidence.train
    if train.budget_s is not None and factor >= 1.0:
        return f"--budget {_duration(factor * train.budget_s)}"
    if train.budget_s is not None:
        overhead_s = min(evidence.overhead_s, train.budget_s)
        training_s = factor * (train.budget_s - overhead_s)
        if training_s >= MIN_OVERHEADS * overhead_s:
            return f"--budget {_duration(overhead_s + training_s)}"
        # The start takes longer on some days than on others, which would decide how many steps are left.
        return f"--steps {max(1, round(factor * evidence.result.steps))}"
    if train.epochs is not None:
        return f"--epochs {factor * train.epochs:.3g}"
    return f"--steps {max(1, round(factor * (train.steps or 1)))}"


def _duration(seconds: float) -> str:
    """Return a duration as an option has it, in whole seconds: 90s, 10m."""
    whole = max(1, round(seconds))
    return f"{whole // 60}m" if whole >= 120 and whole % 60 == 0 else f"{whole}s"

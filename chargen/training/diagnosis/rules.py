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
    settings slow the learning down: a learning rate far from the
        recipe's, far more dropout, a network far too large or small        the recipe's settings
    the run ended before its time, since it had read the text often enough  more text
    the validation loss was still falling at the end                        a longer run
        more than twice as high as the training loss                        or, better, more text
    it was level, far above the training loss                               the recipe's settings, or more text
    it was level, near the training loss                                    a larger network, if this one is small

The recipe's settings are those that `recipe.py` chooses for the same text and length. Its rules are measured, so a run
that has these settings already is not told to change them, and a run with others is not told that nothing will help. So
the rule for a run that ended before its time applies only if no other setting would help, and, if the loss has stopped
falling, no larger network. A shorter run is better than the best model of a run that overfitted, because its learning
rate has fallen by then. `benchmarks/LOG.md` has runs in which the advice was followed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from chargen.config import LN2, format_duration_s
from chargen.schema import format_count
from chargen.training.choices import length_option
from chargen.training.diagnosis.evidence import NOTHING_LEARNED, Evidence
from chargen.training.regularization import MAX_DROPOUT

MAX_RISE = 0.02  #: nats per character; if the last validation loss is further above the best one, it rose
# The loss falls about as the logarithm of the time does. So twice the time lowers it by ln 2 / ln 1.5 = 1.7 times as
# much as the last third of the run did: by at least 0.05 bits in a run that counts as falling.
MIN_FALL = 0.02  #: nats per character; if the last third of the run lowered the loss by less, it was level
MIN_FALL_SHARE = 0.015  #: the same as a share of a small loss
MAX_GAP = 0.15  #: nats per character; a network with a larger gap memorizes its training text
MOST = 0.5  #: share of the validation loss; with a larger gap, more text helps more than anything else
PREDICTED_NATS = 0.01  #: nats per character; with a lower loss there is nothing left to learn
MIN_JUDGED_CHARS = 100  #: validation characters; on fewer, a loss says little
MIN_COMPARED_CHARS = 1000  #: the same for the gain of a shorter run, which is small
LARGER = 1.3  #: factor from which a setting counts as larger or smaller than the recommended one
FAR = 3.0  #: factor from which a learning rate is far from the recommended one; nearer, the loss hardly depends on it
FAR_SIZE = 2.0  #: the same for a hidden size
LESS_DROPOUT = 0.05  #: difference from which a dropout rate counts as lower than the recommended one
OTHER_DROPOUT = 0.1  #: the same for a run whose loss still falls, which a little dropout does not change
MORE_DROPOUT = 0.1  #: difference above the highest rate of the recipe from which dropout slows the learning down
DIFFERENT = 1.5  #: factor between the costs of two parts of the text from which they are of different kinds
LAST_PART = 1 / 3  #: share of the run whose fall of the validation loss is measured
TEXT_USED_UP = "Text used up"
UNPREDICTABLE = (
    "A 5-gram, too, predicts the held-out text no better than the frequencies of the characters do: the text is "
    "random, or its parts are of different kinds."
)
NO_SETTING_HELPS = "No setting will help. If the parts differ, give a validation text of the same kind (--val)."


@dataclass(frozen=True)
class Diagnosis:
    """What happened in a run, and what to try next."""

    summary: str
    advice: tuple[str, ...] = ()


def diagnose(evidence: Evidence) -> Diagnosis:
    """Explain the numbers of a run, and name what would lower its loss, or say that nothing will."""
    rules = (_nothing_left, _too_little_text, _interrupted, _nothing_learned, _risen, _falling_or_level)
    found = next(filter(None, (rule(evidence) for rule in rules)))
    if evidence.result.reached_max_epochs and not found.summary.startswith(TEXT_USED_UP):
        return replace(found, summary=f"{found.summary} The run ended early: {_text_read(evidence)}.")
    return found


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
    nothing_to_learn = Diagnosis(f"Nothing to learn: {UNPREDICTABLE}", (NO_SETTING_HELPS,))
    if result.train_loss_without_dropout_nats_per_char < NOTHING_LEARNED * baselines.unigram_nats_per_char:
        # The model has learned something, which does not carry over.
        return nothing_to_learn if evidence.is_unpredictable and evidence.rise <= MAX_RISE else None
    if evidence.is_unpredictable and NOTHING_LEARNED * result.val_loss_nats_per_char <= baselines.unigram_nats_per_char:
        return nothing_to_learn  # a model that has not reached the frequencies of the characters yet says little
    if result.val_loss_nats_per_char > 1.05 * baselines.uniform_nats_per_char:
        summary = "Diverged: the model is worse than one for which all characters are equally likely."
        return Diagnosis(summary, (f"Use a lower learning rate: {_lower_rate(evidence)}.",))
    steps = format_count(result.steps, "step")
    summary = f"Nothing learned in {steps}: the model is no better than the frequencies of the characters."
    if _is_rate_high(evidence) or evidence.rise > MAX_RISE:
        return Diagnosis(summary, (f"Use a lower learning rate: {_lower_rate(evidence)}.",))
    if _is_rate_too_low(evidence):
        return Diagnosis(summary, (f"Use a higher learning rate: {_recommended_rate(evidence)}.",))
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
    if evidence.is_useless and evidence.is_unpredictable:
        return Diagnosis(f"{summary} {UNPREDICTABLE}", (NO_SETTING_HELPS,))
    settings = _use(_more_regularization(evidence))
    return Diagnosis(summary, settings or (_shorter(evidence), f"Then only more text will help{_chance(evidence)}."))


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
    is_falling, memorizes = _is_falling(evidence), evidence.gap > MAX_GAP
    slow = _faster_learning(evidence)
    regularization = _more_regularization(evidence) if memorizes else {}
    settings = _use({**regularization, **slow})
    notes = (*_compared_with_baselines(evidence), *_different_parts(evidence))
    if evidence.result.reached_max_epochs and not settings and is_falling:
        course = f"was still falling at the end, {comparison} the training loss without dropout"
        return _text_used_up(evidence, course, ("More text will help most.", *notes))
    if is_falling:
        # With the recipe's settings, a longer run gets more dropout. Without dropout, it may overfit.
        mostly_memorizes = evidence.gap > MOST * evidence.history[-1]["val"]
        longer = (_longer(evidence), "More text will help more.") if mostly_memorizes else (_longer(evidence),)
        return Diagnosis(
            "Underfitting: the validation loss was still falling at the end, and is "
            f"{comparison} the training loss without dropout.",
            (*(settings or longer), *notes),
        )
    if slow:
        return Diagnosis(
            f"Limited by the settings: the validation loss has stopped falling, {comparison} the training loss without "
            "dropout, and some settings are far from those that suit this text.",
            (*settings, *notes),
        )
    hidden_size = evidence.recommended_model.hidden_size
    is_small = hidden_size >= (FAR_SIZE if memorizes else LARGER) * evidence.model.hidden_size
    if evidence.result.reached_max_epochs and not settings and memorizes and not is_small:
        course = f"has stopped falling, {comparison} the training loss without dropout"
        return _text_used_up(evidence, course, ("Only more text will help.", *_different_parts(evidence)))
    if memorizes and not is_small:
        return Diagnosis(
            f"Limited by the text: the validation loss has stopped falling, {comparison} the training loss without "
            "dropout.",
            (*(settings or ("Only more text will help; more time will hardly do.",)), *_different_parts(evidence)),
        )
    if is_small:
        return Diagnosis(
            f"Limited by the network: the loss has stopped falling, and the validation loss is {comparison} the "
            "training loss.",
            (f"Use a larger network: --hidden {hidden_size}.", *notes),
        )
    return Diagnosis(
        f"Learned: the loss has stopped falling, and the validation loss is {comparison} the training loss. More time "
        "or another setting will hardly help.",
        notes,
    )


def _text_used_up(evidence: Evidence, course: str, advice: tuple[str, ...]) -> Diagnosis:
    """Return the diagnosis of a run that ended before its time, since it had read its text often enough.

    Args:
        evidence: What is known about the run.
        course: What the validation loss did, after "the validation loss".
        advice: What would help; how to read the text more often is added.
    """
    summary = f"{TEXT_USED_UP}: {_text_read(evidence)}. The validation loss {course}."
    return Diagnosis(summary, (*advice, f"To read this text more often all the same: {_length(evidence, 2.0)}."))


def _text_read(evidence: Evidence) -> str:
    """Return how often a run that ended before its time read the text, and in which part of the time."""
    elapsed, budget = (format_duration_s(round(s)) for s in (evidence.result.elapsed_s, evidence.train.budget_s or 0.0))
    return f"the text was read {format_count(round(evidence.result.epochs), 'time')} in {elapsed} of its {budget}"


def _is_falling(evidence: Evidence) -> bool:
    """Return whether the validation loss was still falling at the end of the run, so that a longer one is better.

    It must have fallen in the second half of the last part, too: else the fall is over, or is noise.
    """
    enough = min(MIN_FALL, MIN_FALL_SHARE * evidence.history[-1]["val"])
    return evidence.fall(LAST_PART) >= enough and evidence.fall(LAST_PART / 2) > 0.0


def _use(settings: dict[str, str]) -> tuple[str, ...]:
    """Return the advice to use these values of options, or nothing if there are none."""
    options = " ".join(f"{name} {value}" for name, value in settings.items())
    return (f"Use the settings that suit this text: {options}.",) if options else ()


def _more_regularization(evidence: Evidence) -> dict[str, str]:
    """Return the options with which a run is regularized as much as by the recipe, where it is regularized less.

    While the loss falls, a little dropout changes it less than a longer run. Only a loss that rose shows that the
    network is too large.
    """
    model, recommended = evidence.model, evidence.recommended_model
    min_difference = OTHER_DROPOUT if _is_falling(evidence) else LESS_DROPOUT
    options = {}
    if model.dropout < recommended.dropout - min_difference:
        options["--dropout"] = f"{recommended.dropout:g}"
    if model.weight_dropout < recommended.weight_dropout - min_difference:
        options["--weight-dropout"] = f"{recommended.weight_dropout:g}"
    if evidence.rise > MAX_RISE and model.hidden_size >= LARGER * evidence.max_hidden_size:
        options["--hidden"] = str(evidence.max_hidden_size)
    return options


def _faster_learning(evidence: Evidence) -> dict[str, str]:
    """Return the options with which a run learns as fast as by the recipe, where it learns much more slowly."""
    model, recommended = evidence.model, evidence.recommended_model
    options = {}
    if _is_rate_too_low(evidence) or _is_rate_high(evidence, FAR):
        options["--lr"] = f"{evidence.recommended_train.learning_rate:g}"
    if model.dropout >= max(MAX_DROPOUT, recommended.dropout) + MORE_DROPOUT:
        options["--dropout"] = f"{recommended.dropout:g}"
    if model.weight_dropout >= max(MAX_DROPOUT, recommended.weight_dropout) + MORE_DROPOUT:
        options["--weight-dropout"] = f"{recommended.weight_dropout:g}"
    smaller, larger = sorted([model.hidden_size, recommended.hidden_size])
    is_timed = evidence.train.budget_s is not None
    if is_timed and _is_falling(evidence) and evidence.is_worse_than_ngram and larger >= FAR_SIZE * smaller:
        options["--hidden"] = str(recommended.hidden_size)
    return options


def _different_parts(evidence: Evidence) -> tuple[str, ...]:
    """Return a note if the parts of the text are of different kinds, so that the loss says little about other texts."""
    first = evidence.result.val_first_half_nats_per_char
    second = evidence.result.val_second_half_nats_per_char
    is_other_kind = evidence.relative_difficulty >= DIFFERENT
    if second is not None and min(first, second) > PREDICTED_NATS:
        is_other_kind = is_other_kind or max(first, second) >= DIFFERENT * min(first, second)
    if not is_other_kind:
        return ()
    return ("The parts of the text are of different kinds: give a validation text of the same kind (--val).",)


def _compared_with_baselines(evidence: Evidence) -> tuple[str, ...]:
    """Return a note if a baseline is better than the model."""
    loss = evidence.result.val_loss_nats_per_char
    ngram, lzma = evidence.baselines.ngram_5_nats_per_char, evidence.baselines.lzma_nats_per_char
    if ngram is None or lzma is None or loss <= min(ngram, lzma):
        return ()
    if lzma < ngram:
        return ("A compressor is better: the text repeats long passages (`chargen corpora check`).",)
    return ("A 5-gram is still better than this model.",)


def _is_rate_high(evidence: Evidence, factor: float = LARGER) -> bool:
    return evidence.train.learning_rate >= factor * evidence.recommended_train.learning_rate


def _is_rate_too_low(evidence: Evidence) -> bool:
    """Return whether the learning rate is far below that for a new network. A model that is continued needs less."""
    return evidence.is_new_network and FAR * evidence.train.learning_rate <= evidence.recommended_train.learning_rate


def _recommended_rate(evidence: Evidence) -> str:
    return f"--lr {evidence.recommended_train.learning_rate:g}"


def _lower_rate(evidence: Evidence) -> str:
    """Return the option for a lower learning rate: the recommended one, or a third of the rate if that is lower."""
    return _recommended_rate(evidence) if _is_rate_high(evidence) else f"--lr {evidence.train.learning_rate / 3:.1g}"


def _longer(evidence: Evidence, factor: float = 2.0) -> str:
    """Return the advice to continue an interrupted run, or else to train `factor` times as long."""
    if evidence.result.interrupted:
        return continue_run(evidence.result.run)
    return f"Train longer: {_length(evidence, factor)}."


def continue_run(run: str) -> str:
    """Return the advice to continue an interrupted run."""
    return f"Continue the run: --resume {run}."


def _chance(evidence: Evidence) -> str:
    """Return, for a small validation text, how large a difference between two losses may be chance."""
    if evidence.val_chars >= MIN_COMPARED_CHARS:
        return ""
    # The standard deviation of the loss of a character is about its mean, and that of a difference is about a third.
    bits = evidence.result.val_loss_nats_per_char / LN2 / math.sqrt(evidence.val_chars) / 3
    return f": of {evidence.val_chars} held-out characters, a difference of {bits:.2f} bits may be chance"


def _shorter(evidence: Evidence) -> str:
    """Return the advice to train until midway between the best validation and the next, around the true minimum."""
    best_step, steps = evidence.result.best_step, evidence.result.steps
    next_step = min(v["step"] for v in evidence.history if v["step"] > best_step)
    return f"Train shorter: {_length(evidence, (best_step + next_step) / (2 * steps))}."


def _length(evidence: Evidence, factor: float) -> str:
    """Return the option for a run that is `factor` times as long, in the unit that ended this one."""
    train = evidence.train
    if evidence.result.reached_max_epochs:
        train = replace(train, budget_s=None, epochs=train.max_epochs, max_epochs=None)
    return length_option(train, factor, evidence.result.steps, evidence.overhead_s)

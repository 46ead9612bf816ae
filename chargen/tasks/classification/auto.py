"""Train a classifier by both methods, and keep the better one: `chargen classify --train DATA --method auto`.

    half of the time  ─▶ encoder     ─▶ log loss on the texts for the choice ─┐
    the rest          ─▶ generative  ─▶ log loss on the texts for the choice ─┴▶ the lower one is kept

The texts for the choice are those that the temperature is fitted to. The last part of the texts, which measures the
classifier, has no part in the choice. The folder of the kept classifier is as if it had been trained alone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from chargen.errors import ChargenError, CorpusError, DivergenceError, StoppedError
from chargen.run_writer import stage_run
from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
from chargen.tasks.classification.encoder import train_encoder
from chargen.tasks.classification.encoder_recipe import ENCODER_SETTINGS
from chargen.tasks.classification.generative import train_generative
from chargen.training.choices import ModelChoices, RunLength
from chargen.training.events import Report
from chargen.training.supervised.loop import FitReport

MIN_SHARE_S = 1.0  #: a method gets at least this time of a budget


@dataclass(frozen=True)
class MethodTrained:
    """One of the methods has ended."""

    method: str  #: "encoder" or "generative"
    trained: TrainedClassifier | None  #: None if it could not be trained
    problem: str = ""  #: why it could not be trained


Step = FitReport | tuple[str, Report] | MethodTrained | TrainedClassifier


def train_both(plan: ClassifierPlan, stop: Callable[[], bool] = lambda: False) -> Iterator[Step]:
    """Train by both methods. Yield their reports, a `MethodTrained` after each, and last the classifier that is kept.

    A method that cannot be trained on these texts is left out, and so is the second one if the first was stopped. If
    the second one is stopped, the first one is kept, and was stopped, too: the choice between both was not made.

    Args:
        plan: Texts and settings. A time budget is that of both methods together; steps and epochs are those of each.
        stop: Returns True when the training is to end.

    Raises:
        ChargenError: If the settings or the disk do not allow it, if no method can be trained, or if the training was
            stopped before there is a classifier.
    """
    plan.split()  # texts that no method can be trained on are refused at once
    with stage_run(plan.name, plan.root) as writer:
        folder = writer.run.folder
        results: list[MethodTrained] = []
        was_stopped = False
        for method, train in (("encoder", train_encoder), ("generative", train_generative)):
            sub_plan = _plan_of(method, replace(plan, name=method, root=folder))
            result = MethodTrained(method, None)
            try:
                for step in train(sub_plan, stop):
                    if isinstance(step, TrainedClassifier):
                        result = MethodTrained(method, step)
                    else:
                        yield step
            except StoppedError:
                if not any(result.trained for result in results):
                    raise
                result = MethodTrained(method, None, "it was stopped")
                was_stopped = True
            except (CorpusError, DivergenceError) as error:
                result = MethodTrained(method, None, error.message)
                failure: ChargenError = error
            results.append(result)
            yield result
            if result.trained and result.trained.was_stopped:
                was_stopped = True
                break
        trained = [result.trained for result in results if result.trained]
        if not trained:
            raise failure
        kept = min(trained, key=lambda each: each.choice_log_loss_nats)
        _keep_only(folder, kept.folder)
        writer.commit()
    yield replace(kept, folder=writer.run.folder.absolute(), was_stopped=was_stopped)


def _plan_of(method: str, plan: ClassifierPlan) -> ClassifierPlan:
    """Return the plan of a method: its part of the budget, and the settings that it has."""
    length, started = plan.length, plan.started
    if length.budget_s is not None:
        elapsed_s = time.perf_counter() - started
        remaining_s = length.budget_s - elapsed_s
        share_s = remaining_s / 2 if method == "encoder" else remaining_s
        length = RunLength(budget_s=max(MIN_SHARE_S, share_s) + elapsed_s)
    model = plan.model
    if method == "encoder":
        model = ModelChoices(**{name: value for name, value in model.chosen().items() if name in ENCODER_SETTINGS})
    return replace(plan, length=length, model=model)


def _keep_only(folder: Path, kept: Path) -> None:
    """Remove everything from a folder but the content of a sub-folder, which takes its place."""
    for entry in list(folder.iterdir()):
        if not entry.is_dir():  # a file manager wrote it
            entry.unlink()
        elif entry.resolve() != kept.resolve():
            shutil.rmtree(entry)
    for entry in list(kept.iterdir()):
        os.rename(entry, folder / entry.name)
    kept.rmdir()

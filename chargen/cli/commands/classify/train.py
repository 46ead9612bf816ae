"""Train a classifier by one of the methods or by both, show the progress, and report how good it is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chargen.cli.main import StopRequest, stop_on_signals
from chargen.config import DEFAULT_BUDGET_S
from chargen.errors import ChargenError
from chargen.schema import format_count, format_number
from chargen.ui.terminal_text import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from chargen.cli.commands.classify.command import ClassifyArguments
    from chargen.tasks.classification.auto import MethodTrained, Step
    from chargen.tasks.classification.classifier import ClassifierPlan, TrainedClassifier
    from chargen.tasks.classification.report import Baseline
    from chargen.ui.console import ProgressBar
    from chargen.ui.supervised import FitDisplay

LOSS_NAME = "log loss in nats"


def train_classifier_on(args: ClassifyArguments, started: float | None = None) -> int:
    """Train a classifier on `args.data`, and print how good it is.

    Args:
        args: The arguments of the command.
        started: When the budget started to count, as a value of `time.perf_counter`; None for now.

    Returns:
        The exit status: 0, or 128 + the signal's number if a signal stopped the training.

    Raises:
        ChargenError: If the texts, the settings or the disk do not allow it.
        Exit: If a signal stopped it before there was a classifier. Its message has been printed.
        UsageError: If a file cannot be written.
    """
    from chargen.cli.commands.classify.report import check_files
    from chargen.ui.console import print_line, stderr_console
    from chargen.ui.output import ignore_closed_output

    begin = time.perf_counter() if started is None else started
    check_files(args)
    method = "encoder" if args.resume else args.method
    console = stderr_console()
    with stop_on_signals() as stop:
        plan = _plan(args, begin)
        with _Display(console, plan) as display:
            trained = display.show_all(_defer_stop(_steps(method, plan, stop.is_set), stop))
    for note in trained.classifier.notes(trained.quality):
        print_line(console, f"note: {note}")
    if trained.was_stopped:
        print_line(console, "note: the training was stopped; the best classifier so far is kept")
    baselines = _baselines(plan, trained)
    with ignore_closed_output():
        _print_result(args, trained, baselines, display.results)
    return stop.status if trained.was_stopped else 0


def _defer_stop(steps: Iterator[Step], stop: StopRequest) -> Iterator[Step]:
    """Yield the steps of a training. From the first one on, a signal asks it to end, and it keeps what it has.

    Before that, a signal ends the command at once, because there is nothing to keep. A generative training keeps
    nothing until all labels have a model.
    """
    from chargen.tasks.classification.classifier import TrainedClassifier

    for step in steps:
        stop.is_deferred = True
        if not isinstance(step, TrainedClassifier):  # after that one, nothing is left to be stopped
            stop.announce()
        yield step


def _print_result(
    args: ClassifyArguments, trained: TrainedClassifier, baselines: Sequence[Baseline], results: Sequence[MethodTrained]
) -> None:
    """Print on stdout how good a classifier is, and where it is."""
    from chargen.cli.commands.classify.report import print_report
    from chargen.ui.console import stdout_console
    from chargen.ui.terminal_text import visible
    from chargen.ui.training import command_line, proposal

    losses = {result.method: _loss_or_problem(result) for result in results}
    more = {
        "classifier": str(trained.folder),
        "method": trained.method,
        "choice_log_loss_nats": trained.choice_log_loss_nats,
        **({"methods": losses} if losses else {}),
        "was_stopped": trained.was_stopped,
    }
    print_report(args, trained.predictions, trained.classifier, baselines, more)
    if args.as_json:
        return
    name = trained.folder.name
    lines = [
        f"The classifier is {trained.folder}",
        *proposal(
            command_line("classify", "-m", name, "a text"),
            command_line("classify", "-m", name, "--explain", "a text"),
        ),
    ]
    for line in lines:
        stdout_console().print(visible(line), soft_wrap=True)


def _plan(args: ClassifyArguments, started: float) -> ClassifierPlan:
    """Read the texts, and return what is trained on them."""
    from chargen.tasks.classification.classifier import ClassifierPlan
    from chargen.tasks.classification.reading.labelled_data import describe_repeated_texts, read_labelled
    from chargen.text.cleaning import CleaningReport
    from chargen.text.readers import corpus_name
    from chargen.training.choices import RunLength

    length = RunLength(budget_s=args.budget, steps=args.steps, epochs=args.epochs)
    if not (length.chosen() or args.resume):
        length = RunLength(budget_s=DEFAULT_BUDGET_S)
    data = Path(args.data or "")
    report = CleaningReport()
    texts = read_labelled(data, args.record_format(), report, args.label_field or "")
    plan = ClassifierPlan(
        texts,
        args.name or corpus_name([str(data)]),
        length,
        args.model_choices(),
        _saved_seed(args.resume) if args.resume else args.seed,
        args.device,
        started,
        encoder=args.encoder_choices(),
        resume=args.resume or "",
    )
    for note in (*report.notes(), *describe_repeated_texts(plan.texts)):
        say(f"note: {note}")
    return plan


def _saved_seed(name: str) -> int:
    """Return the seed of the run to resume, with which its texts were split.

    Raises:
        ModelError: If there is no such run, or it does not train an encoder.
    """
    from chargen.folders import checkpoints_folder
    from chargen.runs import find_run, split_run_path
    from chargen.training.supervised.state import load_supervised_state

    root, name = split_run_path(name, checkpoints_folder())
    return load_supervised_state(find_run(name, root), "encoder").train.seed


def _steps(method: str, plan: ClassifierPlan, stop: Callable[[], bool]) -> Iterator[Step]:
    """Train by a method."""
    if method == "generative":
        from chargen.tasks.classification.generative import train_generative

        return train_generative(plan, stop)
    if method == "encoder":
        from chargen.tasks.classification.encoder import train_encoder

        return train_encoder(plan, stop)
    from chargen.tasks.classification.auto import train_both

    return train_both(plan, stop)


def _loss_or_problem(result: MethodTrained) -> dict[str, Any]:
    if result.trained is None:
        return {"problem": result.problem}
    return {"choice_log_loss_nats": result.trained.choice_log_loss_nats}


class _Display:
    """Shows the training: a bar for the method that is being trained, and a line when it has ended.

    Args:
        console: The console on stderr. The lines have to be printed on that of the bars: then they stand above the bar,
            which is erased at its end. The lines of another console would be erased in its place.
        plan: What is trained.
    """

    def __init__(self, console: Console, plan: ClassifierPlan) -> None:
        self._console, self._plan = console, plan
        self._stack = ExitStack()
        self._fit: FitDisplay | None = None
        self._bar: ProgressBar | None = None
        self._num_done = 0
        self.results: list[MethodTrained] = []  #: the methods that have ended, if there are several

    def __enter__(self) -> _Display:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def show_all(self, steps: Iterator[Step]) -> TrainedClassifier:
        """Show all steps, to the end, and return the classifier."""
        from chargen.tasks.classification.auto import MethodTrained
        from chargen.tasks.classification.classifier import TrainedClassifier

        trained = None
        for step in steps:
            if isinstance(step, TrainedClassifier):
                trained = step
                self._close()
            elif isinstance(step, MethodTrained):
                self.results.append(step)
                self._close()
                self._say_result(step)
            elif isinstance(step, tuple):
                self._show_model(*step)
            else:
                self._show_fit(step)
        assert trained is not None, "the last step is the classifier"
        if self.results:
            self._say(f"kept: {trained.method}")
        return trained

    def _say_result(self, result: MethodTrained) -> None:
        if result.trained is None:
            self._say(f"note: the method {result.method} is left out: {result.problem}")
        else:
            loss = format_number(result.trained.choice_log_loss_nats, 3)
            self._say(f"{result.method}: log loss {loss} nats on the texts that choose the method")

    def _show_fit(self, report: Any) -> None:
        from chargen.ui.supervised import FitDisplay

        if self._fit is None:
            self._fit = self._stack.enter_context(FitDisplay(self._console, LOSS_NAME))
        self._fit.show(report)

    def _show_model(self, label: str, report: Any) -> None:
        """Show a report of the language model of a label."""
        from chargen.ui.console import ProgressBar

        if self._bar is None:
            self._bar = self._stack.enter_context(ProgressBar(self._console, len(self._plan.texts)))
        values = report.to_json()
        if values["event"] == "progress":
            self._bar.show(label, self._num_done + values["progress"])
        elif values["event"] == "finished":
            self._num_done += 1
            self._say(
                f"{label}: {format_count(len(self._plan.texts[label]), 'text')}, "
                f"{format_number(values['val_bits_per_char'], 3)} bits/char on held-out text"
            )
            self._bar.show("evaluating", self._num_done)

    def _say(self, line: str) -> None:
        from chargen.ui.console import print_line

        print_line(self._console, line)

    def _close(self) -> None:
        self._stack.close()
        self._stack, self._fit, self._bar, self._num_done = ExitStack(), None, None, 0


def _baselines(plan: ClassifierPlan, trained: TrainedClassifier) -> Sequence[Baseline]:
    """Return the baseline of scikit-learn, or nothing and a note if it is not installed."""
    from chargen.tasks.classification.baseline import fit_tfidf_baseline
    from chargen.ui.console import status, stderr_console

    training, _, _ = plan.split()
    try:
        with status(stderr_console(), "fitting the baseline: TF-IDF n-grams and logistic regression"):
            baseline = fit_tfidf_baseline(training, trained.predictions, plan.seed)
    except ChargenError as error:
        say(f"note: {error.message}. {error.hint}".strip())
        return ()
    if not baseline.is_complete:
        num_texts = sum(map(len, training.values()))
        say(
            f"note: the baseline reached a limit: it was fitted to {baseline.num_texts:,} of {num_texts:,} texts "
            f"in {format_number(baseline.fit_s, 0)} s"
        )
    return (baseline,)

"""The loop that trains on examples: resume, budget, best weights, and states that do not fit."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chargen.config import TrainConfig
from chargen.errors import DivergenceError, ModelError, StoppedError
from chargen.networks.task_network import TaskNetwork
from chargen.run_writer import create_run, resume_run
from chargen.training.supervised.loop import Fit, FitEvaluated, FitPlan
from chargen.training.supervised.objective import Indices, Objective, shuffled_batches
from chargen.training.supervised.state import load_supervised_state

DATA_SHA256 = "0" * 64


class Line(TaskNetwork):
    """y = w·x + b, with dropout of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 3))
        self.bias = nn.Parameter(torch.zeros(1))

    def export_weights(self) -> dict[str, np.ndarray]:
        return {name: p.detach().numpy().copy() for name, p in self.named_parameters()}

    @torch.no_grad()
    def import_weights(self, weights: Mapping[str, np.ndarray]) -> None:
        for name, parameter in self.named_parameters():
            parameter.copy_(torch.from_numpy(weights[name].copy()))


class Regression(Objective):
    """Fit a line to 100 points, of which 20 more are for validation."""

    def __init__(self, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self._x = torch.randn(120, 3, generator=generator)
        self._y = self._x @ torch.tensor([1.0, -2.0, 0.5]) * scale + 3.0
        self.network, self.num_examples, self.num_validated = Line(), 100, 20

    def batches(self, epoch: int) -> Sequence[Indices]:
        return shuffled_batches(self.num_examples, 16, 0, epoch)

    def loss(self, batch: Indices, generator: torch.Generator) -> Tensor:
        x = self._x[torch.from_numpy(batch)]
        x = x * (torch.rand(x.shape, generator=generator) > 0.1)
        return F.mse_loss(F.linear(x, self.network.weight, self.network.bias)[:, 0], self._y[torch.from_numpy(batch)])

    @torch.no_grad()
    def validation_loss(self) -> float:
        x, y = self._x[100:], self._y[100:]
        return float(F.mse_loss(F.linear(x, self.network.weight, self.network.bias)[:, 0], y))


def plan(
    data_sha256: str = DATA_SHA256, max_epochs: float = math.inf, stop_after: int | None = None, **train: object
) -> FitPlan:
    config = TrainConfig(**{"learning_rate": 0.1, "beta1": 0.9, **train})  # type: ignore[arg-type]
    return FitPlan("line", {"a": 1}, data_sha256, config, time.perf_counter(), max_epochs, stop_after)


def run(root: Path, name: str, fit_plan: FitPlan, resume: bool = False) -> Fit:
    writer = resume_run(name, root) if resume else create_run(name, root=root)
    with writer:
        saved = load_supervised_state(writer.run, "line") if resume else None
        fit = Fit(Regression(), fit_plan, writer, saved)
        list(fit.reports())
        return fit


@pytest.mark.parametrize("stop_after", [1, 6, 7, 20, 36, 37])
def test_a_resumed_run_equals_the_run_that_was_never_stopped(tmp_path: Path, stop_after: int) -> None:
    whole = run(tmp_path, "whole", plan(steps=37))
    run(tmp_path, "parts", plan(steps=37, stop_after=stop_after))
    parts = run(tmp_path, "parts", plan(steps=37), resume=True)
    assert parts.first_step == stop_after
    assert parts.step == whole.step == 37
    assert parts.history == whole.history
    assert parts.best_step == whole.best_step
    for name, weight in whole.objective.network.export_weights().items():
        assert np.array_equal(weight, parts.objective.network.export_weights()[name])


def test_a_run_of_another_device_is_continued_with_dropout_masks_of_its_seed(tmp_path: Path) -> None:
    run(tmp_path, "line", plan(steps=37, stop_after=7))
    with resume_run("line", tmp_path) as writer:
        saved = load_supervised_state(writer.run, "line")
        generator = np.zeros(16, np.uint8)  # the size of the random state on a GPU
        on_gpu = replace(
            saved, train=replace(saved.train, device="cuda"), tensors={**saved.tensors, "generator": generator}
        )
        fit = Fit(Regression(), plan(steps=37), writer, on_gpu)
        list(fit.reports())
    assert (fit.first_step, fit.step) == (7, 37)


def test_it_learns_and_keeps_the_best_weights(tmp_path: Path) -> None:
    fit = run(tmp_path, "line", plan(epochs=60.0))
    assert fit.best_loss == min(validation["val"] for validation in fit.history) < 0.2
    assert fit.objective.validation_loss() == pytest.approx(fit.best_loss, rel=1e-6)
    assert fit.history[0]["val"] > 5.0


def test_a_validation_loss_that_is_not_finite_is_never_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation_loss, first = Regression.validation_loss, [math.nan, math.inf]
    monkeypatch.setattr(Regression, "validation_loss", lambda self: first.pop(0) if first else validation_loss(self))
    fit = run(tmp_path, "line", plan(steps=37))
    best = min(fit.history[2:], key=lambda validation: validation["val"])
    assert (fit.best_loss, fit.best_step) == (best["val"], best["step"])
    assert math.isfinite(fit.best_loss)
    monkeypatch.setattr(Regression, "validation_loss", lambda self: math.nan)
    with pytest.raises(DivergenceError, match="none of its validation losses was a finite number"):
        run(tmp_path, "none", plan(steps=37))
    assert (tmp_path / "none" / "training_state.safetensors").exists()


def test_a_time_budget_ends_with_the_time_or_with_the_epochs(tmp_path: Path) -> None:
    started = time.perf_counter()
    fit = run(tmp_path, "time", plan(budget_s=1.0))
    assert time.perf_counter() - started < 1.5
    assert fit.epoch > 3
    assert run(tmp_path, "epochs", plan(budget_s=60.0, max_epochs=3)).epoch == 3.0


def test_a_budget_that_is_used_up_before_the_first_step_makes_one_step(tmp_path: Path) -> None:
    assert run(tmp_path, "late", plan(budget_s=1e-6)).step == 1


def test_a_stopped_run_keeps_what_it_has_and_can_be_continued(tmp_path: Path) -> None:
    calls = iter([False] * 10 + [True] * 5)
    with create_run("line", root=tmp_path) as writer:
        fit = Fit(Regression(), plan(steps=500), writer)
        reports = list(fit.reports(lambda: next(calls)))
    assert fit.interrupted
    assert fit.step == 10
    assert isinstance(reports[-1], FitEvaluated)
    assert run(tmp_path, "line", plan(steps=500), resume=True).step == 500


def test_a_run_that_is_stopped_before_its_first_step_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoppedError), create_run("line", root=tmp_path) as writer:
        list(Fit(Regression(), plan(steps=5), writer).reports(lambda: True))
    assert not (tmp_path / "line").exists()


def test_divergence_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="step 1"), create_run("line", root=tmp_path) as writer:
        list(Fit(Regression(scale=1e30), plan(steps=5), writer).reports())


def test_states_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    run(tmp_path, "line", plan(steps=9))
    with pytest.raises(ModelError, match="other data"):
        run(tmp_path, "line", plan(data_sha256="1" * 64, steps=9), resume=True)
    with resume_run("line", tmp_path) as writer:
        with pytest.raises(ModelError, match="and not 'encoder'"):
            load_supervised_state(writer.run, "encoder")
        saved = load_supervised_state(writer.run, "line")
        del saved.tensors["exp_avg.weight"]
        with pytest.raises(ModelError, match="does not fit"):
            Fit(Regression(), plan(steps=9), writer, saved)
        writer.run.state_path.unlink()
        with pytest.raises(ModelError, match="no training state"):
            load_supervised_state(writer.run, "line")

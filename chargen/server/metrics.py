"""Counters of a server, in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping

from chargen.server.models import ServedModel

BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)  #: upper limits of histograms


class Histogram:
    """Counts durations by size."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def lines(self, name: str) -> Iterable[str]:
        """Yield the lines of the histogram."""
        total = 0
        for limit, count in zip((*BUCKETS_S, "+Inf"), self.counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{limit}"}} {total}'
        yield f"{name}_sum {self.total_s:.6f}"
        yield f"{name}_count {total}"


class Metrics:
    """Counts requests and their durations. Only the event loop uses it."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._durations, self._first_tokens = Histogram(), Histogram()
        self.num_open = 0  #: requests that are being answered

    def observe_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests[route, status] += 1
        self._durations.observe(seconds)

    def observe_first_token(self, seconds: float | None) -> None:
        """Count the time to the first token of a completion; None if there was none."""
        if seconds is not None:
            self._first_tokens.observe(seconds)

    def to_text(self, models: Iterable[ServedModel]) -> str:
        """Return all counters, with those of the models."""
        models = list(models)
        lines = ["# HELP chargen_requests_total Requests that were answered.", "# TYPE chargen_requests_total counter"]
        for (route, status), count in sorted(self._requests.items()):
            lines.append(f'chargen_requests_total{{route="{_escape(route)}",status="{status}"}} {count}')
        lines += _family("chargen_requests_open", "gauge", "Requests that are being answered.", {"": self.num_open})
        for name, text, histogram in (
            ("chargen_request_seconds", "Time from a request to the end of its response.", self._durations),
            ("chargen_first_token_seconds", "Time from a request to its first token.", self._first_tokens),
        ):
            lines += [f"# HELP {name} {text}", f"# TYPE {name} histogram", *histogram.lines(name)]
        for name, kind, text, attribute in (
            ("chargen_prompt_tokens_total", "counter", "Tokens of prompts that were read.", "num_prompt_tokens"),
            ("chargen_generated_tokens_total", "counter", "Tokens that were generated.", "num_written_tokens"),
            ("chargen_batch_steps_total", "counter", "Steps of the batch.", "num_steps"),
            ("chargen_batch_streams", "gauge", "Streams in the batch.", "num_streams"),
            ("chargen_requests_waiting", "gauge", "Requests that wait for a stream.", "num_waiting"),
        ):
            values = {f'{{model="{_escape(model.id)}"}}': getattr(model.worker, attribute) for model in models}
            lines += _family(name, kind, text, values)
        replaced = {f'{{model="{_escape(model.id)}"}}': int(model.is_replaced) for model in models}
        lines += _family("chargen_model_file_replaced", "gauge", "Whether the file of the model changed.", replaced)
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str, values: Mapping[str, int]) -> list[str]:
    """Return the lines of a metric; the keys are its labels in braces."""
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    return lines + [f"{name}{labels} {value}" for labels, value in values.items()]


def _escape(label: str) -> str:
    """Return the value of a label, escaped."""
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""Sources of text whose entropy is known exactly, to test a whole chain of learning against.

Each is a unifilar automaton: states, and from each state edges (character, next state, probability) of which no two
carry the same character. Text then determines the path, so that with π the stationary distribution over states

    entropy rate = Σ_s π(s) · −Σ_e p(e|s) log p(e|s)          [nats per character]

(Shannon, A Mathematical Theory of Communication, 1948, section 7). No model scores a long text from the source below
this, beyond the sampling error of that text; if one seems to, the future has leaked into its input.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, product

import numpy as np
from numpy.typing import NDArray

Edge = tuple[str, int, float]  #: character, next state, probability


@dataclass(frozen=True)
class Automaton:
    """A unifilar source: `edges[s]` are the ways out of state s; state 0 is where a text begins."""

    edges: tuple[tuple[Edge, ...], ...]

    def generate(self, length: int, rng: np.random.Generator) -> str:
        """Return `length` characters drawn from the source."""
        bounds = [list(accumulate(p for _, _, p in edges))[:-1] for edges in self.edges]
        chars: list[str] = []
        state = 0
        for u in rng.random(length).tolist():
            char, state, _ = self.edges[state][bisect_right(bounds[state], u)]
            chars.append(char)
        return "".join(chars)

    def entropy_nats_per_char(self) -> float:
        """Return the entropy rate, in nats per character."""
        own = [-sum(p * math.log(p) for _, _, p in edges) for edges in self.edges]
        return float(self._stationary() @ np.array(own))

    def log_prob_nats(self, text: str) -> float:
        """Return log p(text) from state 0, in nats; −inf for a text that the source cannot make."""
        total, state = 0.0, 0
        for char in text:
            step = next(((nxt, p) for c, nxt, p in self.edges[state] if c == char), None)
            if step is None:
                return -math.inf
            state, total = step[0], total + math.log(step[1])
        return total

    def _stationary(self) -> NDArray[np.float64]:
        """Solve π P = π, Σ π = 1; averaged over the cycle where the chain is periodic."""
        n = len(self.edges)
        transition = np.zeros((n, n))
        for state, edges in enumerate(self.edges):
            for _, nxt, p in edges:
                transition[state, nxt] += p
        system = np.vstack([transition.T - np.eye(n), np.ones(n)])
        solution: NDArray[np.float64] = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
        return solution


def alphabet() -> Automaton:
    """The letters a to z, over and over: entropy 0."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return Automaton(tuple(((letter, (i + 1) % 26, 1.0),) for i, letter in enumerate(letters)))


def markov(order: int, seed: int = 0, letters: str = "abcdefgh") -> Automaton:
    """A chain of the given order: each context has its own Dirichlet(½) distribution over `letters`."""
    contexts = ["".join(c) for c in product(letters, repeat=order)]
    place = {context: i for i, context in enumerate(contexts)}
    rows = np.random.default_rng(seed).dirichlet([0.5] * len(letters), size=len(contexts))
    rows = 0.99 * rows + 0.01 / len(letters)  # no probability so small that a test corpus never shows it
    return Automaton(
        tuple(
            tuple((c, place[(context + c)[1:]], float(p)) for c, p in zip(letters, rows[i], strict=True))
            for i, context in enumerate(contexts)
        )
    )


def reber() -> Automaton:
    """The embedded Reber grammar, a string a line (Hochreiter & Schmidhuber 1997, section 5.1).

        B ─┬─ T ─ REBER ─ T ─┬─ E ⏎        REBER: B (T S* X | P T* V) … E
           └─ P ─ REBER ─ P ─┘

    What makes it hard: the last but one letter repeats the second, over a string of any length between them.
    """
    # States of the inner grammar: (edges as (char, inner state)); -1 leaves it. Each way out is equally likely.
    inner: list[list[tuple[str, int]]] = [
        [("B", 1)],
        [("T", 2), ("P", 3)],
        [("S", 2), ("X", 4)],
        [("T", 3), ("V", 5)],
        [("X", 3), ("S", 6)],
        [("P", 4), ("V", 6)],
        [("E", -1)],
    ]
    edges: list[tuple[Edge, ...]] = [(("B", 1, 1.0),), (("T", 4, 0.5), ("P", 12, 0.5))]
    edges += [(("E", 3, 1.0),), (("\n", 0, 1.0),)]
    for branch, first in (("T", 4), ("P", 12)):
        for ways in inner:
            p = 1.0 / len(ways)
            edges.append(tuple((c, first + (s if s >= 0 else len(inner)), p) for c, s in ways))
        edges.append(((branch, 2, 1.0),))
    return Automaton(tuple(edges))

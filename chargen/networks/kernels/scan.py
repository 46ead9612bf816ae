"""A parallel scan: all states of a linear recurrence, and its hand-written gradient, which is a scan, too.

    forward     h_t = a_t ∘ h_{t−1} + b_t
    backward    ∂b_t = ∂h_t + a*_{t+1} ∘ ∂b_{t+1}        ∂a_t = ∂b_t ∘ h*_{t−1}        ∂h_0 = a*_1 ∘ ∂b_1

The star is the complex conjugate; for real numbers it changes nothing.

The steps are divided into chunks. All chunks are scanned at once, each as if it started from zero, and the products of
their decays are computed beside it. Then the state is carried from chunk to chunk, and what it adds to every step of a
chunk is the product of the decays up to this step:

    chunk 1   h̃_1 … h̃_L   p_1 … p_L                      h_t = h̃_t + p_t ∘ (the state before the chunk)
    chunk 2   h̃_1 … h̃_L   p_1 … p_L      …

With √T chunks of √T steps, T steps take 2√T small operations instead of T, and each works on √T times as many numbers.
Decays are only multiplied, never divided or taken logarithms of, so a decay of zero is as good as any.

On a CPU, a step that is large enough to keep the cores busy by itself is better taken alone: the chunks cost one more
pass through memory.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_CHUNKED_NUMBERS = 1 << 11  # numbers in a step, up to which chunks are faster on a CPU (measured, see LOG.md)


class LinearScan(torch.autograd.Function):
    """The states of a linear recurrence: (a [T,B,H], b [T,B,H], h_0 [B,H]) → h [T,B,H]; all real or all complex."""

    @staticmethod
    def forward(ctx: Any, decay: Tensor, update: Tensor, initial: Tensor) -> Tensor:
        """Compute all states, and keep what the backward pass needs."""
        states = scan(decay, update, initial)
        ctx.save_for_backward(decay, states, initial)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        decay, states, initial = ctx.saved_tensors
        decay = decay.conj()
        d_update = torch.empty_like(states)
        d_update[-1] = d_states[-1]
        d_update[:-1] = scan(decay[1:], d_states[:-1], d_states[-1], reverse=True)
        d_decay = torch.empty_like(states)
        torch.mul(d_update[1:], states[:-1].conj(), out=d_decay[1:])
        torch.mul(d_update[0], initial.conj(), out=d_decay[0])
        return d_decay, d_update, decay[0] * d_update[0]


def scan(decay: Tensor, update: Tensor, initial: Tensor, reverse: bool = False) -> Tensor:
    """Return the states h_t = a_t ∘ h_{t−1} + b_t of a linear recurrence, [T, B, H].

    Args:
        decay: a, [T, B, H].
        update: b, [T, B, H].
        initial: The state before the first step, [B, H].
        reverse: Whether the recurrence runs from the last step to the first.
    """
    T, B, H = update.shape
    is_small = update.device.type != "cpu" or B * H <= MAX_CHUNKED_NUMBERS
    num_chunks = math.isqrt(T) if is_small else 1
    L = T // max(1, num_chunks)
    rest = T - num_chunks * L  # steps after the last whole chunk; they are taken one by one
    states = torch.empty_like(update)
    if reverse:  # these steps come first
        _scan_steps(decay[T - rest :], update[T - rest :], initial, states[T - rest :], reverse)
        initial = states[T - rest] if rest else initial
    if num_chunks > 1:
        _scan_chunks(decay[: T - rest], update[: T - rest], initial, states[: T - rest], num_chunks, reverse)
    else:
        _scan_steps(decay[: T - rest], update[: T - rest], initial, states[: T - rest], reverse)
    if not reverse and rest:
        _scan_steps(decay[T - rest :], update[T - rest :], states[T - rest - 1], states[T - rest :], reverse)
    return states


def _scan_steps(decay: Tensor, update: Tensor, h: Tensor, out: Tensor, reverse: bool) -> None:
    """Write the states to `out`, step by step along the first axis."""
    steps = list(zip(decay.unbind(), update.unbind(), out.unbind(), strict=True))
    for a, b, h_next in reversed(steps) if reverse else steps:
        h = torch.addcmul(b, a, h, out=h_next)


def _scan_chunks(decay: Tensor, update: Tensor, initial: Tensor, out: Tensor, num_chunks: int, reverse: bool) -> None:
    """Write the states to `out`, with all chunks at once."""
    _, B, H = update.shape
    a, b, states = (x.reshape(num_chunks, -1, B, H).transpose(0, 1) for x in (decay, update, out))  # [L, C, B, H]
    products = torch.empty_like(b)
    zero = torch.zeros_like(b[0])
    _scan_steps(a, b, zero, states, reverse)
    _scan_steps(a, zero.expand_as(b), torch.ones_like(zero), products, reverse)
    last = 0 if reverse else -1  # of a chunk, in the direction of the scan
    starts = torch.empty_like(zero)  # the state before each chunk
    steps = list(zip(products[last].unbind(), states[last].unbind(), starts.unbind(), strict=True))
    h = initial
    for product, local, start in reversed(steps) if reverse else steps:
        start.copy_(h)
        h = torch.addcmul(local, product, h)
    states.addcmul_(products, starts)

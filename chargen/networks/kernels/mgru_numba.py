"""The gradient of the multiplicative gated unit with one compiled pass between two products; see `mgru.py`.

The loops take the rows of a batch one by one, and each loop writes one array. So the compiler can tell that nothing
overlaps, and generates vector instructions. A pass computes a part of the batch rows, or all of them (`threads.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.jit import FOUR, ONE, TWO, float32_row, narrow, njit, sigmoid, widen
from chargen.networks.kernels import Products, run_backward, run_forward, sigmoid_backward, to_array
from chargen.networks.kernels.threads import count_parts, on_threads, rows_of_part

OPTIONS: dict[str, Any] = {"cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**OPTIONS)
def scale(part: int, num_parts: int, t: int, s: Any, ids: Any, hs: Any, us: Any) -> None:
    """Compute 2u_t = s ∘ h_{t−1}."""
    first, last = rows_of_part(part, num_parts, hs.shape[1])
    for b in range(first, last):
        row, u, h = s[ids[t, b]], us[t, b], hs[t, b]
        for i in range(hs.shape[2]):
            u[i] = narrow(row[i] * h[i], u[i])


@njit(**OPTIONS)
def forward_rows(
    part: int, num_parts: int, t: int, products: Any, slice_step: int, row_step: int,
    x: Any, s: Any, ids: Any, bias: Any, zs: Any, qs: Any, hs: Any, us: Any,
) -> None:  # fmt: skip
    """Compute z, q and h_t from the products with 2u_t in `products` (`Products.arrays`), and then 2u_{t+1}."""
    H = hs.shape[2]
    N = products.shape[1]
    S = H // N
    first, last = rows_of_part(part, num_parts, hs.shape[1])
    for b in range(first, last):
        row = x[ids[t, b]]
        for p in range(S):
            i, e = p * N, (p + 1) * N
            p_z = products[p * slice_step + b * row_step]
            p_n = products[(S + p) * slice_step + b * row_step]
            x_z, x_n, b_z, b_n = row[i:e], row[H + i : H + e], bias[i:e], bias[H + i : H + e]
            z, q, h, h_next = zs[t, b, i:e], qs[t, b, i:e], hs[t, b, i:e], hs[t + 1, b, i:e]
            for j in range(N):
                z[j] = sigmoid(widen(p_z[j]) + x_z[j] + b_z[j])
            for j in range(N):
                q[j] = sigmoid(TWO * (widen(p_n[j]) + x_n[j] + b_n[j]))
            for j in range(N):
                n = TWO * q[j] - ONE
                h_next[j] = n + z[j] * (h[j] - n)
    if t + 1 < ids.shape[0]:
        scale(part, num_parts, t + 1, s, ids, hs, us)


@njit(**OPTIONS)
def backward_rows(
    part: int, num_parts: int, t: int, products: Any, slice_step: int, row_step: int,
    s: Any, ids: Any, d_out: Any, zs: Any, qs: Any, hs: Any, d_h: Any, d_a: Any, d_xs: Any, buffers: Any,
) -> None:  # fmt: skip
    """Complete step t, with ∂u in `products`, and start step t − 1: write ∂h_{t−1} to d_h and ∂a_{t−1} to d_a[t − 1].

    The gradients of the input gates and of s are added to d_xs[part], which has one row for each token id; or to
    d_xs[0], if no two positions have the same row.
    """
    T, _, H = d_out.shape
    N = products.shape[1]
    S = H // N
    d_x, buffer = d_xs[part % d_xs.shape[0]], buffers[part]
    first, last = rows_of_part(part, num_parts, hs.shape[1])
    for b in range(first, last):
        for p in range(S):
            i, e = p * N, (p + 1) * N
            dh = d_h[b, i:e]
            if t < T:
                s_row, d_row = s[ids[t, b], i:e], d_x[ids[t, b], 2 * H + i : 2 * H + e]
                z, h, du = zs[t, b, i:e], hs[t, b, i:e], products[p * slice_step + b * row_step]
                for j in range(N):
                    d_row[j] += widen(du[j]) * h[j]
                for j in range(N):
                    dh[j] = dh[j] * z[j] + widen(du[j]) * s_row[j]
            if t > 0:
                out, h, z, q = d_out[t - 1, b, i:e], hs[t - 1, b, i:e], zs[t - 1, b, i:e], qs[t - 1, b, i:e]
                row = float32_row(d_a[t - 1, b], buffer)
                d_z, d_n = row[i:e], row[H + i : H + e]
                for j in range(N):
                    dh[j] += out[j]
                for j in range(N):
                    d_z[j] = dh[j] * (h[j] - (TWO * q[j] - ONE)) * z[j] * (ONE - z[j])
                for j in range(N):
                    d_n[j] = dh[j] * FOUR * (ONE - z[j]) * q[j] * (ONE - q[j])
        if t > 0:
            x_row, a_row = d_x[ids[t - 1, b], : 2 * H], d_a[t - 1, b]
            gradient = float32_row(a_row, buffer)
            for k in range(2 * H):
                x_row[k] += gradient[k]
            if a_row.itemsize < gradient.itemsize:
                for k in range(2 * H):
                    a_row[k] = narrow(gradient[k], a_row[k])


class MGRUFunction(torch.autograd.Function):
    """A layer of the multiplicative gated unit over a window, with its hand-written gradient in compiled passes.

    (x [V,3H], ids [T,B], h [B,H], weight_hh [2H,H], bias_hh [2H], is_shared, dtype)
    → (outputs [T,B,H], h [B,H]); all float32.

    Row `ids[t, b]` of x has the input gates of stream b at step t. s = 2σ(last H numbers) is computed once for each row
    of x. `us` holds 2u. `is_shared`: whether two positions may have the same row. `dtype` is that of the products.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        ids: Tensor,
        h: Tensor,
        weight_hh: Tensor,
        bias_hh: Tensor,
        is_shared: bool,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Run the layer over a window, and keep what the backward pass needs."""
        (T, B), H = ids.shape, h.shape[1]
        weight = weight_hh.to(dtype)
        products = Products.forward(weight, B)
        zs, qs, hs = h.new_empty(T, B, H), h.new_empty(T, B, H), h.new_empty(T + 1, B, H)
        us = weight.new_empty(T, B, H)
        hs[0] = h
        s = torch.sigmoid(x[:, 2 * H :]).mul_(2.0)
        arrays = [to_array(part) for part in (x, s, ids, bias_hh, zs, qs, hs, us)]
        arguments = (*products.arrays(H), *arrays)
        scale(0, 1, 0, *arrays[1:3], *arrays[6:])
        with on_threads(forward_rows, count_parts(B, H)) as step:
            run_forward(step, products, us, arguments)
        ctx.save_for_backward(s, ids, zs, qs, us, hs, weight)
        ctx.is_shared = is_shared
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        s, ids, zs, qs, us, hs, weight = ctx.saved_tensors
        T, B, H = d_outputs.shape
        products = Products.backward(weight, B)
        num_parts = count_parts(B, H)
        d_a, d_h = us.new_empty(T, B, 2 * H), d_last.contiguous().clone()
        d_xs = s.new_zeros(num_parts if ctx.is_shared else 1, len(s), 3 * H)
        parts = (s, ids, d_outputs.contiguous(), zs, qs, hs, d_h, d_a, d_xs, s.new_empty(num_parts, 2 * H))
        arguments = (*products.arrays(H), *(to_array(part) for part in parts))
        with on_threads(backward_rows, num_parts) as step:
            run_backward(step, products, d_a, arguments)
        d_x = d_xs[0] if len(d_xs) == 1 else d_xs.sum(0)
        d_bias = d_x[:, : 2 * H].sum(0)
        sigmoid_backward(2.0 * d_x[:, 2 * H :], 0.5 * s, out=d_x[:, 2 * H :])
        d_weight = (d_a.view(T * B, 2 * H).t() @ us.view(T * B, H)).float()
        return d_x, None, d_h, d_weight, d_bias, None, None

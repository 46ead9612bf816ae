"""The gradient of the GRU with one compiled pass between two products; `gru.py` has the equations.

`mgru_numba.py` explains the form of the loops.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from chargen.jit import ONE, float32_row, narrow, njit, sigmoid, tanh, widen
from chargen.networks.kernels import Products, run_backward, run_forward, to_array
from chargen.networks.kernels.threads import count_parts, on_threads, rows_of_part

OPTIONS: dict[str, Any] = {"cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**OPTIONS)
def forward_rows(
    part: int, num_parts: int, t: int, products: Any, slice_step: int, row_step: int,
    x: Any, ids: Any, bias: Any, rs: Any, zs: Any, ms: Any, ns: Any, hs: Any, vectors: Any,
) -> None:  # fmt: skip
    """Compute r, z, m, n and h_t from the products with h_{t−1} in `products` (`Products.arrays`).

    With products in bf16, `vectors` gets the rounded h_t. With products in float32 it is a part of `hs`.
    """
    T, _, H = rs.shape
    N = products.shape[1]
    S = H // N
    first, last = rows_of_part(part, num_parts, hs.shape[1])
    for b in range(first, last):
        row = x[ids[t, b]]
        for p in range(S):
            i, e = p * N, (p + 1) * N
            p_r = products[p * slice_step + b * row_step]
            p_z = products[(S + p) * slice_step + b * row_step]
            p_m = products[(2 * S + p) * slice_step + b * row_step]
            x_r, x_z, x_n = row[i:e], row[H + i : H + e], row[2 * H + i : 2 * H + e]
            b_r, b_z, b_n = bias[i:e], bias[H + i : H + e], bias[2 * H + i : 2 * H + e]
            r, z, m, n = rs[t, b, i:e], zs[t, b, i:e], ms[t, b, i:e], ns[t, b, i:e]
            h, h_next = hs[t, b, i:e], hs[t + 1, b, i:e]
            for j in range(N):
                r[j] = sigmoid(widen(p_r[j]) + x_r[j] + b_r[j])
            for j in range(N):
                z[j] = sigmoid(widen(p_z[j]) + x_z[j] + b_z[j])
            for j in range(N):
                m[j] = widen(p_m[j]) + b_n[j]
            for j in range(N):
                n[j] = tanh(x_n[j] + r[j] * m[j])
            for j in range(N):
                h_next[j] = n[j] + z[j] * (h[j] - n[j])
            if vectors.itemsize < hs.itemsize and t + 1 < T:
                vector = vectors[t + 1, b, i:e]
                for j in range(N):
                    vector[j] = narrow(h_next[j], vector[j])


@njit(**OPTIONS)
def backward_rows(
    part: int, num_parts: int, t: int, products: Any, slice_step: int, row_step: int, ids: Any, d_out: Any,
    rs: Any, zs: Any, ms: Any, ns: Any, hs: Any, d_h: Any, d_a: Any, d_xs: Any, d_biases: Any, buffers: Any,
) -> None:  # fmt: skip
    """Complete step t, with Wᵀ ∂a in `products`, and start step t − 1: write ∂h_{t−1} to d_h and its ∂a to d_a[t − 1].

    The gradients of the input gates are added to d_xs[part], which has one row for each token id; or to d_xs[0], if no
    two positions have the same row. ∂m is added to d_biases[part].
    """
    T, _, H = d_out.shape
    N = products.shape[1]
    S = H // N
    d_x, d_bias, buffer = d_xs[part % d_xs.shape[0]], d_biases[part], buffers[part]
    first, last = rows_of_part(part, num_parts, hs.shape[1])
    for b in range(first, last):
        for p in range(S):
            i, e = p * N, (p + 1) * N
            dh = d_h[b, i:e]
            if t < T:
                z, du = zs[t, b, i:e], products[p * slice_step + b * row_step]
                for j in range(N):
                    dh[j] = dh[j] * z[j] + widen(du[j])
            if t > 0:
                out, h, n = d_out[t - 1, b, i:e], hs[t - 1, b, i:e], ns[t - 1, b, i:e]
                r, z, m, d_b = rs[t - 1, b, i:e], zs[t - 1, b, i:e], ms[t - 1, b, i:e], d_bias[i:e]
                row = float32_row(d_a[t - 1, b], buffer)
                a_r, a_z, a_m = row[i:e], row[H + i : H + e], row[2 * H + i : 2 * H + e]
                x_n = d_x[ids[t - 1, b], 2 * H + i : 2 * H + e]
                for j in range(N):
                    dh[j] += out[j]
                for j in range(N):  # this is ∂n'; a later loop multiplies it with r, which gives ∂m
                    a_m[j] = dh[j] * (ONE - z[j]) * (ONE - n[j] * n[j])
                for j in range(N):
                    x_n[j] += a_m[j]
                for j in range(N):
                    a_r[j] = a_m[j] * m[j] * r[j] * (ONE - r[j])
                for j in range(N):
                    a_m[j] *= r[j]
                for j in range(N):
                    d_b[j] += a_m[j]
                for j in range(N):
                    a_z[j] = dh[j] * (h[j] - n[j]) * z[j] * (ONE - z[j])
        if t > 0:
            x_row, a_row = d_x[ids[t - 1, b], : 2 * H], d_a[t - 1, b]
            gradient = float32_row(a_row, buffer)
            for k in range(2 * H):
                x_row[k] += gradient[k]
            if a_row.itemsize < gradient.itemsize:
                for k in range(3 * H):
                    a_row[k] = narrow(gradient[k], a_row[k])


class GRUFunction(torch.autograd.Function):
    """A layer of the GRU over a window, with its hand-written gradient in compiled passes.

    (x [V,3H], ids [T,B], h [B,H], weight_hh [3H,H], bias_hh [3H], is_shared, dtype)
    → (outputs [T,B,H], h [B,H]); all float32.

    Row `ids[t, b]` of x has the input gates of stream b at step t. `is_shared`: whether two positions may have
    the same row. `dtype` is that of the products.
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
        rs, zs, ms, ns = (h.new_empty(T, B, H) for _ in range(4))
        hs = h.new_empty(T + 1, B, H)
        hs[0] = h
        vectors = hs[:-1]
        if dtype != hs.dtype:
            vectors = weight.new_empty(T, B, H)
            vectors[0] = h
        arrays = (to_array(part) for part in (x, ids, bias_hh, rs, zs, ms, ns, hs, vectors))
        with on_threads(forward_rows, count_parts(B, H)) as step:
            run_forward(step, products, vectors, (*products.arrays(H), *arrays))
        ctx.save_for_backward(x, ids, rs, zs, ms, ns, hs, vectors, weight)
        ctx.is_shared = is_shared
        return hs[1:], hs[T].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the inputs of `forward`, in the same order."""
        x, ids, rs, zs, ms, ns, hs, vectors, weight = ctx.saved_tensors
        T, B, H = d_outputs.shape
        products = Products.backward(weight, B)
        num_parts = count_parts(B, H)
        d_a, d_h = vectors.new_empty(T, B, 3 * H), d_last.contiguous().clone()
        d_xs = x.new_zeros(num_parts if ctx.is_shared else 1, *x.shape)
        d_biases, buffers = x.new_zeros(num_parts, H), x.new_empty(num_parts, 3 * H)
        parts = (ids, d_outputs.contiguous(), rs, zs, ms, ns, hs, d_h, d_a, d_xs, d_biases, buffers)
        arrays = (to_array(part) for part in parts)
        with on_threads(backward_rows, num_parts) as step:
            run_backward(step, products, d_a, (*products.arrays(H), *arrays))
        d_weight = (d_a.view(T * B, 3 * H).t() @ vectors.reshape(T * B, H)).float()
        d_x = d_xs[0] if len(d_xs) == 1 else d_xs.sum(0)
        return d_x, None, d_h, d_weight, torch.cat([d_x[:, : 2 * H].sum(0), d_biases.sum(0)]), None, None

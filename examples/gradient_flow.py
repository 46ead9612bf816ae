"""How far back a gradient gets: the norm of ∂h⟨t⟩/∂h⟨t−k⟩ for plain recurrent networks and for LSTMs, in NumPy alone.

    python examples/gradient_flow.py gradient-flow.svg

The chain rule gives a product with one matrix for each step, the Jacobian J of the step:

    ∂h⟨t⟩/∂h⟨t−k⟩ = J⟨t⟩ J⟨t−1⟩ … J⟨t−k+1⟩        for h⟨t⟩ = tanh(W h⟨t−1⟩ + x⟨t⟩):   J⟨t⟩ = diag(1 − h⟨t⟩²) W

The norm is the largest singular value: the factor by which the most favourable change of the state arrives k steps
later. Below 1 to the power of k it vanishes, above 1 it explodes. The state of an LSTM is the pair (h, c); its
Jacobian contains diag(f), the forget gate, which no matrix multiplies. Networks are random; nothing is trained.
"""

import argparse
import math
from pathlib import Path

import numpy as np

H, STEPS, RUNS = 32, 100, 5  # hidden units, the largest k, and the number of random networks of each kind
SHOWN = (1, 5, 10, 20, 50, 100)  # the k of the printed table
INPUT_DEVIATION = 0.1
COLOURS = ("#0072b2", "#009e73", "#d55e00", "#cc79a7", "#9a7d0a")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 70, 210, 40, 55  # of the picture and its margins, in pixels


def random_orthogonal(rng):
    """Return a random rotation [H, H]: it changes the length of no vector."""
    return np.linalg.qr(rng.normal(size=(H, H)))[0]


def rnn_step(W, x, h):
    """Return the next state h of a plain network, and the Jacobian diag(1 − h²) W [H, H]."""
    h = np.tanh(W @ h + x)
    return h, (1 - h**2)[:, None] * W


def sigmoid(x):
    """Return σ(x)."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def lstm_step(W, b, x, state):
    """Return the next state (h, c) [2H] of an LSTM, and its Jacobian [2H, 2H].

    Args:
        W: Recurrent weights [4H, H] of the gates i, f, g, o.
        b: Biases [4H].
        x: What the input adds to the gates, [4H].
        state: h and c, one after the other.
    """
    h, c = np.split(state, 2)
    W_i, W_f, W_g, W_o = np.split(W, 4)
    z_i, z_f, z_g, z_o = np.split(W @ h + b + x, 4)
    i, f, g, o = sigmoid(z_i), sigmoid(z_f), np.tanh(z_g), sigmoid(z_o)
    c_new = f * c + i * g
    tanh_c = np.tanh(c_new)

    def rows(d, matrix):  # diag(d) @ matrix
        return d[:, None] * matrix

    dc_dh = rows(g * i * (1 - i), W_i) + rows(c * f * (1 - f), W_f) + rows(i * (1 - g**2), W_g)
    dc_dc = np.diag(f)
    through_c = o * (1 - tanh_c**2)  # ∂h/∂c of the same step
    dh_dh = rows(through_c, dc_dh) + rows(tanh_c * o * (1 - o), W_o)
    dh_dc = rows(through_c, dc_dc)
    return np.concatenate([o * tanh_c, c_new]), np.block([[dh_dh, dh_dc], [dc_dh, dc_dc]])


def networks(rng):
    """Return the step functions by name: (rng, state) → (state, Jacobian), each with the size of its state."""
    Q = random_orthogonal(rng)
    W_lstm = rng.uniform(-1, 1, size=(4 * H, H)) / np.sqrt(H)  # as PyTorch initialises it

    def plain(W):
        return lambda rng, h: rnn_step(W, INPUT_DEVIATION * rng.normal(size=H), h), H

    def lstm(forget_bias):
        b = np.concatenate([np.zeros(H), np.full(H, forget_bias), np.zeros(2 * H)])
        return lambda rng, s: lstm_step(W_lstm, b, INPUT_DEVIATION * rng.normal(size=4 * H), s), 2 * H

    return {
        "plain, W = 0.7 · rotation": plain(0.7 * Q),
        "plain, W = identity": plain(np.eye(H)),
        "plain, W = 2 · random": plain(2 * rng.normal(size=(H, H)) / np.sqrt(H)),
        "LSTM, forget bias 1": lstm(1.0),
        "LSTM, forget bias 5": lstm(5.0),
    }


def jacobian_norms(step, size, rng):
    """Return the norms of ∂h⟨t⟩/∂h⟨t−k⟩ for k = 1 … STEPS, [STEPS]."""
    state = np.zeros(size)
    for _ in range(50):  # away from the state of zeros
        state, _ = step(rng, state)
    product, norms = np.eye(size), []
    for _ in range(STEPS):
        state, jacobian = step(rng, state)
        product = jacobian @ product
        norms.append(np.linalg.norm(product, 2))
    return np.array(norms)


def measure():
    """Return the median norms of each kind of network over RUNS random networks, {name: [STEPS]}."""
    runs = []
    for seed in range(RUNS):
        rng = np.random.default_rng(seed)
        runs.append({name: jacobian_norms(*network, rng) for name, network in networks(rng).items()})
    return {name: np.median([run[name] for run in runs], axis=0) for name in runs[0]}


def draw(norms):
    """Return an SVG of the norms against k, on a logarithmic axis; its own background suits light and dark pages.

    Args:
        norms: The curves by name, each [STEPS].
    """
    lowest = max(-16, math.floor(min(np.log10(v.min()) for v in norms.values())))
    highest = math.ceil(max(np.log10(v.max()) for v in norms.values()))

    def x_of(k):
        return LEFT + (WIDTH - LEFT - RIGHT) * k / STEPS

    def y_of(norm):
        return TOP + (HEIGHT - TOP - BOTTOM) * (highest - max(lowest, math.log10(norm))) / (highest - lowest)

    def text(x, y, content, anchor="middle", colour="#333", more=""):
        return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}"{more}>{content}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fafafa"/>',
        text((LEFT + WIDTH - RIGHT) / 2, 24, "How far back a gradient gets", more=' font-weight="bold"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, "distance k (steps)"),
        text(
            0,
            0,
            "norm of ∂h(t) / ∂h(t−k)",
            more=f' transform="translate(20 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"',
        ),
    ]
    for power in range(highest, lowest - 1, -2):
        y = y_of(10.0**power)
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(text(LEFT - 8, y + 4, f'10<tspan dy="-5" font-size="9">{power}</tspan>', "end"))
    for k in range(0, STEPS + 1, 20):
        parts.append(f'<path d="M{x_of(k):.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        parts.append(text(x_of(k), HEIGHT - BOTTOM + 18, k))
    label_y = -math.inf
    for (name, values), colour in sorted(zip(norms.items(), COLOURS, strict=True), key=lambda pair: -pair[0][1][-1]):
        points = " ".join(f"{x_of(k):.1f},{y_of(v):.1f}" for k, v in enumerate(values, 1))
        label_y = max(label_y + 18, y_of(values[-1]) + 4)  # names stand at the ends of their curves, not on each other
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(text(WIDTH - RIGHT + 8, label_y, name, "start", colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def main():
    """Print the table, and write the picture if a file is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("svg", nargs="?", type=Path, help="the file that the picture is written to")
    options = parser.parse_args()
    norms = measure()
    print(f"{'norm of ∂h(t)/∂h(t−k)  k =':26}", *(f"{k:8}" for k in SHOWN))
    for name, values in norms.items():
        print(f"{name:26}", *(f"{values[k - 1]:8.1e}" for k in SHOWN))
    if options.svg:
        options.svg.write_text(draw(norms), encoding="utf-8")


if __name__ == "__main__":
    main()

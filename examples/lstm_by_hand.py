"""An LSTM with gradients by hand in NumPy alone; compare it with min_char_rnn.py, which is the plain network.

    python examples/lstm_by_hand.py book.txt --seconds 300     # without a file, it learns its own source code

The state has two parts, h and c. At step t, the network reads the character x⟨t⟩ and predicts the next one:

    i = σ(…)      input gate: what is written                 c⟨t⟩ = f ∘ c⟨t−1⟩ + i ∘ g
    f = σ(…)      forget gate: what is kept                   h⟨t⟩ = o ∘ tanh(c⟨t⟩)
    g = tanh(…)   candidate: what could be written            ŷ⟨t⟩ = softmax(W_y h⟨t⟩ + b_y)
    o = σ(…)      output gate: what is shown                  … is W_x x⟨t⟩ + W_h h⟨t−1⟩ + b, with weights of its own

The gradient of c goes to the step before through f alone: ∂c⟨t−1⟩ = f ∘ ∂c⟨t⟩. No matrix and no tanh make it vanish
while the forget gate is near 1. Hochreiter & Schmidhuber (1997); the forget gate is by Gers et al. (2000).
"""

import argparse
import time
from pathlib import Path

import numpy as np

B, T, H, LEARNING_RATE, MAX_NORM = 16, 32, 192, 0.02, 1.0  # rows, steps of a window, hidden units
RESET_RATE = 0.02  # the share of rows that start again from a state of zeros, in each window
rng = np.random.default_rng(1)


def sigmoid(x):
    """Return σ(x) = (1 + tanh(x/2)) / 2, which cannot overflow."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def initial_params(V, H, dtype=np.float32):
    """Return the weights for V characters and H hidden units. The gates are stacked in the order i, f, g, o."""
    shapes = {"W_x": (4 * H, V), "W_h": (4 * H, H), "W_y": (V, H), "b": (4 * H,), "b_y": (V,)}
    p = {k: (rng.normal(size=s) * (len(s) - 1) / np.sqrt(s[-1])).astype(dtype) for k, s in shapes.items()}
    p["b"][H : 2 * H] = 1.0  # the forget gate starts at σ(1) = 0.73: a new network remembers for some steps
    return p


def forward(p, x, h0, c0):
    """Run the network over a window.

    Args:
        p: The weights.
        x: One-hot inputs [T, B, V].
        h0: The state before the window, [B, H].
        c0: Its cell state, [B, H].

    Returns:
        h and c [T+1, B, H], which start with h0 and c0; the gates [T, B, 4H]; and the probabilities ŷ [T, B, V].
    """
    H = h0.shape[-1]
    gates = x @ p["W_x"].T + p["b"]  # does not depend on the state, so all steps at once
    h, c = np.empty((2, len(x) + 1, *h0.shape), h0.dtype)
    h[0], c[0] = h0, c0
    for t in range(len(x)):
        a = gates[t] + h[t] @ p["W_h"].T
        i, f, g, o = sigmoid(a[:, :H]), sigmoid(a[:, H : 2 * H]), np.tanh(a[:, 2 * H : 3 * H]), sigmoid(a[:, 3 * H :])
        gates[t] = np.concatenate([i, f, g, o], axis=-1)
        c[t + 1] = f * c[t] + i * g
        h[t + 1] = o * np.tanh(c[t + 1])
    logits = h[1:] @ p["W_y"].T + p["b_y"]
    exp = np.exp(logits - logits.max(-1, keepdims=True))
    return h, c, gates, exp / exp.sum(-1, keepdims=True)


def mean_loss(y, targets):
    """Return the cross-entropy in nats per character: the mean of −log ŷ of the targets [T, B]."""
    return -np.log(np.take_along_axis(y, targets[..., None], -1)).mean()


def backward(p, x, h, c, gates, y, targets):
    """Return the gradients of the mean loss with respect to the weights, x [T, B, V], h0 [B, H] and c0 [B, H]."""
    dlogits = (y - np.eye(y.shape[-1], dtype=y.dtype)[targets]) / targets.size  # softmax with cross-entropy: ŷ − y
    dz = np.empty_like(gates)  # the gradients in front of σ and tanh, [T, B, 4H]
    dh_next, dc_next = np.zeros_like(h[0]), np.zeros_like(c[0])  # what the state gets from step t + 1
    for t in reversed(range(len(x))):
        i, f, g, o = np.split(gates[t], 4, axis=-1)
        tanh_c = np.tanh(c[t + 1])
        dh = dlogits[t] @ p["W_y"] + dh_next
        dc = dh * o * (1 - tanh_c**2) + dc_next  # c⟨t⟩ acts on h⟨t⟩ and on c⟨t+1⟩: the sum of both
        dz_i = dc * g * i * (1 - i)  # σ′ = σ (1 − σ)
        dz_f = dc * c[t] * f * (1 - f)
        dz_g = dc * i * (1 - g**2)  # tanh′ = 1 − tanh²
        dz_o = dh * tanh_c * o * (1 - o)
        dz[t] = np.concatenate([dz_i, dz_f, dz_g, dz_o], axis=-1)
        dh_next, dc_next = dz[t] @ p["W_h"], dc * f  # one step back in time
    axes = ([0, 1], [0, 1])  # all steps and rows share the weights, so their gradients are summed over both
    grads = {"W_x": np.tensordot(dz, x, axes), "W_h": np.tensordot(dz, h[:-1], axes), "b": dz.sum((0, 1))}
    grads |= {"W_y": np.tensordot(dlogits, h[1:], axes), "b_y": dlogits.sum((0, 1))}
    return grads | {"x": dz @ p["W_x"], "h0": dh_next, "c0": dc_next}


def check_gradients(epsilon=1e-5):
    """Yield the relative error of each gradient of a small network against (L(w + ε) − L(w − ε)) / 2ε."""
    p, targets = initial_params(5, 7, np.float64), rng.integers(0, 5, (6, 3))
    inputs = {"x": rng.normal(size=(6, 3, 5)), "h0": rng.normal(size=(3, 7)), "c0": rng.normal(size=(3, 7))}
    grads = backward(p, inputs["x"], *forward(p, **inputs), targets)
    for name, w in (p | inputs).items():
        numerical = np.zeros_like(w)
        for i in np.ndindex(w.shape):
            value = w[i]
            for sign in (+1, -1):
                w[i] = value + sign * epsilon
                numerical[i] += sign * mean_loss(forward(p, **inputs)[-1], targets) / (2 * epsilon)
            w[i] = value
        yield name, np.linalg.norm(grads[name] - numerical) / np.linalg.norm(numerical)


def train(p, ids, seconds):
    """Train the weights p on the character numbers ids for a time, with Adagrad, and print the loss."""
    if len(ids) < B * (T + 2):
        raise SystemExit(f"The text is too short: give at least {B * (T + 2) * 10 // 9 + 1:,} characters.")
    rows, one_hot = ids[: len(ids) // B * B].reshape(B, -1).T, np.eye(len(p["b_y"]), dtype=np.float32)
    sums = {name: np.full_like(w, 1e-8) for name, w in p.items()}  # of the squared gradients of all steps
    h0, c0 = np.zeros((2, B, H), np.float32)
    loss, step, start = np.log(len(one_hot)), 0, time.time()
    while time.time() < start + seconds:
        t = step * T % (len(rows) - T)
        x, targets = one_hot[rows[t : t + T]], rows[t + 1 : t + T + 1]
        h, c, gates, y = forward(p, x, h0, c0)
        grads = backward(p, x, h, c, gates, y, targets)
        scale = min(1.0, MAX_NORM / np.sqrt(sum((grads[name] ** 2).sum() for name in p)))  # clips exploding gradients
        for name, w in p.items():
            sums[name] += (scale * grads[name]) ** 2
            w -= LEARNING_RATE * scale * grads[name] / np.sqrt(sums[name])
        is_kept = rng.random((B, 1)) > RESET_RATE  # else c⟨t⟩ drifts, and a new text starts in a state never trained on
        h0, c0, loss, step = h[-1] * is_kept, c[-1] * is_kept, 0.99 * loss + 0.01 * mean_loss(y, targets), step + 1
        if step % 500 == 0:
            print(f"{time.time() - start:5.0f} s   {step:6} steps   loss {loss:.3f} nats per character")


def sample(p, i, length):
    """Yield character numbers that follow the number i: each is drawn from ŷ, and is the next input."""
    (h, c), one_hot = np.zeros((2, 1, H), np.float32), np.eye(len(p["b_y"]), dtype=np.float32)
    for _ in range(length):
        (_, h), (_, c), _, y = forward(p, one_hot[[[i]]], h, c)
        i = rng.choice(len(one_hot), p=y[0, 0] / y.sum())
        yield i


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", nargs="?", default=__file__)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    print("relative errors of the gradients:", ", ".join(f"∂{name} {error:.0e}" for name, error in check_gradients()))
    chars, ids = np.unique(list(Path(options.file).read_text(encoding="utf-8")), return_inverse=True)
    p, split = initial_params(len(chars), H), len(ids) * 9 // 10  # the last tenth is for validation
    train(p, ids[:split], options.seconds)
    x, targets = np.eye(len(chars), dtype=np.float32)[ids[split:-1, None]], ids[split + 1 :, None]
    loss = mean_loss(forward(p, x, *np.zeros((2, 1, H), np.float32))[-1], targets)
    print(f"validation loss {loss:.3f} nats per character", "".join(chars[list(sample(p, ids[0], 500))]), sep="\n\n")

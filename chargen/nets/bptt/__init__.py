"""Back-propagation through time by hand, one file a cell: the fast path on a CPU.

All share one shape. The forward loop keeps what the backward pass needs. Everything in the backward pass that
does not depend on later steps (the derivative of every gate with respect to its layer's output) is computed before the
loop, over all steps at once; what remains in the loop is one elementwise product and one matrix product a step. The
gradients of the weights are one product over all steps, after the loop.

    x_gates [T, B, X·H]  →  outputs [T, B, H] and the last state
"""

"""A rollout as a plain loop in NumPy, written from the formulas, for tests to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardgrad.oscillators import Saturation, rollout_form

Floats = NDArray[np.float64]

# Terms of every kind: the constant, the linear ones, gaps in powers of both.
EXPONENTS = ((0, 0), (1, 0), (0, 1), (2, 0), (3, 1), (1, 3))

# What can be had on this machine, beside the reference scan.
FORMS = ["adjoint"] + (["kernel"] if rollout_form(EXPONENTS) == "kernel" else [])


def knee(u: Floats, bound: float) -> Floats:
    size = np.abs(u)
    over = np.sign(u) * (0.8 * bound + 0.2 * bound * np.tanh((size - 0.8 * bound) / (0.2 * bound)))
    return np.where(size <= 0.8 * bound, u, over)


def rollout_loop(
    exponents: Any,
    c: Floats,
    x0: Floats,
    v0: Floats,
    *,
    samples: int,
    saturation: Saturation,
    substeps: int = 1,
    interpolation: str = "hold",
    hop: int = 1,
) -> tuple[Floats, Floats]:
    """x and v ``[batch, samples]``."""
    kind, bx, bv = saturation.kind, saturation.x_bound, saturation.v_bound

    def at(time: float) -> Floats:
        frame = min(int(time // hop), c.shape[1] - 2) if c.shape[1] > 1 else 0
        if c.shape[1] == 1:
            return c[:, 0]
        along = time / hop - frame
        return (1 - along) * c[:, frame] + along * c[:, frame + 1]

    def f(coefficients: Floats, x: Floats, v: Floats) -> Floats:
        X, V = (knee(x, bx), knee(v, bv)) if kind == "knee" else (x, v)
        total = np.zeros_like(x)
        for j, (p, k) in enumerate(exponents):
            linear = p + k == 1
            total = total + coefficients[:, j] * ((x**p * v**k) if linear else (X**p * V**k))
        return total

    x, v, h = x0.copy(), v0.copy(), 1.0 / substeps
    xs, vs = [x], [v]
    for t in range(samples - 1):
        for j in range(substeps):
            if interpolation == "hold":
                first = middle = last = at(t)
            else:
                first, middle, last = at(t + j * h), at(t + (j + 0.5) * h), at(t + (j + 1) * h)
            k1 = (v, f(first, x, v))
            k2 = (v + h / 2 * k1[1], f(middle, x + h / 2 * k1[0], v + h / 2 * k1[1]))
            k3 = (v + h / 2 * k2[1], f(middle, x + h / 2 * k2[0], v + h / 2 * k2[1]))
            k4 = (v + h * k3[1], f(last, x + h * k3[0], v + h * k3[1]))
            x = x + h / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
            v = v + h / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        if kind == "tanh":
            x, v = bx * np.tanh(x / bx), bv * np.tanh(v / bv)
        elif kind == "knee":
            x, v = knee(x, bx), knee(v, bv)
        xs.append(x)
        vs.append(v)
    return np.stack(xs, axis=1), np.stack(vs, axis=1)

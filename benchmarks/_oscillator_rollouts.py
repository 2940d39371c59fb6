"""Tables of rollouts: forward and backward against a C floor and eager PyTorch, and the memory they take."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from _oscillator_common import FLOOR, Sizes, once, peers, timed, torch
from _rollout_floor import RolloutFloor

from hardgrad.oscillators import PolynomialField, Saturation, rollout

SEGMENT = 64  # samples
PUBLISHED = "PyTorch, published"


class Case:
    """A rollout that stays bounded: a damped oscillator of half a radian a sample, all other terms small noise.

    Args:
        order: highest power of x and of v.
        horizon: samples.
        batch: rows.
    """

    def __init__(self, order: int, horizon: int, batch: int) -> None:
        rng = np.random.default_rng(0)
        P = order + 1
        self.order, self.exponents = order, PolynomialField(order=order, keep_const=True).exponents
        self.coefficients = (1e-3 * rng.standard_normal((batch, horizon, P * P))).astype(np.float32)
        self.coefficients[..., P], self.coefficients[..., 1] = -0.25, -5e-4
        self.x0, self.v0 = (rng.uniform(0.2, 0.4, batch).astype(np.float32) for _ in "xv")
        self.v0 *= 0.5

    def program(self, form: str, saturation: str = "none", segment: int | None = None) -> Any:
        """Compiled: x, and the gradients of coefficients and start."""
        bounds = Saturation(saturation)

        def loss(given: Any) -> Any:
            x, v = rollout(self.exponents, *given, saturation=bounds, segment=segment, form=form)
            return (jnp.sum(x * x) + jnp.sum(v * v)) / 2, x

        def both(*given: Any) -> Any:
            gradients, x = jax.grad(loss, has_aux=True)(given)
            return x, *gradients

        return jax.jit(both).lower(*self.arrays()).compile()

    def arrays(self) -> list[Any]:
        """Coefficients and start, where JAX has them."""
        return [jnp.asarray(array) for array in (self.coefficients, self.x0, self.v0)]

    def call(self, program: Any) -> Callable[[], Any]:
        """The program on arrays that are already there."""
        arrays = self.arrays()
        return lambda: program(*arrays)

    def floor(self) -> Callable[[], Any]:
        """The same in C, its arrays laid out beforehand."""
        batch, horizon, _ = self.coefficients.shape
        floor = compiled_floor(self.order, batch)
        coefficients = np.ascontiguousarray(self.coefficients.transpose(1, 2, 0))
        x, v = np.zeros((2, horizon, batch), np.float32)
        x[0], v[0], by_coefficients = self.x0, self.v0, np.zeros_like(coefficients)

        def run() -> Any:
            floor.forward(coefficients, x, v)
            floor.backward(coefficients, x, v, x, v, by_coefficients)
            return x.T, by_coefficients.transpose(2, 0, 1)

        return run

    def in_torch(self, form: str) -> Callable[[], Any]:
        """An eager loop, ``"published"`` or ``"lean"``."""
        make = {"published": peers.published_rollout, "lean": peers.lean_rollout}[form]
        return make(self.coefficients, self.x0, self.v0)


compiled_floor = lru_cache(RolloutFloor)


def agree(found: Any, reference: Any, name: str) -> None:
    """Two programs give the same sound and the same gradient of the coefficients, to rounding."""
    for ours, theirs in zip(found[:2], reference[:2], strict=True):
        scale = float(jnp.max(jnp.abs(theirs)))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * scale, err_msg=name)


def rollouts(order: int, sizes: Sizes, *, kernel: bool, floor: bool) -> dict[str, Any]:
    """One table; returns the compiled programs, by label and horizon."""
    cases = {horizon: Case(order, horizon, sizes.batch) for horizon in sizes.horizons}
    last = sizes.horizons[-1:]
    forms = ["scan", "adjoint", *["kernel"] * kernel]
    programs = {form: {n: case.program(form) for n, case in cases.items()} for form in forms}
    programs |= {f"{form}, knee": {n: cases[n].program(form, "knee") for n in last} for form in forms[1:]}
    rows: dict[str, dict[int, float]] = {}
    reference: dict[int, Any] = {}

    def add(label: str, runs: dict[int, Callable[[], Any]], *, single: bool = False) -> None:
        rows[label] = {}
        for n, run in runs.items():
            rows[label][n], found = once(run) if single else timed(run, sizes.repeats)
            agree(found, reference.setdefault(n, found), f"{label}, {n} samples")

    for label, compiled in programs.items():
        add(label, {n: cases[n].call(program) for n, program in compiled.items()})
    if floor:
        add(FLOOR, {n: case.floor() for n, case in cases.items()})
    if peers:
        torch.set_num_threads(1)
        for form in ("lean", "published"):
            once(Case(order, 32, sizes.batch).in_torch(form))
            # Each step of the published loop fills a gradient of the size of all coefficients: minutes, of order 15.
            reached = sizes.horizons if form == "lean" or order == 3 else sizes.horizons[:1]
            add(f"PyTorch, {form}", {n: cases[n].in_torch(form) for n in reached}, single=True)
        torch.set_num_threads(os.cpu_count() or 1)
    order_of_rows = [FLOOR, "kernel", "kernel, knee", "adjoint", "adjoint, knee", "scan", "PyTorch, lean", PUBLISHED]
    print_rollouts(f"rollout, order {order}", {label: rows[label] for label in order_of_rows if label in rows}, sizes)
    return programs


def print_rollouts(title: str, rows: dict[str, dict[int, float]], sizes: Sizes) -> None:
    """Milliseconds at each horizon, growth from the first to the last, and ratios at the longest that both have."""
    first, last = sizes.horizons[0], sizes.horizons[-1]
    targets = {"kernel": "≈ 1.1 × floor", "adjoint": "≤ 4.5 × floor, ≥ 1000"}
    heads = "".join(f"{n:>9}" for n in sizes.horizons)
    peer_at = max(rows.get(PUBLISHED, {}), default=last)
    print(f"\n{title:<19}ms at{heads}{f'{last}/{first}':>10}{'× floor':>9}{f'peer ÷ @{peer_at}':>14}  target")
    for label, times in rows.items():
        shown = "".join(f"{times[n]:>9.1f}" if n in times else f"{'–':>9}" for n in sizes.horizons)
        columns = [
            f"{ratio(times, times, last, first, 1):>10}",
            f"{ratio(times, rows.get(FLOOR, {}), last, last, 2):>9}",
            f"{ratio(rows.get(PUBLISHED, {}), times, peer_at, peer_at, 0):>14}",
        ]
        print(f"{label:<24}{shown}{''.join(columns)}  {targets.get(label, '')}".rstrip())


def ratio(above: dict[int, float], below: dict[int, float], at: int, of: int, digits: int) -> str:
    """``above[at] / below[of]``, or a dash where one is missing."""
    return f"{above[at] / below[of]:.{digits}f}" if at in above and of in below else "–"


def memory(order: int, programs: dict[str, Any], sizes: Sizes) -> None:
    """Temporary memory by XLA's account."""
    first, last = sizes.horizons[0], sizes.horizons[-1]
    rows = {label: programs[label] for label in ("scan", "adjoint", "kernel") if label in programs}
    if order == 3:
        for form in ("scan", "adjoint"):
            programs_of = {n: Case(order, n, sizes.batch).program(form, segment=SEGMENT) for n in sizes.horizons}
            rows[f"{form}, segment {SEGMENT}"] = programs_of
    else:
        rows[f"adjoint, segment {SEGMENT}"] = {last: Case(order, last, sizes.batch).program("adjoint", segment=SEGMENT)}
    mebi = 2.0**-20
    table = {"(the coefficients)": {n: sizes.batch * n * (order + 1) ** 2 * 4 * mebi for n in sizes.horizons}}
    for label, compiled in sorted(rows.items()):
        table[label] = {n: mebi * one.memory_analysis().temp_size_in_bytes for n, one in compiled.items()}
    heads = "".join(f"{n:>9}" for n in sizes.horizons)
    print(f"\n{f'memory, order {order}':<18}MiB at{heads}{f'{last}/{first}':>10}")
    for label, found in table.items():
        shown = "".join(f"{found[n]:>9.2f}" if n in found else f"{'–':>9}" for n in sizes.horizons)
        print(f"{label:<24}{shown}{ratio(found, found, last, first, 1):>10}")

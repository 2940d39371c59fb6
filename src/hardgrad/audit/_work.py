"""What an audit measures, in which order, and what it spends on each part."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..core import (
    AbstractEstimator,
    Loss,
    NoDerivativeError,
    UsageError,
    count_parameters,
    float_dtype,
    leaf_names,
    named_key,
)
from . import _probe
from ._agreement import Agreement, Directions, agreement
from ._growth import Growth
from ._growth import growth as fit_growth
from ._noise import scatter
from ._result import Audit
from ._shares import Blind, Rows, response
from ._shares import rows as rows_of
from ._statistics import Floats
from ._verdicts import judge

FRAMES, _MOST_FRAMES = 16, 64
_GROWTH_BATCHES = 4
_BLIND_DIRECTIONS = 32
_KEYS = 8  # draws of the objective where there is one batch
_MOST_NUMBERS = 2**27  # in the directions that are kept at a time
_SPACING = 32  # between the points that rounding is measured at, in units of rounding of the parameters
_NO_DERIVATIVE = ("do not support JVP", "does not work for", "differentiation")


@dataclasses.dataclass
class _Gradients:
    """Estimates on the first batch, and over batches, ``[estimates, size]``."""

    first: Floats
    over: Floats
    losses: Floats
    metrics: dict[str, float]


class _Plan(NamedTuple):
    """How many: frames of directions, directions in each, frames along blind parameters, estimates and rows."""

    frames: int
    per_frame: int
    blind_frames: int
    repeats: int
    over: int
    rows: int


@dataclasses.dataclass
class Work:
    """One audit as it goes on."""

    estimator: AbstractEstimator
    loss: Loss
    params: Any
    batches: Any
    count: int
    chunk: int
    seed: int
    notes: list[str]
    spent: int = 0

    def __post_init__(self) -> None:
        self.key = jax.random.key(self.seed)
        self.size = count_parameters(self.params)
        self.dtype = float_dtype(self.params)
        contract = self.estimator.contract
        self.cost = contract.work(self.size)
        self.norm = _probe.norm_of(self.params)
        self.eps = float(np.finfo(self.dtype).eps)

    def run(
        self,
        *,
        radii: tuple[float, ...],
        directions: int,
        estimates: int,
        rows: int,
        growth: tuple[str, tuple[int, ...]] | None,
        budget: int,
        title: str,
        began: float,
    ) -> Audit:
        """All of it."""
        values = len(growth[1]) if growth else 0
        plan = self._plan(2 * len(radii), directions, estimates, rows, values, budget)
        frames, per_frame, repeats = plan.frames, plan.per_frame, plan.repeats
        why, found = self._gradients(repeats, plan.over)
        agreements, noise = self._agreements(found, radii, frames, per_frame)
        own = over_batches = None
        if found is not None:
            own = scatter(_gram(found.first), cost=self.cost) if repeats > 1 else None
            over_batches = scatter(_gram(found.over), cost=self.cost)
        controls = {name: np.asarray(value).item() for name, value in self.loss.controls.items()}
        result = Audit(
            title=title,
            estimator=type(self.estimator).__name__,
            order=self.estimator.contract.order.value,
            promised_bias=self.estimator.contract.bias,
            parameters=self.size,
            loss=noise[0] if found is None else float(np.mean(found.losses)),
            metrics={} if found is None else found.metrics,
            no_derivative=why,
            non_finite=math.nan if found is None else float(np.mean(~np.isfinite(found.over))),
            agreements=agreements,
            directions=frames * per_frame,
            own=own,
            batches=over_batches,
            cost=self.cost,
            growth=None if growth is None or found is None else self._growth(found, *growth),
            blind=None if found is None else self._blind(found, radii, plan, noise[1]),
            rows=self._rows(plan.rows) if plan.rows > 1 and found is not None else None,
            controls=controls,
            evaluations=self.spent,
            seconds=0.0,
            notes=tuple(self.notes),
        )
        result = dataclasses.replace(result, evaluations=self.spent, notes=tuple(self.notes))
        return dataclasses.replace(result, verdicts=judge(result), seconds=time.perf_counter() - began)

    def _plan(self, steps: int, directions: int, estimates: int, rows: int, values: int, budget: int) -> _Plan:
        """How many of everything a budget pays for.

        Raises:
            UsageError: not enough.
        """
        most = max(FRAMES, _MOST_NUMBERS // self.size)
        directions = max(FRAMES, min(directions, budget // (2 * steps), most))
        per_frame = min(self.size, directions // FRAMES)
        frames = min(_MOST_FRAMES, directions // per_frame)
        blind_frames = -(-min(_BLIND_DIRECTIONS, directions // 4) // per_frame)
        probes = steps * per_frame * (frames + 1 + blind_frames)
        repeats = estimates if self.estimator.contract.needs_key else 1
        over = self.count if self.count > 1 else _KEYS
        wanted = repeats + over + rows
        payable = (budget - probes) // self.cost - _GROWTH_BATCHES * values
        if payable < 3:
            least = 10 * steps * FRAMES + 4 * (3 + _GROWTH_BATCHES * values) * self.cost
            raise UsageError(
                f"one estimate by {type(self.estimator).__name__} costs {self.cost} evaluations: {budget} are too few "
                f"for an audit. Allow {least} (evaluations=...), or audit an estimator whose cost does not grow with "
                "the parameters."
            )
        share = min(1.0, payable / wanted)
        repeats = repeats if repeats == 1 else max(2, int(repeats * share))
        over = max(1, int(over * share))
        return _Plan(frames, per_frame, blind_frames, repeats, over, min(int(rows * share), payable - repeats - over))

    def _items(self, repeats: int, over: int) -> _probe.Items:
        """First repeats on the first batch with the objective's key of the references, then batches."""
        numbers = jnp.concatenate([jnp.zeros(repeats, jnp.int32), jnp.arange(over, dtype=jnp.int32) % self.count])
        of_objective = jax.random.split(named_key(self.key, "batches"), over)
        same = jnp.broadcast_to(self.loss.key, (repeats,))
        own = jax.random.split(named_key(self.key, "estimator"), repeats + over)
        return numbers, jnp.concatenate([same, of_objective]), own

    def _gradients(self, repeats: int, over: int) -> tuple[str, _Gradients | None]:
        items = self._items(repeats, over)
        try:
            flat, losses, metrics = _probe.estimates(self.estimator, self.loss, self.params, self.batches, items)
        except NoDerivativeError as error:
            return str(error).partition(":")[0], None
        except (ValueError, NotImplementedError) as error:
            if isinstance(error, UsageError) or not any(words in str(error) for words in _NO_DERIVATIVE):
                raise
            return str(error).strip().splitlines()[0][:200], None
        self.spent += (repeats + over) * self.cost
        rows, at = np.asarray(flat), np.asarray(losses, np.float64)
        said = {name: float(np.mean(np.asarray(value, np.float64)[repeats:])) for name, value in metrics.items()}
        return "", _Gradients(rows[:repeats], rows[repeats:], at[repeats:], said)

    def _losses(self, directions: Any, steps: Floats) -> Floats:
        self.spent += len(directions) * len(steps)
        found = _probe.losses(
            self.loss, self.params, jnp.asarray(directions), jnp.asarray(steps, self.dtype), self.chunk
        )
        return np.asarray(found, np.float64)

    def _agreements(
        self, found: _Gradients | None, radii: tuple[float, ...], frames: int, many: int
    ) -> tuple[tuple[Agreement, ...], tuple[float, float]]:
        """One a radius; the loss, and the standard deviation of its rounding error."""
        rng = np.random.default_rng((self.seed, 0))
        distances = np.array(radii) * self.norm
        steps = np.concatenate([distances, -distances])
        kept, values = [], []
        for _ in range(frames):  # a chunk each: the program is compiled once
            some = _probe.frame(rng, self.size, many, self.dtype)
            kept.append(some)
            values.append(self._losses(some, steps))
        near = (np.arange(len(steps)) - (len(steps) - 1) / 2) * _SPACING * self.eps * self.norm
        ladder = self._losses(kept[0], near)
        at = float(np.mean(ladder))
        noise = _probe.rounding_noise(ladder, at, self.eps)
        losses = np.stack(values)  # [frames, many, steps]
        up, down = losses[..., : len(radii)], losses[..., len(radii) :]
        with np.errstate(all="ignore"):
            slopes = (up - down) / (2 * distances)
        usable = found is not None and bool(np.isfinite(found.first).all())
        gradients = found.first if usable and found is not None else np.zeros((1, self.size))
        shared = Directions.of(np.concatenate(kept), gradients, frames=frames)
        return tuple(
            agreement(
                slopes[..., i],
                shared,
                radius=radius,
                distance=float(distances[i]),
                noise=noise,
                non_finite=float(np.mean(~np.isfinite(losses[..., [i, i + len(radii)]]))),
            )
            for i, radius in enumerate(radii)
        ), (at, noise)

    def _blind(self, found: _Gradients, radii: tuple[float, ...], plan: _Plan, noise: float) -> Blind:
        """Coordinates without a gradient, and whether the loss responds to them."""
        dead = (found.first == 0).all(axis=0) & (found.over == 0).all(axis=0)
        share, names, at = float(dead.mean()), [], 0
        for name, leaf in zip(leaf_names(self.params), jax.tree.leaves(self.params), strict=True):
            if leaf.size and dead[at : at + leaf.size].all():
                names.append(name)
            at += leaf.size
        if not dead.any():
            return Blind(0.0, ())
        size = int(dead.sum())
        norm = float(np.linalg.norm(np.asarray(_probe.flatten(self.params), np.float64)[dead])) or math.sqrt(size)
        distances = np.array(radii) * norm
        slopes, rng = [], np.random.default_rng((self.seed, 1))
        for _ in range(plan.blind_frames):
            some = _probe.masked(rng, dead, plan.per_frame, self.dtype)
            losses = self._losses(some, np.concatenate([distances, -distances]))
            with np.errstate(all="ignore"):
                slopes.append((losses[:, : len(radii)] - losses[:, len(radii) :]) / (2 * distances))
        every = np.concatenate(slopes)
        # The smallest radius at which it responds; else the largest.
        for i, radius in enumerate(radii):
            length, responds = response(every[:, i], size=size, error=noise / (math.sqrt(2.0) * float(distances[i])))
            if responds or i == len(radii) - 1:
                return Blind(share, tuple(names), radius, length, responds)
        raise AssertionError

    def _rows(self, many: int) -> Rows | None:
        arrays = jax.tree.map(lambda x: x[0], self.batches)
        many = min(many, *(len(x) for x in jax.tree.leaves(arrays)))
        alone = jax.tree.map(lambda x: x[:many, None], arrays)
        same = jnp.broadcast_to(self.loss.key, (many,))
        own = jax.random.split(named_key(self.key, "rows"), many)
        items = jnp.arange(many, dtype=jnp.int32), same, own
        try:
            norms = _probe.norms(self.estimator, self.loss, self.params, alone, items)
        except (UsageError, TypeError, ValueError, IndexError) as error:
            first = str(error).strip().splitlines()
            self.notes.append(f"Rows can't be taken one by one: {first[0] if first else type(error).__name__}")
            return None
        self.spent += many * self.cost
        return rows_of(np.asarray(norms, np.float64))

    def _growth(self, found: _Gradients, name: str, values: tuple[int, ...]) -> Growth | None:
        """Norms over a few batches at each value; a static control's cost a program each."""
        static = isinstance(self.loss.controls.get(name, 0), int)
        numbers = jnp.arange(_GROWTH_BATCHES, dtype=jnp.int32) % self.count
        of_objective, own = (
            jax.random.split(named_key(self.key, what), _GROWTH_BATCHES) for what in ("batches", "estimator")
        )
        taken, rows = [], []
        for value in values:
            if value == self.loss.controls.get(name):  # these are there already
                taken.append(value)
                rows.append(np.linalg.norm(np.asarray(found.over[:_GROWTH_BATCHES], np.float64), axis=1))
                continue
            here = value if static else jnp.asarray(value, jnp.int32)
            loss = dataclasses.replace(self.loss, controls={**self.loss.controls, name: here})
            try:
                norms = _probe.norms(self.estimator, loss, self.params, self.batches, (numbers, of_objective, own))
            except UsageError as error:
                self.notes.append(f"{name}={value} was refused: {error}")
                continue
            self.spent += _GROWTH_BATCHES * self.cost
            taken.append(value)
            rows.append(np.asarray(norms, np.float64))
        return fit_growth(name, taken, rows) if len(taken) > 1 else None


def _gram(gradients: Floats) -> Floats:
    wide = np.asarray(gradients, np.float64)
    with np.errstate(all="ignore"):
        return wide @ wide.T

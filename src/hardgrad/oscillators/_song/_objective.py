"""What a model of song is trained on: the spectra of its own rollouts, or, as before, its acceleration.

    total = λ_spec·L_spec + λ_tf·L_tf + λ_env·L_env + λ_env_log·L_env_log

Drives are encoded once, from the whole segment; the rollout covers `horizon` samples of it. Where a segment has an
onset or an offset, the rollout begins so that the edge lies between 1/4 and 3/4 of it, at every horizon: silence
alone teaches nothing. An onset is begun cold, from noise; everything else from the recorded state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ...core import Controls, Metrics, UsageError
from .._data import Category, Segments
from .._fields import Exponents
from .._losses import (
    SpectralLoss,
    anchor_loss,
    envelope,
    envelope_log_loss,
    envelope_loss,
    one_step_loss,
    weight_penalty,
)
from ._gradient import clip_examples
from ._model import SongModel

_EDGE = (0.25, 0.75)  # where in the rollout an edge lies, of the horizon


class SongObjective(eqx.Module):
    """The spectral-rollout objective. The batch is a `Segments` of arrays.

    Controls it reads: ``horizon`` (static, samples), and in place of the weights below, where a plan sets them,
    ``lambda_spec``, ``lambda_tf``, ``lambda_env`` and ``lambda_env_log``. Metrics: ``spec``, ``tf``, ``env``,
    ``env_log``; a term of weight 0 is neither computed nor reported.

    Attributes:
        spectral: the spectral loss.
        variance: V of the anchor, see `anchor_variance`.
        lambda_spec: weight of the spectral loss.
        lambda_tf: weight of the teacher-forced anchor, which takes the sound for the oscillator's own x: of no use
            behind a vocal tract.
        lambda_env: weight of the envelope loss.
        lambda_env_log: weight of its logarithmic form.
        envelope_ms: standard deviation of the envelopes' low-pass, milliseconds.
        cold_rms: x of a cold start is drawn from N(0, cold_rms²).
        cold_velocity_rms: v likewise; None: as x, which is published.
        clip: gradient of an example at its drives, in medians of the batch; None: no clipping.

    Raises:
        UsageError: a control ``horizon`` is missing, or longer than the segments.
    """

    spectral: SpectralLoss = eqx.field(static=True, default_factory=SpectralLoss)
    _: dataclasses.KW_ONLY
    variance: float = 1.0  # not static: seeds that differ in it still share a program
    lambda_spec: float = eqx.field(static=True, default=1.0)
    lambda_tf: float = eqx.field(static=True, default=1.0)
    lambda_env: float = eqx.field(static=True, default=0.0)
    lambda_env_log: float = eqx.field(static=True, default=0.0)
    envelope_ms: float = eqx.field(static=True, default=2.0)
    cold_rms: float = eqx.field(static=True, default=1e-3)
    cold_velocity_rms: float | None = eqx.field(static=True, default=None)
    clip: float | None = eqx.field(static=True, default=2.0)

    def __call__(
        self, model: SongModel, batch: Segments, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The weighted sum, and its parts."""
        horizon = self._horizon(batch, controls)
        raw = model.encoder(batch.sound, batch.velocity)
        weights = {
            name: controls.get(f"lambda_{name}", getattr(self, f"lambda_{name}"))
            for name in ("spec", "tf", "env", "env_log")
        }
        counted = {name: weight for name, weight in weights.items() if _counts(weight)}
        parts: Metrics = {}
        if "tf" in counted:
            found = model.acceleration(model.coefficients(raw), batch.sound, batch.velocity)
            parts["tf"] = anchor_loss(found, batch.acceleration, self.variance, floor=1e-12)
        if counted.keys() - {"tf"}:
            generated, target = self._rollout(model, clip_examples(raw, self.clip), batch, horizon, key)
            sigma = self.envelope_ms * 1e-3 * model.sample_rate
            if "spec" in counted:
                parts["spec"] = self.spectral(generated, target)
            if "env" in counted or "env_log" in counted:
                ours, theirs = envelope(generated, sigma), envelope(target, sigma)
                parts |= {"env": envelope_loss(ours, theirs)} if "env" in counted else {}
                parts |= {"env_log": envelope_log_loss(ours, theirs)} if "env_log" in counted else {}
        total = jnp.zeros((), raw.dtype)
        for name, part in parts.items():
            total = total + jnp.asarray(counted[name]).astype(raw.dtype) * part
        return total, parts

    def _horizon(self, batch: Segments, controls: Controls) -> int:
        if "horizon" not in controls:
            raise UsageError("the song objective needs its horizon: Plan(horizon=Static(Horizon(512, 2048)), ...).")
        horizon, length = controls["horizon"], batch.sound.shape[1]
        if not isinstance(horizon, int):
            raise UsageError("the horizon decides a shape: wrap its schedule, Plan(horizon=Static(...)).")
        if not 2 <= horizon <= length:
            raise UsageError(
                f"the horizon is {horizon} samples, the segments have {length}: give one from 2 to {length}."
            )
        return horizon

    def _rollout(
        self, model: SongModel, raw: Array, batch: Segments, horizon: int, key: Key[Array, ""]
    ) -> tuple[Array, Array]:
        """The model's sound over each example's window, and the recorded one."""
        of_start, of_x, of_v = jax.random.split(key, 3)
        hop = model.hop
        start = rollout_start(of_start, batch.edge, horizon, batch.sound.shape[1], hop)
        frames = -(-(horizon - 1) // hop) + 1

        def cut(values: Array, at: Array, size: int) -> Array:
            return jax.vmap(lambda row, i: jax.lax.dynamic_slice_in_dim(row, i, size))(values, at)

        coefficients = cut(model.coefficients(raw), start // hop, frames)
        target = cut(batch.sound, start, horizon)
        x0, v0 = target[:, 0], cut(batch.velocity, start, 1)[:, 0]
        cold = batch.category == int(Category.ONSET)
        v_rms = self.cold_rms if self.cold_velocity_rms is None else self.cold_velocity_rms
        x0 = jnp.where(cold, self.cold_rms * jax.random.normal(of_x, x0.shape, x0.dtype), x0)
        v0 = jnp.where(cold, v_rms * jax.random.normal(of_v, v0.shape, v0.dtype), v0)
        found, _ = model.rollout(coefficients, x0, v0, horizon)
        return model.radiate(found), target


def rollout_start(
    key: Key[Array, ""], edge: Int[Array, " batch"], horizon: int, length: int, hop: int = 1
) -> Int[Array, " batch"]:
    """First sample of each example's rollout, a multiple of `hop`.

    Args:
        key: of the draw.
        edge: the sample at which an onset or offset lies, -1 without one.
        horizon: samples of the rollout.
        length: samples of the segment, at least the horizon.
        hop: samples between frames of the drives.

    Returns:
        Such that an edge lies between 1/4 and 3/4 of the rollout, as far as the segment reaches; uniform without one.
    """
    last = (length - horizon) // hop
    draw = jax.random.uniform(key, edge.shape)
    low, high = _EDGE
    around = edge.astype(draw.dtype) - (low + (high - low) * draw) * horizon
    anywhere = draw * (last + 1) * hop
    start = jnp.floor(jnp.where(edge >= 0, around, anywhere) / hop).astype(jnp.int32)
    return jnp.clip(start, 0, last) * hop


def _counts(weight: Any) -> bool:
    """Whether a term is to be computed: its weight is traced, or not 0."""
    return not isinstance(weight, int | float) or weight != 0.0


class OneStepObjective(eqx.Module):
    """The legacy objective: the squared error of the acceleration at recorded states, summed over time.

    Error and penalty are divided by `scale`, so that their size is comparable; 1 is published. The batch is a
    `Segments` of arrays; no controls are read. Metrics: ``error``, and ``penalty`` where there is one.

    Attributes:
        scale: what they are divided by.
        penalty_base: λ of the weight penalty, see `weight_penalty`; None: no penalty.
    """

    scale: float = 1.0  # not static, as the variance above
    penalty_base: float | None = eqx.field(static=True, default=None)

    def __call__(
        self, model: SongModel, batch: Segments, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Float[Array, ""], Metrics]:
        """The loss."""
        coefficients = model.coefficients(model.encoder(batch.sound, batch.velocity))
        found = model.acceleration(coefficients, batch.sound, batch.velocity)
        error = one_step_loss(found, batch.acceleration) / self.scale
        if self.penalty_base is None:
            return error, {"error": error}
        everywhere = model.at_samples(coefficients, batch.sound.shape[1])
        penalty = weight_penalty(_table(model.field.exponents, everywhere), self.penalty_base) / self.scale
        return error + penalty, {"error": error, "penalty": penalty}


def _table(exponents: Exponents, coefficients: Float[Array, "batch time terms"]) -> Float[Array, "batch time P P"]:
    """The non-linear terms' coefficients at [p, k]."""
    highest = max(max(pair) for pair in exponents) + 1
    table = jnp.zeros((*coefficients.shape[:2], highest, highest), coefficients.dtype)
    kept = [i for i, pair in enumerate(exponents) if sum(pair) != 1]
    rows, columns = np.array([exponents[i] for i in kept]).T
    return table.at[:, :, rows, columns].set(coefficients[..., np.array(kept)])

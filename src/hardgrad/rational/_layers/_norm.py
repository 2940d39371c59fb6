"""Normalisation of features that may be ⊥.

    y = (x − μ) / √(σ² + ε),   or   (x − μ) / √(σ² + ε) · scale + offset

In training μ and σ² are the mean and the biased variance of a feature over its rows that are not ⊥. A feature without
such rows, and with ε = 0 a constant one, is ⊥ in all of them. Deployed, they are those of all rows seen, each batch
weighing `momentum` times what the next weighs. With n rows in a batch, of mean m and variance v:

    N ← momentum·N + n,   w = n/N,   σ² ← (1−w) σ² + w v + w (1−w) (m − μ)²,   μ ← (1−w) μ + w m

which is the mean and variance of that weighted set of rows, from the first batch on.

Source: the published SCM normalisation. It has no running statistics, marks constant features ⊥ whatever ε, puts NaN
where ours is 0, and its gradients are NaN beside a masked NaN. The running form is the pairwise update of Chan, Golub
and LeVeque (1983) with a decaying count.
"""

from __future__ import annotations

import functools
import math
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ...core import Running, UsageError, whole_number
from .._policies import GradientPolicy, with_policy

Masked: TypeAlias = tuple[Array, Array]
Statistics: TypeAlias = tuple[Array, Array, Array]


def _check_eps(eps: float) -> None:
    if not (math.isfinite(eps) and eps >= 0):
        raise UsageError(f"eps must be finite and at least 0; got {eps!r}.")


def _wide(dtype: Any) -> Any:
    """Half precision sums badly: statistics have 32 bits at least."""
    return dtype if jnp.dtype(dtype).itemsize >= 4 else jnp.float32


def _lift(x: Any, mask: Any) -> tuple[Array, Array]:
    """x in 32 bits at least, and where it is ⊥."""
    x = jnp.asarray(x)
    if x.ndim < 1 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise UsageError(f"x must be real floats [..., feature]; got {x.dtype} {x.shape}.")
    if mask is not None and np.shape(mask) != x.shape:
        raise UsageError(f"the mask must have the shape of x, {x.shape}; got {np.shape(mask)}.")
    bottom = ~jnp.isfinite(x)
    return x.astype(_wide(x.dtype)), bottom if mask is None else bottom | jnp.asarray(mask)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _standardise(x: Array, valid: Array, eps: float) -> tuple[Array, Array, Statistics]:
    """``(y, r, (n, m, v))``: y is 0 where it is ⊥, r = 1/√(v + ε) is 0 for a feature that is ⊥ as a whole.

    The statistics carry no gradient; n is 0 where they are of no use.
    """
    axes = tuple(range(x.ndim - 1))
    rows = jnp.sum(valid, axes, dtype=x.dtype)
    least_one = jnp.maximum(rows, 1)
    mean = jnp.sum(jnp.where(valid, x, 0), axes) / least_one
    variance = jnp.sum(jnp.square(jnp.where(valid, x - mean, 0)), axes) / least_one
    rows = jnp.where(jnp.isfinite(mean) & jnp.isfinite(variance), rows, 0)
    usable = rows > 0
    if eps == 0:  # rounding may give a constant feature a variance, so its extremes are compared too
        least = jnp.where(valid, x, jnp.inf).min(axes, initial=jnp.inf)
        most = jnp.where(valid, x, -jnp.inf).max(axes, initial=-jnp.inf)
        usable = usable & (variance > 0) & (least < most)
    deviation = jnp.sqrt(variance + eps)
    y = jnp.where(valid & usable, (x - mean) / deviation, 0)
    return y, jnp.where(usable, 1 / deviation, 0), (rows, mean, variance)


@_standardise.defjvp
def _standardise_jvp(eps: float, primals: Any, tangents: Any) -> Any:
    # In y and r alone, both 0 at ⊥: nothing that is not finite is ever multiplied by a 0.
    x, valid = primals
    y, r, statistics = _standardise(x, valid, eps)
    axes = tuple(range(x.ndim - 1))
    rows = jnp.maximum(jnp.sum(valid, axes, dtype=x.dtype), 1)
    dx = jnp.where(valid, tangents[0], 0)
    along = jnp.sum(y * dx, axes) / rows
    dy = jnp.where(valid & (r > 0), r * (dx - jnp.sum(dx, axes) / rows - y * along), 0)
    return (y, r, statistics), (dy, -r * r * along, jax.tree.map(jnp.zeros_like, statistics))


def _of_batch(x: Array, bottom: Array, eps: float) -> tuple[Array, Array, Statistics]:
    """Standardised values, where they are ⊥, and the batch's statistics."""
    y, r, statistics = _standardise(x, ~bottom, eps)
    return y, bottom | (r == 0), statistics


def scm_norm(
    x: Float[Array | np.ndarray, "*rows feature"],
    mask: Bool[Array | np.ndarray, "*rows feature"] | None = None,
    *,
    eps: float = 1e-5,
    policy: GradientPolicy | None = None,
) -> tuple[Float[Array, "*rows feature"], Bool[Array, "*rows feature"]]:
    """Each feature normalised over the rows of this batch that are not ⊥: ``(y, mask)``, 0 at ⊥.

    The gradient policy (default of ``"scm_norm"``: CLAMP, as published) acts on the gradient that arrives. None
    passes at ⊥, and it goes through mean and variance elsewhere.

    Args:
        x: features last; NaN and ±∞ are ⊥. Half precision is normalised in float32.
        mask: which entries are ⊥ besides.
        eps: ε. With 0, as published, a constant feature is ⊥; above 0 it becomes 0.
        policy: the gradient policy, or None for that of the context.

    Raises:
        UsageError: x is not real and floating, the mask has another shape, or eps is negative or not finite.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import scm_norm
        >>> y, mask = scm_norm(jnp.array([[1.0], [jnp.nan], [3.0]]), eps=0.0)
        >>> y.ravel(), mask.ravel()
        (Array([-1.,  0.,  1.], dtype=float32), Array([False,  True, False], dtype=bool))
    """
    _check_eps(eps)
    x = jnp.asarray(x)
    wide, bottom = _lift(x, mask)
    y, bottom, _ = _of_batch(wide, bottom, eps)
    return with_policy(y.astype(x.dtype), bottom, policy, layer="scm_norm"), bottom


class SCMNorm(eqx.Module):
    """`scm_norm` with running statistics: ``update`` in training, a plain call once deployed.

    The statistics are `Running` state: never trained, without gradients, kept in their dtype. An objective whose
    model holds an SCMNorm calls `update` and returns the model it gives third; see `hardgrad.core.Objective`.

    Attributes:
        mean: μ, ``[size]``; 0 until rows were seen.
        variance: σ², ``[size]``; 1 until rows were seen.
        rows: N, ``[size]``: how many rows the statistics stand on.
        scale: ``[size]`` or None.
        offset: ``[size]`` or None.
        eps: ε, finite and at least 0.
        momentum: how much a batch weighs against the next, from 0 (the last batch alone) to 1 (all rows alike).
        policy: the layer's own gradient policy, or None.

    Raises:
        UsageError: a number out of range, or x with another number of features.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import SCMNorm
        >>> norm = SCMNorm(1)
        >>> (y, mask), norm = norm.update(jnp.array([[1.0], [jnp.nan], [3.0]]))
        >>> norm.mean.value, norm.variance.value
        (Array([2.], dtype=float32), Array([1.], dtype=float32))
        >>> y, mask = norm(jnp.array([[2.0]]))
    """

    mean: Running
    variance: Running
    rows: Running
    scale: Float[Array, " feature"] | None
    offset: Float[Array, " feature"] | None
    eps: float = eqx.field(static=True)
    momentum: float = eqx.field(static=True)
    policy: GradientPolicy | None = eqx.field(static=True)

    def __init__(
        self,
        size: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.99,
        affine: bool = False,
        policy: GradientPolicy | None = None,
        dtype: Any = None,
    ):
        size = whole_number("size", size, least=1)
        _check_eps(eps)
        if not 0 <= momentum <= 1:
            raise UsageError(f"momentum must lie in [0, 1]; got {momentum!r}.")
        dtype = float if dtype is None else dtype
        statistics = _wide(dtype)
        self.mean = Running(jnp.zeros(size, statistics))
        self.variance = Running(jnp.ones(size, statistics))
        self.rows = Running(jnp.zeros(size, statistics))
        self.scale = jnp.ones(size, dtype) if affine else None
        self.offset = jnp.zeros(size, dtype) if affine else None
        self.eps = float(eps)
        self.momentum = float(momentum)
        self.policy = policy

    def __call__(self, x: Array | np.ndarray, mask: Array | np.ndarray | None = None) -> Masked:
        """``(y, mask)`` by the running statistics, row by row: ``[..., size]``, in x's dtype, 0 at ⊥.

        With ε = 0 a feature that never varied is ⊥.
        """
        x = jnp.asarray(x)
        wide, bottom = self._lift(x, mask)
        mean, variance = (jax.lax.stop_gradient(s.value.astype(wide.dtype)) for s in (self.mean, self.variance))
        varied = variance + self.eps > 0
        deviation = jnp.sqrt(jnp.where(varied, variance + self.eps, 1))

        def standardised(bottom: Array) -> Array:
            moved: Array = (jnp.where(bottom, mean, wide) - mean) / deviation
            return moved

        bottom = bottom | ~varied
        bottom = bottom | ~jnp.isfinite(standardised(bottom))
        y = standardised(bottom)
        return self._finish(y, bottom, x.dtype)

    def update(self, x: Array | np.ndarray, mask: Array | np.ndarray | None = None) -> tuple[Masked, SCMNorm]:
        """``((y, mask), norm)``: normalised by the batch's statistics, and the norm that has seen the batch.

        A feature without a usable row keeps its statistics. All leading axes of x are rows.
        """
        x = jnp.asarray(x)
        wide, bottom = self._lift(x, mask)
        y, bottom, statistics = _of_batch(wide, bottom, self.eps)
        return self._finish(y, bottom, x.dtype), self._seen(*jax.lax.stop_gradient(statistics))

    def _lift(self, x: Any, mask: Any) -> tuple[Array, Array]:
        size = self.mean.value.shape[-1]
        if np.shape(x)[-1:] != (size,):
            raise UsageError(f"this norm takes [..., {size}]; got shape {np.shape(x)}.")
        return _lift(x, mask)

    def _finish(self, y: Array, bottom: Array, dtype: Any) -> Masked:
        if self.scale is not None and self.offset is not None:
            y = y * self.scale.astype(y.dtype) + self.offset.astype(y.dtype)
        y = y.astype(dtype)
        bottom = bottom | ~jnp.isfinite(y)
        return with_policy(jnp.where(bottom, 0, y), bottom, self.policy, layer="scm_norm"), bottom

    def _seen(self, rows: Array, mean: Array, variance: Array) -> SCMNorm:
        old = (self.rows.value, self.mean.value, self.variance.value)
        rows, mean, variance = (s.astype(old[0].dtype) for s in (rows, mean, variance))
        total = self.momentum * old[0] + rows
        w = rows / jnp.maximum(total, 1)
        apart = mean - old[1]
        mixed = (1 - w) * old[2] + w * variance + w * (1 - w) * jnp.square(apart)
        new = (total, old[1] + w * apart, mixed)
        keep = (rows == 0) | ~jnp.isfinite(mixed)
        changed = [Running(jnp.where(keep, o, n)) for o, n in zip(old, new, strict=True)]
        seen: SCMNorm = eqx.tree_at(lambda norm: [norm.rows, norm.mean, norm.variance], self, changed)
        return seen

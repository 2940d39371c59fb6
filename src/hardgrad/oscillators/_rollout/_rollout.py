"""Rollouts: a field integrated from an initial state, sample by sample, with its coefficients given beforehand.

    x'' = Σ_j c_j(t) x^p_j v^k_j,        one unit of time a sample

Classical Runge-Kutta, `substeps` steps a sample, and bounds after each sample. A step of length 1 multiplies the
amplitude of a linear oscillator of ω radians a sample by 1 - ω⁶/144: of 44.1 kHz, at 2.6 kHz it loses 1.8e-5 a
sample, at 7 kHz 0.7 %. Beyond ω = 2√2 it is unstable.

The forms give the same numbers to rounding:

* ``scan``: a plain scan, differentiated by JAX in either mode. The reference.
* ``adjoint``: the same scan with a gradient of its own. The states are all it keeps, and they are the result.
* ``kernel``: the same in C, forwards and backwards, on a CPU; compiled when it is first used and kept for the user.
"""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean, whole_number
from .._fields._sum import Exponents, Floats, check_exponents, check_terms
from ._adjoint import adjoint_rollout
from ._kernel import kernel_problem, kernel_rollout
from ._saturation import Saturation
from ._scan import scan_rollout
from ._scheme import Scheme

Form = Literal["adjoint", "kernel", "scan"]
FORMS = ("auto", "adjoint", "kernel", "scan")
INTERPOLATIONS = ("hold", "linear")


def rollout(
    exponents: Exponents,
    coefficients: Floats,
    x0: Floats,
    v0: Floats,
    *,
    saturation: Saturation | None = None,
    substeps: int = 1,
    interpolation: str = "hold",
    hop: int = 1,
    samples: int | None = None,
    segment: int | None = None,
    form: str = "auto",
) -> tuple[Float[Array, "batch samples"], Float[Array, "batch samples"]]:
    """Sound and its change per sample, from an initial state on.

    Differentiable by coefficients, x0 and v0; works under `jax.jit`, `jax.grad` and `jax.vmap`, where vmapped batches
    become one. Only ``form="scan"`` has forward-mode derivatives and derivatives of derivatives.

    Args:
        exponents: (power of x, power of v) of each term: ``field.exponents``.
        coefficients: c_j ``[batch, frames, terms]``, one frame every `hop` samples, the first at the first sample.
        x0: first sample ``[batch]``; of the coefficients' dtype, as v0.
        v0: its change per sample ``[batch]``.
        saturation: bounds of the state, applied after each sample, not after each sub-step; ``Saturation()`` if None.
        substeps: Runge-Kutta steps a sample, from 1.
        interpolation: ``"hold"``: during a sample the coefficients are those at its left; the last sample's are not
            used. ``"linear"``: they move on to those at its right.
        hop: samples from one frame of coefficients to the next; between frames they are interpolated linearly.
        samples: H, how many samples to make, the initial one included. None: up to the last frame,
            (frames - 1)·hop + 1. Frames beyond ceil((H - 1)/hop) + 1 are not used.
        segment: samples to work on at a time, rounded up to whole hops, to bound memory. ``scan`` keeps the states at
            segment starts and computes the rest again; ``adjoint`` lays out the coefficients of one segment at a
            time; ``kernel`` needs none of this. The values stay the same.
        form: ``"scan"``, ``"adjoint"``, ``"kernel"``, or ``"auto"``, the fastest there is, which `rollout_form`
            names. A program that is to be exported, or run on another platform than the default one, needs one of
            the first two.

    Returns:
        x and v, the first of them x0 and v0 as given. What overflows is not finite from there on; with a knee
        coefficients of ordinary size cannot overflow.

    Raises:
        UsageError: shapes or dtypes that do not fit, an unknown name, a number out of range, or a kernel that is asked
            for and cannot be had.

    Examples:
        >>> c = jnp.full((1, 9, 1), -0.25)  # x'' = -x/4: a cosine of half a radian a sample
        >>> x, v = rollout(((1, 0),), c, jnp.array([0.1]), jnp.array([0.0]), form="scan")
        >>> x[0, :4]  # 0.1 cos(n/2)
        Array([0.1       , 0.08776042, 0.05405884, 0.00714256], dtype=float32)
    """
    saturation = Saturation() if saturation is None else saturation
    scheme, arrays = _checked(
        exponents, coefficients, x0, v0, saturation, substeps, interpolation, hop, samples, segment, form
    )
    if scheme.steps == 0:  # nothing to integrate, whatever the form
        x, v = arrays[1:]
        return x[:, None], v[:, None]
    if form == "scan":
        return scan_rollout(scheme, *arrays)
    if form == "adjoint":
        return adjoint_rollout(scheme)(*arrays)
    problem = kernel_problem(scheme.exponents, saturation.kind, arrays[0].dtype)
    if not problem:
        return kernel_rollout(scheme, arrays[0].dtype)(*arrays)
    if form == "kernel":
        raise UsageError(f'form="kernel" cannot be used: {problem} Use form="adjoint".')
    return adjoint_rollout(scheme)(*arrays)


def rollout_form(exponents: Exponents, dtype: Any = jnp.float32, *, saturation: Saturation | None = None) -> Form:
    """What ``form="auto"`` takes here: worth noting in a record, since forms differ in the last digits.

    The kernel where the default platform is a CPU and it can be compiled and loaded, the adjoint elsewhere. The
    environment variable HARDGRAD_NO_KERNEL=1 switches the kernel off.

    Args:
        exponents: as for `rollout`.
        dtype: of the coefficients.
        saturation: as for `rollout`.

    Raises:
        UsageError: exponents that `rollout` would not take.
    """
    kind = Saturation().kind if saturation is None else saturation.kind
    return "adjoint" if kernel_problem(check_exponents(exponents), kind, dtype) else "kernel"


def _checked(
    exponents: Any,
    coefficients: Any,
    x0: Any,
    v0: Any,
    saturation: Any,
    substeps: Any,
    interpolation: str,
    hop: Any,
    samples: Any,
    segment: Any,
    form: str,
) -> tuple[Scheme, tuple[Array, Array, Array]]:
    exponents = check_exponents(exponents)
    for name, given, known in (("form", form, FORMS), ("interpolation", interpolation, INTERPOLATIONS)):
        if given not in known:
            raise UsageError(f"{name} is not {given!r}. {did_you_mean(str(given), known)}")
    if not isinstance(saturation, Saturation):
        raise UsageError(f"saturation must be a Saturation, such as Saturation('knee'); got {saturation!r}.")
    substeps, hop = whole_number("substeps", substeps, least=1), whole_number("hop", hop, least=1)
    segment = None if segment is None else whole_number("segment", segment, least=1)
    if coefficients.ndim != 3 or 0 in coefficients.shape:
        raise UsageError(
            f"coefficients must be [batch, frames, terms], none of them 0; got shape {coefficients.shape}."
        )
    check_terms(exponents, coefficients)
    batch, frames = coefficients.shape[:2]
    for name, start in (("x0", x0), ("v0", v0)):
        if start.shape != (batch,):
            raise UsageError(
                f"{name} needs one entry a row of the coefficients, shape {(batch,)}; got shape {start.shape}."
            )
    arrays = jnp.asarray(coefficients), jnp.asarray(x0), jnp.asarray(v0)
    dtypes = [a.dtype for a in arrays]
    if len(set(dtypes)) > 1 or not jnp.issubdtype(dtypes[0], jnp.floating):
        raise UsageError(f"coefficients, x0 and v0 must have one float dtype; got {', '.join(map(str, dtypes))}.")
    reached = (frames - 1) * hop + 1
    samples = reached if samples is None else whole_number("samples", samples, least=1)
    if samples > reached:
        raise UsageError(
            f"{frames} frames {hop} samples apart reach {reached} samples, not {samples}; "
            f"give {-(-(samples - 1) // hop) + 1} frames."
        )
    return Scheme(exponents, samples, hop, substeps, interpolation == "linear", saturation, segment), arrays

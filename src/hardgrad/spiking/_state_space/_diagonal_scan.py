"""A linear recurrence whose matrix is diagonal and does not change, from inputs to outputs.

    x_t = λ ⊙ x_{t-1} + B u_t,    y_t = Re(C x_t),    x ∈ ℂⁿ, u real

Complex numbers are pairs of real arrays throughout, so that gradients are plain and products are real. Three forms:

    sequential    one scan over time with both products in its body; differentiable forwards too
    chunked       spans of some steps: B u and C x are one product each for a span, around a short recurrence; keeps the
                  state at the start of each span and computes it again in a backward pass written by hand
    associative   B u for all steps, a parallel prefix, C x for all steps; differentiable forwards too

On a CPU chunked is fastest: a span stays in the cache, and its products are large enough. Value and gradient on two
busy x86-64 cores, float32, milliseconds:

    batch, time, inputs, n    sequential   chunked   associative   all B u first, then a scan
    32, 256, 128, 64          36           36        72            58
    8, 2048, 64, 64           77           45        180           105
    1, 8192, 64, 64           64           28        77            60

Elsewhere associative is taken: an accelerator starts an operation for each of the others' steps. The powers of λ that
it needs do not depend on the sample and are kept once, not for each.

Source: Smith, Warrington & Linderman 2023, arXiv:2208.04933, section 2.2 (the prefix).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean

FORMS = ("auto", "sequential", "chunked", "associative")
_ROWS = 256  # samples times steps in a span
_SHORTEST, _LONGEST = 8, 32  # steps


def diagonal_scan(
    u: Float[Array, "batch time d"],
    pole: Float[Array, "2 n"],
    into: Float[Array, "2 n d"],
    out: Float[Array, "2 m n"],
    *,
    state: Float[Array, "batch 2 n"] | None = None,
    form: str = "auto",
) -> tuple[Float[Array, "batch time m"], Float[Array, "batch 2 n"]]:
    """Outputs y and the state after the last step. Pairs are (real, imaginary).

    Args:
        u: inputs, at least one step.
        pole: λ.
        into: B.
        out: C.
        state: x before the first step; None is 0. A signal cut in two gives the same when the state is handed on.
        form: how it is computed; ``"auto"`` is chunked on a CPU and associative elsewhere.

    Raises:
        UsageError: another form, or no steps.

    Examples:
        >>> one, half = jnp.array([[[1.0]], [[0.0]]]), jnp.array([[0.5], [0.0]])
        >>> y, state = diagonal_scan(jnp.ones((1, 3, 1)), half, one, one)
        >>> y[0, :, 0], state[0, 0]
        (Array([1.  , 1.5 , 1.75], dtype=float32), Array([1.75], dtype=float32))
    """
    form = resolved(form)
    batch, time, _ = u.shape
    if 0 in (batch, time):
        raise UsageError(f"inputs are [batch, time, d] with at least one sample and one step; got shape {u.shape}.")
    n = pole.shape[1]
    if state is None:
        state = jnp.zeros((batch, 2, n), u.dtype)
    weights = (pole[0], pole[1], _joined(into).T, jnp.concatenate([out[0], -out[1]], axis=1).T)
    before, over_time = (state[:, 0], state[:, 1]), jnp.swapaxes(u, 0, 1)
    forms: dict[str, Any] = {"sequential": _sequential, "chunked": _chunked, "associative": _associative}
    y, after = forms[form](over_time, weights, before)
    return jnp.swapaxes(y, 0, 1), jnp.stack(after, axis=1)


def diagonal_step(
    state: Float[Array, "batch 2 n"],
    u: Float[Array, "batch d"],
    pole: Float[Array, "2 n"],
    into: Float[Array, "2 n d"],
    out: Float[Array, "2 m n"],
) -> tuple[Float[Array, "batch 2 n"], Float[Array, "batch m"]]:
    """One step: the state after it, and its output."""
    entering = jnp.einsum("bd,knd->kbn", u, into)
    re, im = _turned((state[:, 0], state[:, 1]), pole[0], pole[1])
    re, im = re + entering[0], im + entering[1]
    return jnp.stack([re, im], axis=1), re @ out[0].T - im @ out[1].T


def resolved(form: str) -> str:
    """The form that ``"auto"`` stands for here.

    Raises:
        UsageError: another form.
    """
    if form not in FORMS:
        raise UsageError(f"form is one of {', '.join(FORMS)}; got {form!r}. {did_you_mean(str(form), FORMS)}")
    if form != "auto":
        return form
    return "chunked" if jax.default_backend() == "cpu" else "associative"


# From here on time is first; weights are (Re λ, Im λ, [d, 2n], [2n, m]) and a state is a pair of [batch, n].


def _joined(pair: Array) -> Array:
    return pair.reshape(-1, *pair.shape[2:])


def _turned(x: tuple[Array, Array], re: Array, im: Array) -> tuple[Array, Array]:
    """λx."""
    return re * x[0] - im * x[1], re * x[1] + im * x[0]


def _sequential(u: Array, weights: Any, state: Any) -> Any:
    re, im, into, out = weights
    n = re.shape[0]

    def body(state: Any, u: Array) -> Any:
        entering = u @ into
        x, y = _turned(state, re, im)
        state = x + entering[:, :n], y + entering[:, n:]
        return state, jnp.concatenate(state, axis=-1) @ out

    last, y = lax.scan(body, state, u)
    return y, last


def _associative(u: Array, weights: Any, state: Any) -> Any:
    re, im, into, out = weights
    (time, *_), n = u.shape, re.shape[0]
    entering = u @ into
    x, y = _turned(state, re, im)
    first = entering.at[0].add(jnp.concatenate([x, y], axis=-1))
    powers = [jnp.broadcast_to(part, (time, 1, n)) for part in (re, im)]

    def join(early: Any, late: Any) -> Any:
        power = _turned((early[0], early[1]), late[0], late[1])
        x, y = _turned((early[2], early[3]), late[0], late[1])
        return *power, x + late[2], y + late[3]

    _, _, x, y = lax.associative_scan(join, (*powers, first[..., :n], first[..., n:]))
    return jnp.concatenate([x, y], axis=-1) @ out, (x[-1], y[-1])


def _chunked(u: Array, weights: Any, state: Any) -> Any:
    time, batch, _ = u.shape
    span = min(time, max(_SHORTEST, min(_LONGEST, _ROWS // batch)))
    whole = time // span * span
    y, state = _spans(u[:whole].reshape(-1, span, *u.shape[1:]), weights, state)
    y = _joined(y)
    if whole < time:
        rest, state = _spans(u[None, whole:], weights, state)
        y = jnp.concatenate([y, rest[0]])
    return y, state


def _product(x: Array, weight: Array) -> Array:
    """One product for all steps of a span and all samples."""
    return (_flat(x) @ weight).reshape(*x.shape[:-1], -1)


def _flat(x: Array) -> Array:
    return x.reshape(-1, x.shape[-1])


def _recurrence(entering: Array, re: Array, im: Array, state: Any, *, reverse: bool = False) -> Any:
    """x_t = λ x_{t-1} + entering_t over a span: the last state, and all of them, joined."""
    n = re.shape[0]

    def step(state: Any, entering: Array) -> Any:
        x, y = _turned(state, re, im)
        state = x + entering[:, :n], y + entering[:, n:]
        return state, jnp.concatenate(state, axis=-1)

    return lax.scan(step, state, entering, reverse=reverse)


@jax.custom_vjp
def _spans(u: Array, weights: Any, state: Any) -> Any:
    return _spans_forward(u, weights, state)[0]


def _spans_forward(u: Array, weights: Any, state: Any) -> Any:
    re, im, into, out = weights

    def body(before: Any, u: Array) -> Any:
        after, x = _recurrence(_product(u, into), re, im, before)
        return after, (_product(x, out), before)

    last, (y, starts) = lax.scan(body, state, u)
    return (y, last), (u, weights, starts)


def _spans_backward(residuals: Any, cotangents: Any) -> Any:
    u, weights, starts = residuals
    re, im, into, out = weights
    n = re.shape[0]

    def body(carry: Any, span: Any) -> Any:
        # x̄_t = λ* x̄_{t+1} + Cᵀ ȳ_t; the carry holds λ* x̄ of the step after the span.
        later, re_bar, im_bar, into_bar, out_bar = carry
        u, start, y_bar = span
        _, x = _recurrence(_product(u, into), re, im, start)
        reading = _product(y_bar, out.T)
        reading = reading.at[-1].add(jnp.concatenate(later, axis=-1))
        zero = jnp.zeros_like(later[0])
        first, bar = _recurrence(reading, re, -im, (zero, zero), reverse=True)
        before = jnp.concatenate([jnp.concatenate(start, axis=-1)[None], x[:-1]])
        (a, b), (p, q) = (before[..., :n], before[..., n:]), (bar[..., :n], bar[..., n:])
        re_bar = re_bar + jnp.sum(p * a + q * b, axis=0)
        im_bar = im_bar + jnp.sum(q * a - p * b, axis=0)
        into_bar, out_bar = into_bar + _flat(u).T @ _flat(bar), out_bar + _flat(x).T @ _flat(y_bar)
        return (_turned(first, re, -im), re_bar, im_bar, into_bar, out_bar), _product(bar, into.T)

    y_bar, last_bar = cotangents
    zero = jnp.zeros_like(last_bar[0])
    start = (last_bar, zero, zero, jnp.zeros_like(into), jnp.zeros_like(out))
    carry, u_bar = lax.scan(body, start, (u, starts, y_bar), reverse=True)
    state_bar, re_bar, im_bar, into_bar, out_bar = carry
    return u_bar, (jnp.sum(re_bar, axis=0), jnp.sum(im_bar, axis=0), into_bar, out_bar), state_bar


_spans.defvjp(_spans_forward, _spans_backward)

"""The selective scan: a diagonal linear recurrence whose coefficients depend on its input.

    h_t = exp(Δ_t A) h_{t-1} + Δ_t B_t u_t,    y_t = C_t · h_t + D u_t

for each channel by itself, with a state of n numbers. Three forms compute it:

    sequential    one scan over time with everything in its body; keeps every state
    chunked       spans of SPAN samples, each as vector arithmetic around a short recurrence; keeps the state at the
                  start of each and computes a span again for the gradient
    associative   a parallel prefix over the pairs (exp(ΔA), ΔBu): a logarithmic number of steps, many times the memory

The first two have a backward pass written by hand. On a CPU chunked is fastest, as a span's arrays stay in the cache
and each exponential is taken once. Elsewhere associative is taken: an accelerator starts an operation for each of the
others' samples. Inside, time is first and batch last.

Source: Gu & Dao 2023, arXiv:2312.00752, section 3 and algorithm 2 (with their simplified discretisation of B).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ...core import UsageError

FORMS = ("auto", "sequential", "chunked", "associative")
SPAN = 32  # samples


def selective_scan(
    u: Float[Array, "batch time channels"],
    delta: Float[Array, "batch time channels"],
    a: Float[Array, "channels n"],
    b: Float[Array, "batch time n"],
    c: Float[Array, "batch time n"],
    d: Float[Array, " channels"],
    *,
    state: Float[Array, "batch channels n"] | None = None,
    form: str = "auto",
) -> tuple[Float[Array, "batch time channels"], Float[Array, "batch channels n"]]:
    """Outputs y and the state after the last sample.

    Args:
        u: inputs.
        delta: Δ, step sizes; positive in a model.
        a: A, rates; negative for a state that decays.
        b: B, what enters the state.
        c: C, how the state is read.
        d: D, weight of the input itself.
        state: h before the first sample; None is 0. A signal cut in two gives the same when the state is handed on.
        form: how it is computed; ``"auto"`` is chunked on a CPU and associative elsewhere.

    Raises:
        UsageError: another form.

    Examples:
        >>> one = jnp.ones((1, 3, 1))
        >>> y, state = selective_scan(one, one, jnp.zeros((1, 1)), one, one, jnp.zeros(1))  # a running sum
        >>> y[0, :, 0], state[0]
        (Array([1., 2., 3.], dtype=float32), Array([[3.]], dtype=float32))
    """
    if state is None:
        state = jnp.zeros((u.shape[0], *a.shape), u.dtype)
    over_time = [jnp.moveaxis(part, 0, -1) for part in (u, delta, b, c)]
    y, last = scan_over_time(
        over_time[0], over_time[1], over_time[2], over_time[3], a, state.transpose(2, 1, 0), form=form
    )
    return jnp.moveaxis(y, -1, 0) + d * u, last.transpose(2, 1, 0)


def scan_over_time(
    u: Float[Array, "time channels batch"],
    delta: Float[Array, "time channels batch"],
    b: Float[Array, "time n batch"],
    c: Float[Array, "time n batch"],
    a: Float[Array, "channels n"],
    state: Float[Array, "n channels batch"],
    *,
    form: str = "auto",
) -> tuple[Float[Array, "time channels batch"], Float[Array, "n channels batch"]]:
    """C·h and the last state, in the layout of the scan."""
    rates = a.T[:, :, None]
    forms: dict[str, Any] = {"associative": _associative, "chunked": _chunked, "sequential": _sequential}
    y, last = forms[resolved(form)](u, delta, b, c, rates, state)
    return y, last


def resolved(form: str) -> str:
    """The form that ``"auto"`` stands for here.

    Raises:
        UsageError: another form.
    """
    if form not in FORMS:
        raise UsageError(f"form is one of {', '.join(FORMS)}; got {form!r}.")
    if form != "auto":
        return form
    return "chunked" if jax.default_backend() == "cpu" else "associative"


def _step(state: Any, sample: Any, rates: Any) -> Any:
    u, delta, b = sample
    return jnp.exp(delta * rates) * state + (delta * u) * b[:, None]


@jax.custom_vjp
def _sequential(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    def body(state: Any, sample: Any) -> Any:
        *inputs, c = sample
        state = _step(state, inputs, rates)
        return state, jnp.sum(state * c[:, None], axis=0)

    last, y = lax.scan(body, state, (u, delta, b, c))
    return y, last


def _sequential_forward(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    def body(before: Any, sample: Any) -> Any:
        *inputs, c = sample
        state = _step(before, inputs, rates)
        return state, (jnp.sum(state * c[:, None], axis=0), before)

    last, (y, states) = lax.scan(body, state, (u, delta, b, c))
    return (y, last), (u, delta, b, c, rates, states)


def _sequential_backward(residuals: Any, cotangents: Any) -> Any:
    u, delta, b, c, rates, states = residuals
    y_bar, last_bar = cotangents

    def body(carry: Any, sample: Any) -> Any:
        state_bar, rates_bar = carry
        u, delta, b, c, before, y_bar = sample
        decay = jnp.exp(delta * rates)
        gain = delta * u
        state = decay * before + gain * b[:, None]
        state_bar = state_bar + c[:, None] * y_bar
        c_bar = jnp.sum(state * y_bar, axis=1)
        b_bar = jnp.sum(state_bar * gain, axis=1)
        gain_bar = jnp.sum(state_bar * b[:, None], axis=0)
        before_bar = state_bar * decay
        exponent_bar = before_bar * before
        delta_bar = jnp.sum(exponent_bar * rates, axis=0) + gain_bar * u
        return (before_bar, rates_bar + exponent_bar * delta), (gain_bar * delta, delta_bar, b_bar, c_bar)

    (state_bar, rates_bar), over_time = lax.scan(
        body, (last_bar, jnp.zeros_like(last_bar)), (u, delta, b, c, states, y_bar), reverse=True
    )
    return *over_time, jnp.sum(rates_bar, axis=-1, keepdims=True), state_bar


_sequential.defvjp(_sequential_forward, _sequential_backward)


def _chunked(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    time = u.shape[0]
    if time <= SPAN:
        return _span(u, delta, b, c, rates, state)
    spans = -(-time // SPAN)

    # Where Δ is 0 the state stays as it is: padding is exact.
    def cut(part: Array) -> Array:
        padded = jnp.pad(part, [(0, spans * SPAN - time), (0, 0), (0, 0)])
        return padded.reshape(spans, SPAN, *part.shape[1:])

    @jax.checkpoint
    def body(state: Any, span: Any) -> Any:
        y, state = _span(*span, rates, state)
        return state, y

    last, y = lax.scan(body, state, tuple(map(cut, (u, delta, b, c))))
    return y.reshape(-1, *y.shape[2:])[:time], last


# A span keeps its n states apart: XLA then sums over them element by element, in vector registers.


def _split(array: Array, axis: int = 0) -> tuple[Array, ...]:
    return tuple(lax.index_in_dim(array, i, axis, keepdims=False) for i in range(array.shape[axis]))


def _span_forward(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    """Outputs, and what the backward pass needs: inputs, decays and states, each before its sample."""
    decays = tuple(jnp.exp(delta * rate) for rate in _split(rates))

    def body(before: Any, sample: Any) -> Any:
        decays, entering, b = sample
        after = tuple(
            decay * state + entering * part for decay, state, part in zip(decays, before, _split(b), strict=True)
        )
        return after, after

    last, states = lax.scan(body, _split(state), (decays, delta * u, b))
    y = sum(part[:, None] * after for part, after in zip(_split(c, 1), states, strict=True))
    return (y, jnp.stack(last)), (u, delta, b, c, rates, state, decays, states)


def _span_backward(residuals: Any, cotangents: Any) -> Any:
    u, delta, b, c, rates, state, decays, states = residuals
    y_bar, last_bar = cotangents

    def body(later: Any, sample: Any) -> Any:
        decays, c, y_bar = sample
        bars = tuple(bar + part * y_bar for bar, part in zip(later, _split(c), strict=True))
        return tuple(bar * decay for bar, decay in zip(bars, decays, strict=True)), bars

    first_bar, bars = lax.scan(body, _split(last_bar), (decays, c, y_bar), reverse=True)
    entering = delta * u
    entering_bar = sum(part[:, None] * bar for part, bar in zip(_split(b, 1), bars, strict=True))
    b_bar = jnp.stack([jnp.sum(bar * entering, axis=1) for bar in bars], axis=1)
    c_bar = jnp.stack([jnp.sum(after * y_bar, axis=1) for after in states], axis=1)
    exponent_bars = [
        bar * decay * jnp.concatenate([start[None], after[:-1]])
        for bar, decay, start, after in zip(bars, decays, _split(state), states, strict=True)
    ]
    delta_bar = entering_bar * u + sum(bar * rate for bar, rate in zip(exponent_bars, _split(rates), strict=True))
    rates_bar = jnp.stack([jnp.sum(bar * delta, axis=(0, 2))[:, None] for bar in exponent_bars])
    return entering_bar * delta, delta_bar, b_bar, c_bar, rates_bar, jnp.stack(first_bar)


@jax.custom_vjp
def _span(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    return _span_forward(u, delta, b, c, rates, state)[0]


_span.defvjp(_span_forward, _span_backward)


def _associative(u: Array, delta: Array, b: Array, c: Array, rates: Array, state: Array) -> Any:
    decay = jnp.exp(delta[:, None] * rates)
    entering = (delta * u)[:, None] * b[:, :, None]
    entering = entering.at[0].add(decay[0] * state)
    _, states = lax.associative_scan(lambda x, y: (x[0] * y[0], y[0] * x[1] + y[1]), (decay, entering))
    return jnp.sum(states * c[:, :, None], axis=1), states[-1]

"""`TanhCell`: every shape of parameter, recurrence in time, dtypes and refusals."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardgrad.core import UsageError, split_parameters
from hardgrad.hypercausal import TanhCell

GENERATOR = np.random.default_rng(0)
INPUTS = GENERATOR.normal(size=(2, 7, 3)).astype(np.float32)
MATRIX = GENERATOR.normal(size=(3, 3)).astype(np.float32) * 0.5
VECTOR = np.float32([0.9, 1.1, -0.5])


def as_matrix(value: Any) -> np.ndarray[Any, Any]:
    """A scale or a matrix as the matrix it stands for."""
    return np.asarray(value) if np.ndim(value) == 2 else np.diag(np.broadcast_to(value, 3))


def by_loop(weight: Any, bias: Any, recurrence: Any, inputs: Any, depth: int) -> np.ndarray[Any, Any]:
    """The formula, one vector at a time, float64."""
    weight, inputs = as_matrix(weight).astype(np.float64), np.asarray(inputs, np.float64)
    states = np.zeros_like(inputs)
    for sequence in range(len(inputs)):
        before = np.zeros(3)
        for t, x in enumerate(inputs[sequence]):
            state = x if recurrence is None else x + as_matrix(recurrence) @ before
            for _ in range(depth):
                state = np.tanh(weight @ state + bias)
            states[sequence, t] = before = state
    return states


@pytest.mark.parametrize("recurrence", [None, 0.4, VECTOR, MATRIX], ids=["none", "scalar", "vector", "matrix"])
@pytest.mark.parametrize("weight", [0.9, VECTOR, MATRIX], ids=["scalar", "vector", "matrix"])
def test_it_is_the_formula(weight: Any, recurrence: Any) -> None:
    bias = VECTOR * 0.1
    cell = TanhCell(weight, bias, recurrence)
    expected = by_loop(weight, bias, recurrence, INPUTS, 2)
    np.testing.assert_allclose(cell(INPUTS, depth=2), expected, atol=2e-6)
    np.testing.assert_allclose(cell(jnp.asarray(INPUTS), depth=jnp.int32(2)), expected, atol=2e-6)


def test_a_batch_of_sequences_is_the_sequences_one_by_one() -> None:
    cell = TanhCell(MATRIX, 0.1, 0.4)
    together = cell(INPUTS, depth=2)
    apart = jnp.stack([cell(sequence, depth=2) for sequence in INPUTS])
    np.testing.assert_allclose(together, apart, atol=1e-6)
    np.testing.assert_allclose(jax.vmap(lambda x: cell(x, depth=2))(INPUTS), apart, atol=1e-6)


def test_a_recurrence_has_a_derivative_through_time_and_traced_depth() -> None:
    def loss(u: Any, depth: Any) -> Any:
        return jnp.sum(jnp.square(TanhCell(VECTOR, 0.1, u)(INPUTS, depth=depth)))

    u = jnp.asarray(0.4)
    traced = jax.jit(jax.grad(loss))(u, jnp.int32(3))
    known = jax.grad(loss)(u, 3)
    np.testing.assert_allclose(traced, known, rtol=1e-5)
    slope = (loss(u + 1e-2, 3) - loss(u - 1e-2, 3)) / 2e-2
    np.testing.assert_allclose(known, slope, rtol=1e-3)


def test_parameters_are_exactly_the_inexact_arrays() -> None:
    params, _ = split_parameters(TanhCell(0.9, 0.03, 0.1))
    assert len(jax.tree.leaves(params)) == 3
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(params))
    params, _ = split_parameters(TanhCell(1, 0))
    assert [leaf.dtype for leaf in jax.tree.leaves(params)] == [jnp.float32, jnp.float32]


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_states_have_the_dtype_of_the_parameters(dtype: str, x64: None) -> None:
    cell = TanhCell(jnp.asarray(0.9, dtype), 0.03, 0.1)
    for inputs in (INPUTS, INPUTS.astype(np.float64)):
        assert jax.eval_shape(lambda x, d: cell(x, depth=d), inputs, jnp.int32(2)).dtype == dtype


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ((np.ones((2, 3)),), "weight must be"),
        ((np.ones((2, 2, 2)),), "weight must be"),
        ((0.9, np.ones((3, 3))), "bias must be a scalar or"),
        ((0.9, 0.0, np.ones((3, 2))), "recurrence must be"),
        ((np.ones(3), np.ones(2)), "agree"),
        ((1j,), "must be real"),
        ((object(),), "weight must be a number"),
    ],
)
def test_wrong_parameters_are_refused(parameters: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TanhCell(*parameters)


def test_inputs_of_other_channels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"weight of shape \(3,\).*\(2, 7, 2\)"):
        TanhCell(VECTOR)(INPUTS[..., :2])

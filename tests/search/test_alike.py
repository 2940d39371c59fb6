"""Two programs made anew from the same code are the same; made from other numbers they are not."""

from __future__ import annotations

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hardgrad.core import control
from hardgrad.search._alike import difference, same_array
from hardgrad.training import controlled


def adder(n):
    def add(x, *, by=n):
        return x + by

    return add


def closure(n):
    return lambda x: x + n


class Thing:
    def __init__(self, n):
        self.n = n

    def method(self, x):
        return x + self.n


MAKERS = {
    "a closure": closure,
    "a default": adder,
    "a partial": lambda n: functools.partial(closure, n),
    "a method": lambda n: Thing(n).method,
    "an object": Thing,
    "a jitted function": lambda n: jax.jit(closure(n)),
    "an optimiser": lambda n: optax.chain(optax.clip(1.0), optax.adam(n)),
    "a controlled one": lambda n: controlled(optax.adam, control("rate"), b1=0.1 * n),
    "a partition": lambda n: optax.partition({"a": optax.sgd(n), "b": optax.adam(0.1)}, {"x": "a", "y": "b"}),
    "a module": lambda n: eqx.nn.MLP(2, 2, 4, n, activation=lambda x: jnp.tanh(x), key=jax.random.key(0)),
    "a dict": lambda n: {"a": [1, (n, None)]},
    "an array": lambda n: np.arange(n),
    "of JAX": lambda n: jnp.full((2,), n),
}


@pytest.mark.parametrize("name", MAKERS)
def test_made_twice(name):
    make = MAKERS[name]
    assert difference(make(1), make(1)) is None
    assert difference(make(1), make(2)) is not None


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (1, 1.0, "here: 1 and 1.0"),
        (1, True, "here: 1 and True"),
        ([1, 2], [1], "here.its length: 2 and 1"),
        ({"a": 1}, {"b": 1}, "here.its names.[0]: 'a' and 'b'"),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, "here.a.b: 1 and 2"),
        (closure(1), closure(3), "here.n: 1 and 3"),
        (closure(1), adder(1), "here.code: "),
        (np.zeros(2), np.zeros(3), "here: two arrays that differ"),
        (jnp.tanh, jnp.sin, "here"),
    ],
)
def test_what_differs_is_named(one, other, said):
    assert difference(one, other, "here").startswith(said)


def test_what_refers_to_itself_comes_to_an_end():
    def loop():
        found = {}
        found["again"] = found
        return found

    assert difference(loop(), loop()) is None


def test_arrays_are_compared_to_the_bit():
    nan = np.array([np.nan, 1.0])
    assert same_array(nan, nan.copy())
    assert not same_array(np.array([0.0]), np.array([-0.0]))
    assert not same_array(np.float32(1.0), np.float64(1.0))
    assert not same_array(1.0, 1)
    assert not same_array(jnp.asarray(1.0), jnp.float32(1.0) * jnp.ones((), "float32"))  # one is weakly typed
    assert same_array(jax.random.key(3), jax.random.key(3))
    assert not same_array(jax.random.key(3), jax.random.key(4))

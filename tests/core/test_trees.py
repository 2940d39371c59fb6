"""Helpers on pytrees: names, norms, splits and keys."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import (
    all_finite,
    cast_floats,
    count_parameters,
    float_dtype,
    global_norm,
    leaf_names,
    named_key,
    named_leaves,
    split_parameters,
    tree_select,
)

KEY = jax.random.key(0)


class Nodes(eqx.Module):
    nodes: list
    scale: jax.Array


def test_names_read_like_the_code_that_reaches_the_leaf():
    tree = {
        "layers": [eqx.nn.Linear(2, 2, key=KEY), None],
        "net": Nodes([{"w": jnp.ones(2)}, jnp.zeros(1)], jnp.ones(())),
    }
    names = leaf_names(tree)
    assert names == ["layers.0.weight", "layers.0.bias", "net.nodes.0.w", "net.nodes.1", "net.scale"]
    assert leaf_names(jnp.ones(2)) == ["value"]
    assert leaf_names({}) == []


def test_names_that_would_clash_are_spelled_out():
    assert leaf_names({"a.b": 1, "a": {"b": 2}, "c": 3}) == ["['a']['b']", "['a.b']", "c"]
    assert named_leaves({"a.b": 1, "a": {"b": 2}}) == {"['a']['b']": 2, "['a.b']": 1}


_trees = st.recursive(
    st.just(0),
    lambda t: st.lists(t, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "a.b", "0"]), t),
)


@given(_trees)
def test_names_are_unique_and_one_a_leaf(tree):
    names = leaf_names(tree)
    assert len(set(names)) == len(names) == len(jax.tree.leaves(tree))


def test_splitting_and_combining_gives_the_model_back():
    model = {"net": eqx.nn.MLP(2, 1, 3, 1, key=KEY), "count": jnp.arange(2), "name": "x", "none": None}
    params, rest = split_parameters(model)
    assert all(eqx.is_inexact_array(x) for x in jax.tree.leaves(params))
    assert not any(eqx.is_inexact_array(x) for x in jax.tree.leaves(rest))
    assert eqx.tree_equal(eqx.combine(params, rest), model)
    assert count_parameters(params) == count_parameters(model) == 2 * 3 + 3 + 3 + 1


def test_a_trainable_specification_holds_the_rest():
    model = {"net": eqx.nn.MLP(2, 1, 3, 1, key=KEY), "count": jnp.arange(2)}
    spec = jax.tree.map(lambda _: False, model)
    spec = eqx.tree_at(lambda m: m["net"].layers[-1].weight, spec, True)
    params, rest = split_parameters(model, spec)
    assert leaf_names(params) == ["net.layers.1.weight"]
    assert eqx.tree_equal(eqx.combine(params, rest), model)
    prefix, _ = split_parameters(model, {"net": True, "count": True})
    assert count_parameters(prefix) == count_parameters(model)  # integers stay out, whatever the specification
    by_function, _ = split_parameters(model, lambda x: x.ndim == 2)
    assert leaf_names(by_function) == ["net.layers.0.weight", "net.layers.1.weight"]


def test_the_norm_spans_leaves_of_any_dtype(x64):
    tree = {"a": jnp.full(2, 2.0, jnp.float32), "b": jnp.float64(1.0), "c": None, "d": jnp.zeros(0)}
    assert global_norm(tree) == 3.0
    assert global_norm(tree).dtype == jnp.float64
    assert global_norm({"z": jnp.asarray(3 + 4j)}) == 5.0
    assert global_norm({}) == 0.0


def test_the_norm_of_float16_leaves_does_not_overflow():
    assert global_norm([jnp.full(4, 300.0, jnp.float16)]) == 600.0


def test_the_widest_dtype_of_the_parameters(x64):
    half, single, double = (jnp.zeros(1, t) for t in (jnp.bfloat16, jnp.float32, jnp.float64))
    assert float_dtype([half]) == float_dtype([]) == float_dtype([half, single]) == np.float32
    assert float_dtype([half, double, single]) == float_dtype(jnp.zeros(1, jnp.complex128)) == np.float64
    assert float_dtype({"z": jnp.zeros(1, jnp.complex64), "n": jnp.arange(2), "o": None}) == np.float32


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_finite_means_every_entry_of_every_leaf(bad):
    tree = {"a": jnp.ones(3), "n": jnp.arange(2), "key": KEY, "f": jnp.tanh, "none": None}
    assert all_finite(tree)
    assert all_finite({})
    assert not all_finite({**tree, "a": jnp.array([1.0, bad, 1.0])})


def test_select_takes_all_of_one_tree():
    yes = {"a": jnp.ones(2), "n": np.arange(2), "key": jax.random.key(1), "f": jnp.tanh, "none": None}
    no = {"a": jnp.zeros(2), "n": np.arange(2) + 5, "key": jax.random.key(2), "f": jnp.tanh, "none": None}
    select = eqx.filter_jit(tree_select)
    for condition, expected in ((True, yes), (False, no)):
        got = tree_select(jnp.array(condition), yes, no)
        np.testing.assert_array_equal(got["a"], expected["a"])
        np.testing.assert_array_equal(got["n"], expected["n"])  # NumPy leaves are arrays too
        assert jax.random.key_data(got["key"]).tolist() == jax.random.key_data(expected["key"]).tolist()
        assert got["f"] is jnp.tanh
        np.testing.assert_array_equal(select(jnp.array(condition), yes, no)["a"], expected["a"])


def test_selecting_a_finite_tree_hides_no_nan():
    picked = tree_select(jnp.array(False), {"a": jnp.array([jnp.nan])}, {"a": jnp.array([1.0])})
    assert picked["a"] == 1.0


def test_only_floating_point_leaves_are_cast():
    tree = {"a": jnp.ones(2), "b": np.ones(2, np.float32), "n": jnp.arange(2), "key": KEY, "s": "x", "c": 1.5}
    cast = cast_floats(tree, "float16")
    assert cast["a"].dtype == cast["b"].dtype == jnp.float16
    assert cast["n"].dtype == jnp.int32
    assert (cast["key"], cast["s"], cast["c"]) == (KEY, "x", 1.5)


def test_a_named_key_is_the_same_for_the_same_name_and_another_for_another():
    numbers = {n: jax.random.bits(named_key(KEY, n)).item() for n in ("init", "data", "step")}
    assert len(set(numbers.values())) == 3
    assert numbers["data"] == jax.random.bits(named_key(jax.random.key(0), "data")).item()
    assert numbers["data"] != jax.random.bits(named_key(jax.random.key(1), "data")).item()
    assert numbers["init"] == 432271249, "a change here changes every run ever recorded"

"""Errors, controls, extras, contracts, progress and JSON."""

from __future__ import annotations

import json
import math
import struct
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hardgrad.core import (
    CheckpointError,
    Contract,
    HardgradError,
    MissingExtraError,
    NoDerivativeError,
    Order,
    Progress,
    RunError,
    UsageError,
    control,
    did_you_mean,
    dumps,
    finite_number,
    number,
    one_of,
    require,
    resolve,
)


@pytest.mark.parametrize(
    ("given_name", "known", "said"),
    [
        ("dept", ["depth", "eps"], "Did you mean 'depth'?"),
        ("song", ["song-coldstart", "song-onestep", "long"], "Did you mean 'song-coldstart' or 'song-onestep'?"),
        ("Song", [f"song-{i}" for i in range(5)], "Did you mean 'song-4'?"),
        ("epoch", ["epochs", "epoch-coefficient"], "Did you mean 'epochs'?"),
        ("zzz", ["eps", "depth"], "Known: depth, eps."),
        ("zzz", [], "Known: (none)."),
    ],
)
def test_the_sentence_after_an_unknown_name(given_name, known, said):
    assert did_you_mean(given_name, known) == said


def test_mistakes_and_failures_are_told_apart():
    for mistake in (NoDerivativeError, CheckpointError, MissingExtraError):
        assert issubclass(mistake, UsageError)
    assert issubclass(UsageError, HardgradError)
    assert issubclass(UsageError, ValueError)
    assert issubclass(RunError, HardgradError)
    assert not issubclass(RunError, UsageError)
    assert issubclass(MissingExtraError, ImportError)


def test_a_control_is_looked_up_and_a_number_is_itself():
    assert resolve(0.5, {}) == 0.5
    assert resolve(control("eps"), {"eps": 0.25}) == 0.25
    with pytest.raises(UsageError, match=r"'epz'.*Did you mean 'eps'\?.*Plan\(epz=\.\.\.\)"):
        resolve(control("epz"), {"eps": 0.25})


def test_a_missing_extra_gives_the_line_that_installs_it():
    assert require("json", extra="plots") is json
    with pytest.raises(MissingExtraError, match=r"pip install 'hardgrad\[plots\]'"):
        require("hardgrad_has_no_such_module", extra="plots")


def test_a_contract_counts_evaluations():
    assert Contract(Order.ZERO, False, 1, evaluations_per_parameter=2).evaluations(6) == 13
    assert Contract(Order.ONE, False, 1).evaluations(10**9) == 1


def test_the_length_of_a_run_may_be_unknown():
    assert Progress(0, 0, 3, 4).total_steps == 12
    assert Progress(0, 0, 3).total_steps is None


# ------------------------------------------------------------------------------------------- JSON


def bits(x):
    return struct.pack("<d", x)


@given(st.floats(allow_nan=False))
def test_every_float_survives_to_the_bit(x):
    assert bits(number(json.loads(dumps(x)))) == bits(x)
    assert bits(number(json.loads(dumps({"a": [np.float64(x)]}))["a"])[0]) == bits(x)


def test_not_a_number_survives():
    text = dumps({"loss": math.nan, "all": jnp.array([1.0, jnp.inf, -jnp.inf, jnp.nan])})
    assert "NaN" in text
    read = json.loads(text, parse_constant=lambda name: pytest.fail(f"bare {name} is not JSON"))
    assert math.isnan(number(read["loss"]))
    values = number(read["all"])
    assert values[:3] == [1.0, math.inf, -math.inf]
    assert math.isnan(values[3])


def test_strings_that_are_no_numbers_stay():
    assert number(["nan", "Inf", "x", None, 3]) == ["nan", "Inf", "x", None, 3]


def test_arrays_scalars_and_odd_keys():
    value = {
        "f32": np.float32(0.1),
        "f16": jnp.ones(2, jnp.bfloat16),
        "flag": np.bool_(True),
        "n": np.int64(2**53 + 1),
        "2d": jnp.arange(4).reshape(2, 2),
        3: (1, "é", None, True),
    }
    assert json.loads(dumps(value)) == {
        "f32": float(np.float32(0.1)),
        "f16": [1.0, 1.0],
        "flag": True,
        "n": 2**53 + 1,
        "2d": [[0, 1], [2, 3]],
        "3": [1, "é", None, True],
    }
    assert dumps({"a": 1}, indent=1) == '{\n "a": 1\n}'
    assert dumps({"a": math.nan}, indent=1) == '{\n "a": "NaN"\n}'


@pytest.mark.parametrize("value", [object(), {"a": {1, 2}}, [1 + 2j], jax.random.key(0)])
def test_what_has_no_json_form_is_refused(value):
    with pytest.raises(TypeError):
        dumps(value)


def test_a_finite_number_is_one_and_in_range():
    assert finite_number("eps", np.float32(0.5), above=0.0) == 0.5
    assert type(finite_number("eps", 1, least=1.0)) is float
    for value in (math.nan, math.inf, True, "1", None, 1j, np.ones(1), -0.5):
        with pytest.raises(UsageError, match="eps must be a finite number, at least 0; got"):
            finite_number("eps", value, least=0.0)
    with pytest.raises(UsageError, match="eps must be a finite number above 0; got 0"):
        finite_number("eps", 0.0, above=0.0)


def test_one_of_names_the_nearest():
    one_of("mode", "max", Literal["min", "max"])
    with pytest.raises(UsageError, match=r"mode is not 'maxx'\. Did you mean 'max'\?"):
        one_of("mode", "maxx", Literal["min", "max"])

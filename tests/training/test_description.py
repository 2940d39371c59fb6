"""What a run notes of its method and its data: every number, no address, and another one is refused."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import fit, rows, squares

from hardgrad.core import UsageError, control
from hardgrad.estimators import SPSA, AntitheticNES, Autodiff, Hybrid
from hardgrad.training import CMAES, EvolutionMethod, GradientMethod, InMemory, Stream, Trainer, controlled
from hardgrad.training._description import describe, summarise


def by(optimizer, estimator=None):
    return GradientMethod(estimator or Autodiff(), optimizer)


PAIRS = {
    "rate": (by(optax.adam(1e-2)), by(optax.adam(1e-3))),
    "moment": (by(optax.adam(1e-2)), by(optax.adam(1e-2, b1=0.8))),
    "schedule": (
        by(optax.sgd(optax.cosine_decay_schedule(0.1, 50))),
        by(optax.sgd(optax.cosine_decay_schedule(0.1, 60))),
    ),
    "clipping": (by(optax.chain(optax.clip(1.0), optax.sgd(0.1))), by(optax.chain(optax.clip(2.0), optax.sgd(0.1)))),
    "injected": tuple(by(optax.inject_hyperparams(optax.adam)(learning_rate=rate)) for rate in (0.1, 0.2)),
    "array": (by(optax.sgd(jnp.float32(0.25))), by(optax.sgd(jnp.float32(0.5)))),
    "labels": tuple(by(optax.partition({"a": optax.sgd(1.0), "b": optax.sgd(0.1)}, {"x": label})) for label in "ab"),
    "factory": (
        by(controlled(optax.adam, control("learning_rate"))),
        by(controlled(optax.sgd, control("learning_rate"))),
    ),
    "estimator": (by(optax.adam(0.1), SPSA(directions=8)), by(optax.adam(0.1), SPSA(directions=4))),
    "nested": tuple(by(optax.adam(0.1), Hybrid(Autodiff(), AntitheticNES(pairs=n))) for n in (2, 4)),
    "strategy": (EvolutionMethod(CMAES(population=8)), EvolutionMethod(CMAES(population=16))),
    "partial": tuple(by(optax.scale_by_schedule(functools.partial(pow, base))) for base in (0.5, 0.25)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_number_that_differs_is_seen(name):
    one, other = map(describe, PAIRS[name])
    assert one != other
    assert "0x" not in one + other
    assert "<locals>" not in one + other
    assert max(map(len, one.splitlines())) <= 120


def test_an_optimiser_reads_as_it_was_written():
    assert describe(by(optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1)))).splitlines() == [
        "GradientMethod(",
        "  estimator=Autodiff,",
        "  optimizer=chain(clip_by_global_norm(max_norm=1.0), chain(identity, scale(step_size=-0.1))),",
        ")",
    ]


def test_keys_and_arrays_are_told_by_their_kind():
    assert describe((jax.random.key(0), jnp.ones((2, 3)), np.float32(0.5))) == "(key<fry>[], float32[2, 3], 0.5)"


def test_what_holds_itself_ends():
    def outer():
        def inner(count):
            return inner, count

        return inner

    assert describe(outer()).count("...") == 1


def test_data_are_told_apart_by_shape_dtype_mean_and_deviation():
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = summarise(InMemory({"x": x, "flags": np.array([True, False, True])}, batch_size=1))
    assert [one["name"] for one in found] == ["flags", "x"]
    assert (found[1]["shape"], found[1]["dtype"]) == ([3, 2], "float32")
    assert (found[1]["mean"], found[1]["deviation"]) == pytest.approx((2.5, x.std()))
    (half,) = summarise(InMemory(jnp.ones(3, jnp.bfloat16)))
    assert (half["dtype"], half["mean"], half["deviation"]) == ("bfloat16", 1.0, 0.0)
    assert summarise(Stream([x])) is None
    assert summarise(None) is None


OTHERS = {
    "shifted": lambda x, y: (x + 1, y),
    "fewer": lambda x, y: (x[:8], y[:8]),
    "scaled": lambda x, y: (x, 1.01 * y),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_data_are_refused(tmp_path, name):
    fit(epochs=1, run=tmp_path / "run")
    with pytest.raises(UsageError, match="was begun on other data"):
        fit(epochs=2, run=tmp_path / "run", data=OTHERS[name](*rows()), resume=True)


def test_data_that_differ_by_rounding_are_the_same(tmp_path):
    x, y = rows()
    fit(epochs=1, run=tmp_path / "run", data=(x, y))
    assert len(fit(epochs=2, run=tmp_path / "run", data=(x * (1 + 1e-6), y), resume=True).history) == 2


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_data_that_are_not_finite_are_the_same_as_themselves(tmp_path, odd):
    x, y = rows()
    x = x.copy()
    x[0] = odd
    loss = lambda model, batch, controls, key: (model.weight.sum() ** 2, {})

    def go(**given):
        data = InMemory((x, y), batch_size=4, allow_non_finite=True)
        return fit(data=data, objective=loss, run=tmp_path / "run", **given)

    go(epochs=1)
    assert len(go(epochs=2, resume=True).history) == 2


def test_another_method_is_refused_and_the_difference_shown(tmp_path):
    fit(Trainer(by(optax.adam(0.1))), epochs=1, run=tmp_path / "run")
    with pytest.raises(
        UsageError, match=r"begun with another method(.|\n)*- .*step_size=-0\.1(.|\n)*\+ .*step_size=-0\.2"
    ):
        fit(Trainer(by(optax.adam(0.2))), epochs=2, run=tmp_path / "run", resume=True)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["method"] == describe(by(optax.adam(0.1)))
    fit(Trainer(by(optax.adam(0.1))), epochs=2, run=tmp_path / "run", resume=True)


def squares_and(weight):
    def loss(model, batch, controls, key):
        value, metrics = squares(model, batch, controls, key)
        return value + weight * jnp.sum(model.weight**2), metrics

    return loss


class Weighted(eqx.Module):
    weight: float
    loss: Callable = squares

    def __call__(self, model, batch, controls, key):
        return squares_and(self.weight)(model, batch, controls, key)


class Plain:
    def __call__(self, model, batch, controls, key):
        return squares(model, batch, controls, key)

    def again(self, model, batch, controls, key):
        return squares(model, batch, controls, key)


def weighted(weight, model, batch, controls, key):
    return squares_and(weight)(model, batch, controls, key)


OBJECTIVES = {
    "function": (lambda: squares, "squares"),
    "closure": (lambda: squares_and(0.5), "squares_and(weight=0.5)"),
    "partial": (lambda: functools.partial(weighted, 0.5), "weighted(0.5)"),
    "module": (lambda: Weighted(0.5), "Weighted(weight=0.5, loss=squares)"),
    "object": (Plain, "Plain"),
    "method": (lambda: Plain().again, "Plain.again"),
    "compiled": (lambda: jax.jit(squares_and(0.25)), "squares_and(weight=0.25)"),
    "lambda": (lambda: lambda *given: squares(*given), "<lambda>"),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_known_by_its_name_and_numbers(tmp_path, name):
    make, text = OBJECTIVES[name]
    fit(epochs=1, run=tmp_path / "run", objective=make())
    assert json.loads((tmp_path / "run" / "config.json").read_text())["objective"] == text
    assert fit(epochs=2, run=tmp_path / "run", objective=make(), resume=True).epochs == 2
    with pytest.raises(UsageError, match=rf"begun with another objective(.|\n)*\n- {re.escape(text)}\n"):
        fit(epochs=3, run=tmp_path / "run", objective=squares_and(0.125), resume=True)


def test_a_number_of_an_objective_may_differ_by_rounding_and_no_more(tmp_path):
    fit(epochs=1, run=tmp_path / "run", objective=squares_and(0.3))
    assert fit(epochs=2, run=tmp_path / "run", objective=squares_and(0.3 * (1 + 1e-6)), resume=True).epochs == 2
    with pytest.raises(UsageError, match=r"- squares_and\(weight=0\.3\)(.|\n)*\+ squares_and\(weight=0\.31\)"):
        fit(epochs=3, run=tmp_path / "run", objective=squares_and(0.31), resume=True)
    fit(epochs=1, run=tmp_path / "whole", objective=squares_and(10000))
    with pytest.raises(UsageError, match="begun with another objective"):
        fit(epochs=2, run=tmp_path / "whole", objective=squares_and(10001), resume=True)


def test_a_run_that_does_not_say_with_which_objective_is_refused(tmp_path):
    fit(epochs=1, run=tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    config = json.loads(path.read_text())
    del config["objective"]
    path.write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"its config\.json names no objective"):
        fit(epochs=2, run=tmp_path / "run", resume=True)


def test_a_run_goes_on_in_the_precision_it_was_begun_in(tmp_path, x64):
    with jax.enable_x64(False):
        fit(epochs=1, run=tmp_path / "run")
    with pytest.raises(UsageError, match="was begun with jax_enable_x64=False; resume it with that, not True"):
        fit(epochs=2, run=tmp_path / "run", resume=True)

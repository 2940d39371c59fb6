"""How often things compile: once a shape and once a value of a static control."""

from __future__ import annotations

import re
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import METHOD, SCHEDULED, fit, line, rows, same, squares

from hardgrad.core import UsageError, control
from hardgrad.estimators import SPSA, Autodiff, CentralDifference
from hardgrad.schedules import LinearRamp, Plan, Static
from hardgrad.training import GradientMethod, InMemory, Stream, Trainer


class Counting:
    """An objective that counts how often it is traced."""

    def __init__(self):
        self.count = 0

    def __call__(self, model, batch, controls, key):
        self.count += 1
        return squares(model, batch, controls, key)


def test_a_second_fit_compiles_nothing():
    counting = Counting()
    trainer = Trainer(METHOD, plan=Plan(rate=LinearRamp(1.0, 2.0, 3)))
    data = InMemory(rows(), batch_size=5)
    fit(trainer, objective=counting, data=data, epochs=3, validation=rows())
    once = counting.count
    fit(trainer, objective=counting, data=data, epochs=5, validation=rows(), seed=4)
    assert counting.count == once
    other = Trainer(METHOD, plan=Plan(rate=LinearRamp(5.0, 1.0, 2)))  # other numbers, other objects
    fit(other, objective=counting, data=InMemory(rows(), batch_size=5), model=line(), epochs=2, validation=rows())
    assert counting.count == once


def test_an_epoch_like_the_last_compiles_nothing():
    for method in (METHOD, GradientMethod(SPSA(), optax.adam(0.1)), GradientMethod(Autodiff(), optax.lbfgs())):
        counting, counts = Counting(), []
        trainer = Trainer(method)
        fit(trainer, objective=counting, epochs=1)
        counts.append(counting.count)
        fit(trainer, objective=counting, epochs=4)
        assert counting.count == counts[0]


@pytest.mark.parametrize("make", [CentralDifference, SPSA])
def test_another_number_in_a_method_compiles_nothing(make):
    counting, optimizer = Counting(), optax.sgd(0.1)
    small = fit(Trainer(GradientMethod(make(1e-2), optimizer)), objective=counting)
    once = counting.count
    large = fit(Trainer(GradientMethod(make(0.5), optimizer)), objective=counting)
    assert counting.count == once
    assert not np.array_equal(small.model.weight, large.model.weight)


def test_a_scheduled_rate_compiles_once_and_is_used():
    counting = Counting()
    trainer = Trainer(SCHEDULED, plan=Plan(learning_rate=lambda p: 0.1 / (1 + p.step)))
    data = InMemory(rows(), batch_size=2, shuffle=False)
    result = fit(trainer, objective=counting, data=data, epochs=2)
    once = counting.count
    fit(trainer, objective=counting, data=data, epochs=3)
    assert counting.count == once
    x, y = rows(np.float64)
    w, b = np.array([0.5, -0.25, 0.125]), 0.0
    for step in range(10):
        part = slice(2 * (step % 5), 2 * (step % 5) + 2)
        error = x[part] @ w + b - y[part]
        w, b = w - 0.1 / (1 + step) * x[part].T @ error, b - 0.1 / (1 + step) * error.sum()
    np.testing.assert_allclose(result.model.weight, w, rtol=1e-5)


class Depth:
    """An objective whose loop is as long as the static control says."""

    def __init__(self):
        self.traced = []

    def __call__(self, model, batch, controls, key):
        depth = controls["depth"]
        assert isinstance(depth, int)
        self.traced.append(depth)
        value = model.weight
        for _ in range(depth):
            value = jnp.tanh(value)
        return jnp.sum(value**2) * batch, {"depth": jnp.float32(depth)}


def test_a_static_control_compiles_one_program_a_value():
    objective = Depth()
    trainer = Trainer(METHOD, plan=Plan(depth=Static(lambda p: (1, 2, 4, 2, 1, 4)[p.epoch])))
    result = fit(trainer, objective=objective, data=np.float32(1.0), epochs=6)
    assert [r.metrics["depth"] for r in result.history] == [1, 2, 4, 2, 1, 4]
    each = len(objective.traced) // 3
    assert sorted(objective.traced) == [1] * each + [2] * each + [4] * each
    fit(trainer, objective=objective, data=np.float32(1.0), epochs=6)
    assert len(objective.traced) == 3 * each


def test_a_static_control_may_change_within_an_epoch():
    objective = Depth()
    trainer = Trainer(METHOD, plan=Plan(depth=Static(lambda p: 1 if p.step < 3 else 2)))
    data = InMemory(np.ones(5, np.float32), batch_size=1)

    def summed(model, batch, controls, key):
        return objective(model, jnp.sum(batch), controls, key)

    result = fit(trainer, objective=summed, data=data, epochs=1)
    assert result.steps == 5
    assert result.history[0].metrics["depth"] == pytest.approx((3 * 1 + 2 * 2) / 5)
    assert result.history[0].controls["depth"] == 2  # those of the last step


@pytest.mark.parametrize("stream", [True, False])
def test_validation_has_the_controls_of_its_own_epoch(stream):
    trainer = Trainer(METHOD, plan=Plan(depth=Static(lambda p: (1, 2, 4)[p.epoch]), rate=lambda p: p.epoch + 0.5))

    def objective(model, batch, controls, key):
        loss, metrics = Depth()(model, jnp.sum(batch), controls, key)
        return loss, {**metrics, "rate": jnp.asarray(controls["rate"])}

    held_out = Stream([np.ones(1, np.float32)]) if stream else np.ones(1, np.float32)
    data = InMemory(np.ones(4, np.float32), batch_size=2)
    result = fit(trainer, objective=objective, data=data, validation=held_out, epochs=3)
    assert [r.metrics["val_depth"] for r in result.history] == [1, 2, 4]
    assert [r.metrics["val_rate"] for r in result.history] == [0.5, 1.5, 2.5]


def test_many_static_values_are_warned_of_before_training():
    def count(progress):
        return progress.epoch + 1

    trainer = Trainer(METHOD, plan=Plan(depth=Static(count)))
    with pytest.warns(UserWarning, match=r"'depth' take 9 different values.*powers of two"):
        fit(trainer, objective=Depth(), data=np.float32(1.0), epochs=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(trainer, objective=Depth(), data=np.float32(1.0), epochs=2)


def test_a_stream_of_equal_batches_compiles_once():
    counting = Counting()
    x, y = rows()
    batches = [(x[i : i + 2], y[i : i + 2]) for i in range(0, 10, 2)]
    fit(data=Stream(batches, batches_per_dispatch=5), objective=counting, epochs=2)
    once = counting.count
    fit(data=Stream(lambda epoch: batches[::-1], batches_per_dispatch=5), objective=counting, epochs=3)
    assert counting.count == once


class Power(eqx.Module):
    """A model whose static part decides what is computed."""

    weight: jnp.ndarray
    power: object


def test_static_parts_that_compare_equal_are_still_told_apart():
    def objective(model, batch, controls, key):
        kind = {bool: 1.0, int: 2.0, float: 3.0}[type(model.power)]
        return jnp.sum(model.weight**2), {"kind": jnp.float32(kind)}

    found = [
        fit(model=Power(jnp.ones(2), power), objective=objective, epochs=1).history[0].metrics["kind"]
        for power in (True, 1, 1.0)
    ]
    assert found == [1.0, 2.0, 3.0]


def test_controls_that_are_whole_numbers_at_first_stay_exact():
    """A schedule may give 0 and then 0.5; all steps of an epoch travel together."""

    def reads(model, batch, controls, key):
        return jnp.sum(model.weight**2), {"value": jnp.asarray(controls["value"], jnp.float32)}

    trainer = Trainer(METHOD, plan=Plan(value=lambda p: 0 if p.step == 0 else 0.5))
    data = InMemory(np.ones(4, np.float32), batch_size=1)
    assert fit(trainer, objective=reads, data=data, epochs=1).history[0].metrics["value"] == 0.375


def test_controls_keep_their_kind():
    seen = {}

    def reads(model, batch, controls, key):
        seen.update({name: value.dtype for name, value in controls.items()})
        return jnp.sum(model.weight**2), {}

    plan = Plan(flag=lambda p: p.epoch > 0, whole=lambda p: p.epoch + 1, real=lambda p: 0.5)
    result = fit(Trainer(METHOD, plan=plan), objective=reads, data=np.float32(1.0))
    assert seen == {"flag": jnp.bool_, "whole": jnp.int32, "real": jnp.float32}
    assert result.history[1].controls == {"flag": True, "whole": 2, "real": 0.5}


def test_the_key_of_a_step_depends_on_seed_and_step():
    def draws(model, batch, controls, key):
        return jnp.sum(model.weight**2), {"draw": jax.random.uniform(key)}

    data = InMemory(np.ones(3, np.float32), batch_size=1)

    def keep(params, outcome):
        return {"draw": outcome.metrics["draw"]}

    trainer = Trainer(METHOD, record=keep)
    values = [
        np.ravel([r.arrays["draw"] for r in fit(trainer, objective=draws, data=data, seed=s).history]) for s in (0, 1)
    ]
    assert len(np.unique(values)) == 12
    split = Trainer(METHOD, record=keep, steps_per_dispatch=2)
    again = np.ravel([v for r in fit(split, objective=draws, data=data, seed=1).history for v in r.arrays["draw"]])
    same(again, values[1])


def test_a_control_the_plan_lacks_is_named():
    with pytest.raises(UsageError, match=r"no control named 'learning_rate' is set by the plan"):
        fit(Trainer(SCHEDULED))
    method = GradientMethod(CentralDifference(control("epz")), optax.sgd(0.1))
    with pytest.raises(UsageError, match=r"Did you mean 'eps'\?"):
        fit(Trainer(method, plan=Plan(eps=0.1)))


def test_an_objective_is_told_which_control_the_plan_lacks():
    def reads(name):
        def objective(model, batch, controls, key):
            rows = jax.vmap(lambda x, all: x * all["rate"], in_axes=(0, None))(batch, controls)  # a pytree like a dict
            return jnp.sum(model.weight) ** 2 * jnp.mean(rows) * controls.get("none", 1) * controls[name], {}

        return objective

    data = InMemory(np.ones(2, np.float32))
    trainer = Trainer(METHOD, plan=Plan(rate=0.5))
    with pytest.raises(UsageError, match=r"no control named 'ratee' is set by the plan\. Did you mean 'rate'\?"):
        fit(trainer, objective=reads("ratee"), data=data)
    with pytest.raises(UsageError, match=r"Add it: Plan\(lambda_=\.\.\.\)"):
        fit(trainer, objective=reads("lambda_"), data=data)
    for name in ("lambda", "not-a-name"):  # what is proposed can be typed
        with pytest.raises(UsageError, match=re.escape(f'Add it: Plan(**{{"{name}": ...}})')):
            fit(trainer, objective=reads(name), data=data)
    fit(trainer, objective=reads("rate"), data=data)

"""The trainer follows the published one, step by step, and does what that one leaves undone."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import rational_golden as golden

from hardgrad.core import Progress, RunError, UsageError
from hardgrad.estimators import SPSA
from hardgrad.rational import (
    AdaptiveSampler,
    GradientPolicy,
    JsonlLogger,
    LossConfig,
    LossWeightsCurriculum,
    RationalMLP,
    SCMObjective,
    SCMTrainer,
    SCMTrainingLoss,
    TrainingConfig,
    lift_targets,
    read_jsonl,
)
from hardgrad.schedules import LinearRamp, UniformDraw
from hardgrad.training import EpochRecord, GradientMethod, InMemory, RunFolder, Status, Stream
from hardgrad.training.callbacks import Callback, Checkpoints, StopBelow


class Small(eqx.Module):
    """Linear(2, 5) → tanh → Linear(5, 2) → (P, Q)."""

    weight_0: Any
    bias_0: Any
    weight_1: Any
    bias_1: Any

    def __call__(self, x: Any) -> tuple[Any, Any]:
        """P and Q, ``[B]``."""
        out = jnp.tanh(x @ self.weight_0.T + self.bias_0) @ self.weight_1.T + self.bias_1
        return out[..., 0], out[..., 1]


def small(case: Any, dtype: Any) -> Small:
    """The model of the trajectories at its start."""
    return Small(*(jnp.asarray(golden.array(case[name], dtype)) for name in ("W0", "b0", "W1", "b1")))


@functools.cache  # a loss is told by identity: another would compile another program
def published_loss(detach_scale: bool) -> Any:
    """The loss of the trajectories, wired as the guides wire it."""
    settings = {"tau_train": 1e-2, "lambda_margin": 0.5, "lambda_sign": 0.2, "lambda_rej": 0.1}
    combined = SCMTrainingLoss(
        LossConfig(**settings, fit="implicit", detach_scale=detach_scale, orientation="cosine", rejection="hard")
    )

    def loss_fn(outputs: Any, lifted: Any, *, tau: Any) -> Any:
        P, Q = outputs
        Y_n, Y_d = lifted
        masks = {"is_bottom": jnp.abs(Q) < tau, "mask_finite": Y_d != 0, "mask_singular": Y_d == 0}
        return combined(P, Q, Y_n, Y_d, tau_train=tau, **masks)[0]

    return loss_fn


# -- the published trajectories ----------------------------------------------------------------------

TRAJECTORIES = golden.cases("trainer_trajectory")
LAYERS = {"weight_0": "net.0.weight", "bias_0": "net.0.bias", "weight_1": "net.2.weight", "bias_1": "net.2.bias"}


def like_published(case: Any, dtype: Any, *, loss: Any = None, **settings: Any) -> SCMTrainer:
    """The trainer of a trajectory."""
    x, y = golden.array(case["X"], dtype), golden.array(case["Y"], dtype)
    config = TrainingConfig(
        learning_rate=float(case["optimizer"].partition("lr=")[2]),
        tau_train_min=1e-2,
        tau_train_max=1e-2,
        batch_size=case["batch_size"],
        shuffle=False,
        coverage_threshold=0.0,
        val_loader=[(x[:9], y[:9]), (x[9:12], y[9:12])],
        validation_batch_size=9,
        **{"max_epochs": case["epochs"], "gradient_accumulation_steps": case["accumulation"], **settings},
    )
    optimizer = optax.sgd if case["optimizer"].startswith("SGD") else optax.adam
    loss = published_loss(case["detach_scale"]) if loss is None else loss
    return SCMTrainer(small(case, dtype), optimizer, loss, (x, y), config=config)


@pytest.mark.parametrize("case", TRAJECTORIES, ids=lambda case: f"{case['optimizer']} {case['dtype']}")
def test_a_published_run_step_by_step(case: Any, x64: None) -> None:
    dtype, out = np.dtype(case["dtype"]), case["out"]
    records: list[Any] = []
    trainer = like_published(case, dtype, log_hook=records.append)
    trainer.fit()
    assert [record["phase"] for record in records] == out["phases"]
    assert [record["step"] for record in records] == out["steps"]
    train = [record for record in records if record["phase"] == "train"]
    assert set(train[0]) >= set(out["log_hook_keys_train"])
    assert len(trainer.last_thresholds) == out["last_thresholds_len"]
    # The run in float32 is a wild one, with losses above 5000: it multiplies what rounding leaves.
    near = golden.tolerance(dtype) if dtype == np.float64 else {"rtol": 2e-3, "atol": 1e-6}
    np.testing.assert_allclose([record["loss"] for record in train], out["losses"], **near)
    np.testing.assert_allclose(train[0]["loss"], out["losses"][0], **golden.tolerance(dtype))
    for found, expected in ((train[0], out["first_log"]), (train[-1], out["last_log"])):
        for name, value in expected.items():
            np.testing.assert_allclose(found["metrics"][name], value, err_msg=name, **near)
    for found, expected in zip(trainer.val_history, out["val_history"], strict=True):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, err_msg=name, **near)
    for ours, theirs in LAYERS.items():
        np.testing.assert_allclose(getattr(trainer.model, ours), golden.array(out["final"][theirs]), **near)


def the_fit(outputs: Any, lifted: Any) -> Any:
    """Of the published loss the fit alone, unscaled."""
    return jnp.mean(jnp.square(outputs[0] * lifted[1] - outputs[1] * lifted[0]))


def test_a_group_left_at_the_end_of_an_epoch_is_an_update_of_its_own(x64: None) -> None:
    case = TRAJECTORIES[0]
    x, y = golden.array(case["X"]), golden.array(case["Y"])
    trainer = like_published(case, np.float64, loss=the_fit, gradient_accumulation_steps=4, max_epochs=2)
    trainer.fit()
    by_hand, targets = small(case, np.float64), lift_targets(y)
    gradient = jax.jit(jax.grad(lambda model, x, lifted: the_fit(model(x), lifted)))
    batches = [slice(start, start + 4) for start in range(0, 22, 4)]
    for group in (batches[:4], batches[4:]) * 2:  # four batches, then two
        lifted = [(targets.numerator[rows], targets.denominator[rows]) for rows in group]
        gradients = [gradient(by_hand, x[rows], lift) for rows, lift in zip(group, lifted, strict=True)]
        by_hand = jax.tree.map(lambda p, *g: p - 0.05 * sum(g) / len(g), by_hand, *gradients)
    assert not np.array_equal(by_hand.weight_0, small(case, np.float64).weight_0)
    for found, expected in zip(jax.tree.leaves(trainer.model), jax.tree.leaves(by_hand), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)


# -- a small task ------------------------------------------------------------------------------------

CASE = TRAJECTORIES[0]
X = np.random.default_rng(5).uniform(-1.0, 1.0, (32, 2)).astype(np.float32)
X[::8, 1] = X[::8, 0]
with np.errstate(divide="ignore"):
    Y = (1.0 / (X[:, 0] - X[:, 1])).astype(np.float32)
LOSS = SCMTrainingLoss()


def an_objective(model: Any, batch: Any, controls: Any, key: Any) -> Any:
    """The fit alone: compiles in a fraction of the time, where the combined loss is not what a test is about."""
    x, targets = batch
    P, Q = model(x)
    return jnp.mean(jnp.square(P * targets.denominator - Q * targets.numerator)), {"tau_train": controls["tau"]}


def make(data: Any = (X, Y), *, model: Any = None, optimizer: Any = optax.adam, loss: Any = LOSS, **given: Any) -> Any:
    """A trainer of four batches an epoch, two epochs, unless told otherwise."""
    scheduler = given.pop("scheduler", None)
    arrays = {} if not isinstance(data, tuple) else {"batch_size": 8}
    config = TrainingConfig(**{"max_epochs": 2, "learning_rate": 1e-2, "coverage_threshold": 0.0, **arrays, **given})
    model = small(CASE, np.float32) if model is None else model
    return SCMTrainer(model, optimizer, loss, data, scheduler=scheduler, config=config)


def nowhere(record: Any) -> None:
    """A log that keeps nothing: with one and with validation data, most tests share a program."""


def same(one: Any, other: Any) -> None:
    """Two models agree in every bit."""
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


class Kill(Exception):
    """On purpose."""


class KillAfter(Callback):
    """Ends the process, as far as the run can tell, before the epoch is saved."""

    order = 80

    def __init__(self, epoch: int):
        self.epoch = epoch

    def on_epoch_end(self, run: Any, record: Any) -> None:
        """Fail."""
        if record.epoch == self.epoch:
            raise Kill


# -- what it says ------------------------------------------------------------------------------------


def test_before_and_after() -> None:
    trainer = make()
    start = trainer.model
    assert (trainer.current_epoch, trainer.global_step, trainer.last_thresholds, trainer.val_history) == (0, 0, [], [])
    result = trainer.fit()
    assert (result.status, result.epochs, result.steps) == (Status.COMPLETED, 2, 8)
    assert (trainer.current_epoch, trainer.global_step) == (2, 8)
    same(trainer.model, result.model)
    assert not np.array_equal(trainer.model.weight_0, start.weight_0)
    with pytest.raises(UsageError, match="this trainer has trained already"):
        trainer.fit()


def test_thresholds_are_drawn_for_each_step_and_validation_takes_their_mean() -> None:
    records: list[Any] = []
    taus = {"tau_train_min": 5e-5, "tau_train_max": 2e-4, "seed": 3}
    trainer = make(val_loader=(X, Y), log_hook=records.append, **taus)
    trainer.fit()
    assert trainer.last_thresholds == [UniformDraw(5e-5, 2e-4, seed=3).at(n) for n in range(8)]
    logged = [record["tau_train"] for record in records if record["phase"] == "train"]
    np.testing.assert_array_equal(np.float32(logged), np.float32(trainer.last_thresholds))
    assert [found["epoch"] for found in trainer.val_history] == [0.0, 1.0]
    for found, record in zip(trainer.val_history, (r for r in records if r["phase"] == "eval"), strict=True):
        assert np.float32(found["val_tau_eval"]) == np.float32(1.25e-4)
        assert "val_tau_train" not in found
        assert found.keys() >= {"val_loss", "val_coverage", "val_strict_error", "val_strict_recall"}
        assert record["metrics"] == {name: None if math.isnan(v) else v for name, v in found.items()}


@pytest.mark.parametrize("case", golden.cases("perturbed_threshold"))
def test_the_published_draw_of_a_threshold(case: Any) -> None:
    """The generator is another, so the draws are; interval, equal bounds and errors are as published."""
    low, high, out = case["tau_min"], case["tau_max"], case["out"]
    if isinstance(out, dict):
        with pytest.raises(UsageError):
            UniformDraw(low, high)
    elif low == high:
        assert {UniformDraw(low, high).at(n) for n in range(9)} == {out}
    else:
        drawn = [UniformDraw(low, high, seed=case["torch_seed"]).at(n) for n in range(len(out))]
        assert all(low <= value < high for value in (*drawn, *out))
        assert len(set(drawn)) == len(drawn)


def test_the_thresholds_kept_are_the_latest() -> None:
    trainer = make(max_epochs=1, tau_train_max=2e-4)
    trainer.fit()
    trainer._log.run.step = 10_000
    kept = trainer.last_thresholds
    assert len(kept) == 4096
    assert kept[-1] == UniformDraw(1e-4, 2e-4).at(9_999)


# -- stopping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", golden.cases("early_stop"))
def test_the_published_early_stop(case: Any) -> None:
    class Told:
        """A run that hears when it is to stop."""

        stopped = False
        measures: frozenset[str] = frozenset()

        def stop(self, reason: str) -> None:
            self.stopped = True

    callback, found = StopBelow("m", case["threshold"], patience=case["patience"]), []
    for value in case["coverages"]:
        run = Told()
        callback.on_epoch_end(run, EpochRecord(epoch=0, steps=0, controls={}, metrics={"m": value}))
        found.append(run.stopped)
    assert found == case["out"]


@pytest.mark.parametrize("validated", [True, False])
def test_low_coverage_stops_the_run_with_or_without_validation(validated: bool) -> None:
    settings = {"tau_train_min": 1.0, "tau_train_max": 1.0, "coverage_threshold": 0.9, "coverage_patience": 2}
    watched = "val_coverage" if validated else "coverage"
    more = {"val_loader": (X, Y), "log_hook": nowhere} if validated else {}
    result = make(max_epochs=9, **more, **settings).fit()
    assert (result.status, result.epochs) == (Status.STOPPED, 2)
    assert result.reason == f"{watched} has been below 0.9 for 2 epochs"
    assert make(max_epochs=3, **{**settings, "coverage_threshold": 0.0}).fit().epochs == 3


# -- data --------------------------------------------------------------------------------------------


class Loader:
    """An iterable of batches with a length, as a torch DataLoader is."""

    def __init__(self, batches: Any):
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batches)


BATCHES = [[X[i : i + 8], Y[i : i + 8]] for i in range(0, 32, 8)]
STATUS = np.where(np.isposinf(Y), "censored_above", "finite")


@pytest.mark.parametrize(
    "data",
    [
        (X, Y, STATUS),
        (X.astype(np.float64), lift_targets(Y)),
        (jnp.asarray(X), jnp.asarray(Y)),
        BATCHES,
        tuple(map(tuple, BATCHES)),
        Loader(BATCHES),
        Stream(lambda epoch: BATCHES, steps_per_epoch=4),
        InMemory((X, lift_targets(Y)), batch_size=8, shuffle=False),
    ],
    ids=["status", "targets", "jax", "list", "tuple", "loader", "stream", "in memory"],
)
def test_every_form_of_the_data_trains_alike(data: Any) -> None:
    arrays = isinstance(data, tuple) and not isinstance(data[0], tuple)
    trainer = make(data, shuffle=False, batch_size=8 if arrays else None, val_loader=data, log_hook=nowhere)
    trainer.fit()
    expected = make(shuffle=False, val_loader=(X, Y), log_hook=nowhere)
    expected.fit()
    for a, b in zip(jax.tree.leaves(trainer.model), jax.tree.leaves(expected.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert trainer.val_history[-1]["val_loss"] == pytest.approx(expected.val_history[-1]["val_loss"], rel=1e-5)


def test_batches_of_uneven_size_are_kept_apart() -> None:
    uneven = [(X[:4], Y[:4]), (X[4:16], Y[4:16]), (X[16:], Y[16:])]
    result = make(uneven, max_epochs=1, loss=an_objective).fit()
    assert result.steps == 3


def test_an_iterator_is_read_on() -> None:
    feed = Stream(iter(BATCHES), steps_per_epoch=2)
    result = make(feed, val_loader=iter(BATCHES), loss=an_objective).fit()
    assert (result.steps, len(result.history)) == (4, 2)


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        ((X, Y[:5]), {"batch_size": 8}, "all arrays need the same leading length"),
        ((X[:0], Y[:0]), {"batch_size": 8}, r"the training data have no rows"),
        ([], {}, "the training data hold no batch"),
        (Loader([]), {}, "the training data hold no batch"),
        (BATCHES, {"batch_size": 8}, "brings its own batches: leave it out"),
        ([(X,)], {}, r"a batch must be \(x, y\), \(x, y, status\) or \(x, Targets\), got tuple"),
        ((X, Y, np.full(32, "lost")), {"batch_size": 8}, "no status is called 'lost'"),
        (BATCHES, {"sampler": AdaptiveSampler()}, "a sampler draws rows of arrays"),
        ((X, Y), {"batch_size": 8, "val_loader": []}, "the validation data hold no batch"),
        ((X, Y), {"batch_size": 8, "val_loader": (X[:0], Y[:0])}, "the validation data have no rows"),
        ((X, Y), {"batch_size": 8, "val_loader": Stream([])}, "the validation data hold no batch"),
        ((X, Y), {"batch_size": 8, "val_loader": 3}, "the validation data must be arrays or an iterable of batches"),
    ],
)
def test_data_that_cannot_be_used(data: Any, settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make(data, **{"batch_size": None, **settings}).fit()


def with_nan() -> Any:
    spoilt = X.copy()
    spoilt[11, 0] = np.nan
    return spoilt


def test_inputs_that_are_not_finite_are_refused_in_arrays() -> None:
    with pytest.raises(UsageError, match="the training data: row 11 of the inputs is not finite, 1 of 32 in all"):
        make((with_nan(), Y))
    with pytest.raises(UsageError, match="the validation data: row 11 of the inputs is not finite"):
        make(val_loader=(with_nan(), Y))


@pytest.mark.parametrize("stream", [True, False])
def test_batches_that_are_not_finite_are_left_out_and_counted(stream: bool) -> None:
    spoilt = with_nan()
    if stream:
        data: Any = Stream([(spoilt[i : i + 8], Y[i : i + 8]) for i in range(0, 32, 8)])
    else:
        data = InMemory((spoilt, Y), batch_size=8, shuffle=False, allow_non_finite=True)
    result = make(data, loss=an_objective).fit()
    assert (result.status, result.skipped) == (Status.COMPLETED, 2)
    good = make([batch for i, batch in enumerate(BATCHES) if i != 1], loss=an_objective).fit()
    for a, b in zip(jax.tree.leaves(result.model), jax.tree.leaves(good.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_weights_stay_where_nothing_is_finite() -> None:
    data = InMemory((np.full_like(X, np.nan), Y), batch_size=8, allow_non_finite=True)
    result = make(data, max_epochs=9).fit()
    assert result.status is Status.DIVERGED
    assert result.skipped == 12  # ten in a row end it, and an epoch is one dispatch
    same(result.model, small(CASE, np.float32))


def test_poles_alone_can_be_trained_on() -> None:
    poles = (X, np.where(X[:, 0] > 0, np.inf, -np.inf).astype(np.float32))
    result = make(poles, val_loader=(X, Y), log_hook=nowhere).fit()
    assert result.skipped == 0
    assert np.isfinite(result.history[-1].metrics["loss"])
    assert math.isnan(result.history[-1].metrics["strict_error"])  # there was no finite label
    assert np.isfinite(result.history[-1].metrics["strict_recall"])


def test_labels_beyond_the_dtype_are_refused() -> None:
    labels = Y.astype(np.float64)
    labels[5] = 1e300
    with pytest.raises(UsageError, match=r"the labels hold 1e\+300 at \(5,\), which float32 can't"):
        make((X, labels))


def test_labels_beyond_half_precision_are_refused() -> None:
    labels = np.where(Y > 3.0, np.float32(1e5), Y)
    assert make((X, labels))
    assert make((X, labels), use_amp=True, amp_dtype="bfloat16")
    with pytest.raises(UsageError, match=r"the labels hold 100000.0 at .*, which float16 can't"):
        make((X, labels), use_amp=True)


def test_labels_up_to_the_range_of_the_dtype_are_trained_on(x64: None) -> None:
    labels = Y.astype(np.float64)
    labels[5], labels[6] = 1e300, -1e308
    result = make((X, labels), model=small(CASE, np.float64)).fit()
    assert result.skipped == 0


def test_labels_that_a_model_cannot_answer_are_refused() -> None:
    model = RationalMLP(2, "scalar", hidden=(4,), q_param="softplus", q_min=1.0, key=jax.random.key(0))
    with pytest.raises(UsageError, match="this model can't answer ⊥"):
        make(model=model)
    with pytest.raises(UsageError, match="this model can't answer ⊥"):
        make(Loader(BATCHES), model=model).fit()
    finite = np.where(np.isfinite(Y), Y, 0.0)
    short = {"model": model, "max_epochs": 1, "loss": an_objective}
    assert make((X, finite), **short).fit().steps == 4
    assert make(allow_bottom_unreachable=True, **short).fit().steps == 4


def ignores_missing(outputs: Any, lifted: Any, *, semantic_targets: Any) -> Any:
    """Fits what is finite."""
    P, Q = outputs
    return jnp.mean(jnp.where(semantic_targets.finite, jnp.square(P - lifted[0] * Q), 0.0))


def test_missing_labels_need_a_loss_that_leaves_them_out() -> None:
    status = STATUS.copy()
    status[3] = "missing"
    data = (X, Y, status)
    with pytest.raises(UsageError, match="some labels are missing: the loss must take `semantic_targets`"):
        make(data, loss=published_loss(False))
    assert make(data, loss=ignores_missing, max_epochs=1).fit().skipped == 0
    assert make(data, max_epochs=1).fit().skipped == 0


# -- losses and their weights ------------------------------------------------------------------------


def test_curricula_and_weights_reach_the_combined_loss() -> None:
    records: list[Any] = []
    ramp = LinearRamp(0.0, 2.0, over=2)
    weights = {"loss_weights": {"margin": 7.0, "sign": 9.0}, "loss_curriculum": LossWeightsCurriculum({"sign": ramp})}
    make(max_epochs=3, log_hook=records.append, **weights).fit()
    defaults = LossConfig()
    assert len(records) == 12
    for record in records:
        sign = ramp(Progress(epoch=record["epoch"], step=0, epochs=3))
        expected = record["fit"] + 7.0 * record["margin"] + sign * record["sign"]
        expected += defaults.lambda_rej * record["rejection"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_a_weight_without_a_term_is_refused() -> None:
    with pytest.raises(UsageError, match=r"the combined loss has no term 'sing'. Did you mean 'sign'\?"):
        make(loss_weights={"sing": 1.0})
    with pytest.raises(UsageError, match="no term 'other'"):
        make(loss=SCMObjective(LOSS), loss_weights={"other": 1.0})


def of_the_guides(outputs: Any, lifted: Any, **given: Any) -> Any:
    """A loss that reports what it was given."""
    P, Q = outputs
    Y_n, Y_d = lifted
    finite = jnp.isfinite(given["targets"])
    agree = jnp.all(jnp.where(finite, given["targets"] == Y_n, Y_d == 0.0))
    rows = (given["inputs"] == given["inputs"]).shape[0]
    seen = {name: jnp.asarray(given[name], P.dtype) for name in ("epoch", "global_step", "tau")}
    seen |= {"agree": agree.astype(P.dtype), "rows": jnp.asarray(rows, P.dtype)}
    return given["loss_weights"]["fit"] * jnp.mean(jnp.square(P * Y_d - Q * Y_n)), seen


def test_a_loss_of_the_guides_is_given_what_it_names() -> None:
    records: list[Any] = []
    with pytest.warns(UserWarning, match="every gradient was exactly zero"):
        make(loss=of_the_guides, log_hook=records.append, loss_weights={"fit": 0.0}).fit()
    assert [record["metrics"]["epoch"] for record in records] == [0.0] * 4 + [1.0] * 4
    assert [record["global_step"] for record in records] == list(range(1, 9))
    assert {(record["agree"], record["rows"], record["loss"]) for record in records} == {(1.0, 8.0, 0.0)}
    assert {np.float32(record["tau"]) for record in records} == {np.float32(1e-4)}


def test_any_objective_will_do() -> None:
    trainer = make(loss=an_objective, val_loader=(X, Y), max_epochs=1)
    trainer.fit()
    assert trainer.val_history[0].keys() == {"val_loss", "val_tau_eval", "epoch"}
    one, other = make(loss=SCMObjective(LOSS), max_epochs=1).fit(), make(max_epochs=1).fit()
    same(one.model, other.model)


@pytest.mark.parametrize("wrong", [SCMTrainingLoss, 3.0, lambda outputs: 0.0])
def test_what_is_no_loss_is_refused(wrong: Any) -> None:
    with pytest.raises(UsageError, match="loss_fn must"):
        make(loss=wrong)


def test_the_gradient_policy_acts() -> None:
    everything_bottom = {"tau_train_min": 1e3, "tau_train_max": 1e3, "max_epochs": 1}
    with pytest.warns(UserWarning, match="every gradient was exactly zero"):
        held = make(gradient_policy=GradientPolicy.PROJECT, **everything_bottom).fit()
    same(held.model, small(CASE, np.float32))
    passed = make(gradient_policy=GradientPolicy.PASSTHROUGH, **everything_bottom).fit()
    same(passed.model, make(**everything_bottom).fit().model)
    assert not np.array_equal(passed.model.bias_1, held.model.bias_1)


# -- rates, precision, devices, methods --------------------------------------------------------------


@pytest.mark.parametrize(
    ("cadence", "steps", "expected"),
    [
        ("per_batch", 1, [3, 7]),
        ("per_optimizer_update", 1, [3, 7]),
        ("per_optimizer_update", 3, [1, 3]),  # two updates an epoch: of three batches, and of one
        ("per_batch", 3, [3, 7]),
        ("per_epoch", 3, [0, 1]),
    ],
)
def test_what_a_schedule_counts(cadence: Any, steps: int, expected: list[int]) -> None:
    counted = optax.linear_schedule(0.0, 1.0, 100)  # a hundredth a count
    counting = {"scheduler": counted, "scheduler_cadence": cadence, "gradient_accumulation_steps": steps}
    result = make(loss=an_objective, **counting).fit()
    rates = [record.controls["learning_rate"] for record in result.history]
    np.testing.assert_allclose(rates, np.array(expected) / 100.0, rtol=1e-6, atol=1e-9)


def test_a_schedule_of_the_library_says_itself_what_it_counts() -> None:
    ramp = LinearRamp(1e-2, 0.0, over=2)
    result = make(scheduler=ramp, scheduler_cadence="per_batch", loss=an_objective).fit()
    assert [record.controls["learning_rate"] for record in result.history] == [1e-2, 5e-3]


def test_the_learning_rate_is_the_optimisers() -> None:
    one, built = make(max_epochs=1, loss=an_objective).fit(), None
    with pytest.warns(UserWarning, match="learning_rate=0.01 has no effect on an optimiser that is built already"):
        built = make(max_epochs=1, loss=an_objective, optimizer=optax.adam(1e-2)).fit()
    for a, b in zip(jax.tree.leaves(one.model), jax.tree.leaves(built.model), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": optax.adam(1e-3), "scheduler": optax.constant_schedule(1.0)}, "optax.adam, not optax.adam"),
        ({"scheduler": optax.constant_schedule(1.0), "scheduler_cadence": "per_validation_metric"}, "reduce_on_pla"),
        ({"scheduler": 3}, "scheduler must be a schedule of Optax or of hardgrad.schedules, got 3"),
        ({"optimizer": "adam"}, "optimizer must be a function of the learning rate"),
        ({"device": "abacus"}, "there is no device 'abacus' here"),
    ],
)
def test_arguments_that_do_not_fit(given: Any, message: str) -> None:
    rate = {"learning_rate": 1e-3}
    with pytest.raises(UsageError, match=message):
        make(**{**rate, **given})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype: Any) -> None:
    result = make(use_amp=True, amp_dtype=dtype, tau_train_min=1e-3, tau_train_max=1e-3, max_epochs=6).fit()
    assert result.skipped <= (10 if dtype == "float16" else 0)  # its loss scale begins high and finds its place
    assert result.model.weight_0.dtype == jnp.float32
    assert result.history[-1].metrics["loss"] < result.history[0].metrics["loss"]


def test_another_device() -> None:
    device = jax.devices()[1]
    result = make(max_epochs=1, device=device, loss=an_objective).fit()
    assert result.model.weight_0.devices() == {device}
    same(result.model, make(max_epochs=1, device="cpu", loss=an_objective).fit().model)


def test_any_method_of_the_library() -> None:
    method = GradientMethod(SPSA(directions=2), optax.sgd(1e-3))
    grouped = {"max_epochs": 1, "gradient_accumulation_steps": 2}
    result = make(optimizer=method, learning_rate=1e-3, loss=an_objective, **grouped).fit()
    assert result.evaluations > result.steps


# -- the log, and runs that are killed -----------------------------------------------------------------


def settings_of_a_run(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "run": folder,
        "max_epochs": 4,
        "tau_train_max": 2e-4,
        "gradient_accumulation_steps": 3,
        "val_loader": (X, Y),
        "coverage_threshold": 0.5,
        "log_hook": nowhere,
        **more,
    }


@pytest.mark.parametrize("sampled", [False, True])
def test_a_killed_run_resumes_to_the_same_bits(sampled: bool, tmp_path: Path) -> None:
    def trainer(name: str, *callbacks: Callback) -> Any:
        sampler = {"sampler": AdaptiveSampler(gamma=0.5)} if sampled else {}
        log = JsonlLogger(tmp_path / f"{name}.jsonl")
        every = [Checkpoints(spacing=0.0), *callbacks]
        return make(**settings_of_a_run(tmp_path / name, log_hook=log, callbacks=every, **sampler))

    straight = trainer("straight")
    straight.fit()
    killed = trainer("killed", KillAfter(2))
    with pytest.raises(Kill):
        killed.fit()
    assert killed.current_epoch == 3  # it had got so far, and the epoch was not saved
    resumed = trainer("killed")
    resumed.fit(resume=True)
    same(resumed.model, straight.model)
    assert resumed.val_history == straight.val_history
    assert resumed.last_thresholds == straight.last_thresholds
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "straight.jsonl").read_bytes()
    settings = RunFolder.open(tmp_path / "killed").read_json(tmp_path / "killed" / "config.json")["settings"]
    assert settings["training"]["gradient_accumulation_steps"] == 3


def test_a_hook_that_fails_ends_the_run_and_spoils_nothing(tmp_path: Path) -> None:
    seen: list[Any] = []

    def hook(record: Any) -> None:
        seen.append(record)
        if record["phase"] == "eval" and record["epoch"] == 1:
            raise RunError("the disk is full")

    more = {"log_hook": hook, "callbacks": [Checkpoints(spacing=0.0)]}
    trainer = make(**settings_of_a_run(tmp_path / "run", **more))
    with pytest.raises(RunError, match="the disk is full"):
        trainer.fit()
    assert [record["step"] for record in seen] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert np.all(np.isfinite(trainer.model.weight_0))
    resumed = make(**settings_of_a_run(tmp_path / "run"))
    resumed.fit(resume=True)
    straight = make(**settings_of_a_run(tmp_path / "other"))
    straight.fit()
    same(resumed.model, straight.model)


def test_a_logged_step_that_is_not_finite_is_null(tmp_path: Path) -> None:
    data = InMemory((with_nan(), Y), batch_size=8, shuffle=False, allow_non_finite=True)
    make(data, max_epochs=1, val_loader=(X, Y), log_hook=JsonlLogger(tmp_path / "log")).fit()
    losses = [record["loss"] for record in read_jsonl(tmp_path / "log") if record["phase"] == "train"]
    assert [loss is None for loss in losses] == [False, True, False, False]


def test_the_sampler_sees_the_model_as_it_is() -> None:
    sampler = AdaptiveSampler(tau_train=1e-2, gamma=1.0, chunk_size=10)
    trainer = make(sampler=sampler)
    trainer.fit()
    q = np.abs(np.asarray(trainer.model(X)[1]))
    expected = 1.0 + np.abs(1.0 / (1.0 + np.exp(-(1e-2 - q) / 0.1)) - np.isposinf(Y))
    np.testing.assert_allclose(sampler.weights, expected, rtol=1e-5)

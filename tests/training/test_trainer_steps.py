"""What a fit computes: the same numbers as a plain loop, however the data arrive."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import METHOD, RATE, ROWS, close, fit, line, plain_sgd, rows, same, squares

from hardgrad.core import BlackBox, Order, UsageError
from hardgrad.estimators import SPSA, AntitheticNES, Autodiff, CentralDifference, ForwardDifference
from hardgrad.training import GradientMethod, InMemory, Stream, Trainer

pytestmark = pytest.mark.optimised  # bits that differ between programs compiled in haste


def cut(arrays, size, keep=True):
    """Consecutive batches."""
    count = len(arrays[0])
    stop = count if keep else count // size * size
    return [tuple(a[i : i + size] for a in arrays) for i in range(0, stop, size)]


@pytest.mark.parametrize("keep", [True, False])
def test_batches_in_memory_are_a_plain_loop(x64, keep):
    x, y = rows(np.float64)
    data = InMemory((x, y), batch_size=4, shuffle=False, keep_remainder=keep)
    result = fit(model=line(np.float64), data=data, epochs=3)
    batches = cut((x, y), 4, keep)
    w, b, losses = plain_sgd(batches * 3)
    np.testing.assert_allclose(result.model.weight, w, rtol=0, atol=1e-12)
    np.testing.assert_allclose(result.model.bias, b, rtol=0, atol=1e-12)
    assert result.steps == 3 * len(batches) == 3 * data.steps_per_epoch
    lengths = [len(y) for _, y in batches]
    for record, part in zip(result.history, np.reshape(losses, (3, -1)), strict=True):
        assert record.metrics["loss"] == pytest.approx(np.average(part, weights=lengths), abs=1e-12)
    assert [r.steps for r in result.history] == [len(batches) * (e + 1) for e in range(3)]


def test_whole_data_is_one_step_an_epoch(x64):
    x, y = rows(np.float64)
    result = fit(model=line(np.float64), data=(x, y), epochs=4)
    w, _, losses = plain_sgd([(x, y)] * 4)
    np.testing.assert_allclose(result.model.weight, w, rtol=0, atol=1e-12)
    np.testing.assert_allclose([r.metrics["loss"] for r in result.history], losses, rtol=0, atol=1e-12)


def test_shuffling_uses_each_row_once_and_depends_on_seed_and_epoch():
    feed = InMemory(rows(), batch_size=4)

    def order(epoch, seed):
        return np.concatenate([b.rows.ravel() for b in feed.blocks(epoch, seed, None)])

    assert all(sorted(order(e, s)) == list(range(ROWS)) for e in range(3) for s in range(3))
    np.testing.assert_array_equal(order(1, 5), order(1, 5))
    assert len({tuple(order(e, s)) for e in range(4) for s in range(4)}) == 16
    dropping = InMemory(rows(), batch_size=4, keep_remainder=False)
    assert sum(b.rows.size for b in dropping.blocks(0, 0, None)) == 8


class Loader:
    """Like a torch DataLoader: a length, begun anew each time."""

    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


class Endless(Loader):
    """Like a DataLoader over an iterable data set: has `__len__`, which fails."""

    def __len__(self):
        raise TypeError("object of type 'IterableDataset' has no len()")


class Tensor:
    """Like a torch tensor on the CPU: an object NumPy can read."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.array, dtype)


def test_every_kind_of_stream_equals_memory():
    x, y = rows()
    batches = cut((x, y), 4)  # the last one is shorter
    expected = fit(data=InMemory((x, y), batch_size=4, shuffle=False), epochs=2)
    sources = {
        "list": Stream(batches),
        "bare list": Loader(batches),
        "bare generator": (b for b in batches * 2),
        "function": Stream(lambda epoch: batches),
        "generator function": Stream(lambda epoch: (b for b in batches)),
        "one pass": Stream(iter(batches * 2), steps_per_epoch=len(batches)),
        "loader": Stream(Loader(batches)),
        "without length": Stream(Endless(batches)),
        "tensors": Stream(Loader([tuple(Tensor(a) for a in b) for b in batches])),
        "one a dispatch": Stream(batches, batches_per_dispatch=1),
    }
    for name, data in sources.items():
        if name == "bare generator":  # all it has is one epoch
            assert fit(data=data, epochs=1).steps == expected.steps
            continue
        result = fit(data=data, epochs=2)
        same(result.model, expected.model)
        assert result.steps == expected.steps, name
        for ours, theirs in zip(result.history, expected.history, strict=True):
            assert ours.metrics == theirs.metrics, name


def test_the_length_of_a_stream():
    batches = cut(rows(), 5)
    assert Stream(batches).steps_per_epoch == 2
    assert Stream(batches, steps_per_epoch=1).steps_per_epoch == 1
    assert Stream(iter(batches)).steps_per_epoch is None
    assert Stream(Endless(batches)).steps_per_epoch is None
    assert Stream(lambda epoch: batches).steps_per_epoch is None


def test_a_function_of_the_epoch_is_told_the_epoch():
    seen = []

    def source(epoch):
        seen.append(epoch)
        return cut(rows(), 5)

    fit(data=Stream(source), epochs=3)
    assert seen == [0, 1, 2]


def test_an_iterator_that_runs_dry_says_so_and_can_be_read_on():
    batches = cut(rows(), 5)
    with pytest.raises(UsageError, match=r"no batch in epoch 1.*function of the epoch"):
        fit(data=Stream(iter(batches)), epochs=2)
    endless = Stream(iter(batches * 4), steps_per_epoch=2)
    first = fit(data=endless, epochs=1)
    second = fit(data=endless, epochs=1)  # a new run reads on
    same(first.model, second.model)
    with pytest.raises(UsageError, match="no batch in epoch 0"):
        fit(data=Stream([]), epochs=1)


def test_batches_of_another_dtype_keep_it():
    x, y = rows()
    mixed = [(x[:5], y[:5]), (x[5:].astype(np.int32), y[5:])]

    def exact(model, batch, controls, key):
        a, b = batch
        return squares(model, (a.astype(jnp.float32), b), controls, key)[0], {"whole": jnp.int32(a.dtype == jnp.int32)}

    result = fit(data=Stream(mixed), objective=exact, epochs=1)
    assert result.history[0].metrics["whole"] == 0.5


@pytest.mark.parametrize("limit", [1, 2])
def test_the_size_of_a_dispatch_changes_nothing(limit):
    data = InMemory(rows(), batch_size=3)
    same(fit(Trainer(METHOD, steps_per_dispatch=limit), data=data).model, fit(data=data).model)


def test_accumulation_equals_the_whole_batch(x64):
    given = {"model": line(np.float64), "data": InMemory(rows(np.float64), batch_size=4, shuffle=False)}
    whole = fit(epochs=3, **given)
    # The remainder of 2 rows is cut into 2, the most it allows.
    parts = fit(Trainer(METHOD, accumulate=4), epochs=3, **given)
    close(parts.model, whole.model, rtol=0, atol=1e-12)
    for a, b in zip(parts.history, whole.history, strict=True):
        assert a.metrics["loss"] == pytest.approx(b.metrics["loss"], abs=1e-12)
    unbatched = fit(Trainer(METHOD, accumulate=5), model=line(np.float64), data=rows(np.float64))
    close(unbatched.model, fit(model=line(np.float64), data=rows(np.float64)).model, rtol=0, atol=1e-12)


def test_accumulation_needs_rows():
    def constant(model, batch, controls, key):
        return jnp.sum(model.weight**2) * batch, {}

    with pytest.raises(UsageError, match="accumulate"):
        fit(Trainer(METHOD, accumulate=2), data=np.float32(1.0), objective=constant)


def test_eager_equals_compiled():
    data = InMemory(rows(), batch_size=5)
    eager = fit(Trainer(METHOD, execution="eager"), data=data, validation=rows(count=6))
    compiled = fit(data=data, validation=rows(count=6))
    close(eager.model, compiled.model)
    for a, b in zip(eager.history, compiled.history, strict=True):
        assert a.metrics.keys() == b.metrics.keys()
        close(dict(a.metrics), dict(b.metrics))


def test_data_on_two_devices_give_the_same():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
    sharded = jax.device_put(rows(), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows")))
    assert len(sharded[0].sharding.device_set) == 2
    for size in (None, 4):
        data, plain = (InMemory(arrays, batch_size=size) for arrays in (sharded, rows()))
        assert len(data.arrays[0].sharding.device_set) == 2  # left where they are
        two, one = fit(data=data, validation=sharded), fit(data=plain, validation=rows())
        close(two.model, one.model)
        assert two.history[-1].metrics["val_loss"] == pytest.approx(one.history[-1].metrics["val_loss"], rel=1e-5)


def test_a_sharded_run_resumes(tmp_path):
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("rows",))
    sharded = jax.device_put(rows(), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows")))
    fit(data=sharded, epochs=1, run=tmp_path / "run")
    resumed = fit(data=sharded, epochs=3, run=tmp_path / "run", resume=True)
    same(resumed.model, fit(data=sharded, epochs=3).model)


def test_a_line_search_gets_what_it_needs():
    for search in (optax.lbfgs(memory_size=3), optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(8))):
        result = fit(Trainer(GradientMethod(Autodiff(), search)), epochs=8)
        assert result.skipped == 0
        assert result.history[-1].metrics["loss"] < 0.1 * result.history[0].metrics["loss"]


ESTIMATORS = [
    Autodiff(),
    CentralDifference(1e-2),
    CentralDifference(1e-2, chunk_size=2),
    ForwardDifference(1e-2),
    SPSA(1e-2, directions=4),
    AntitheticNES(1e-2, pairs=8, chunk_size=3),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_every_estimator_trains_a_pytree(estimator):
    model = {"line": line(), "scale": jnp.ones(()), "note": "not an array", "absent": None}

    def objective(model, batch, controls, key):
        x, y = batch
        return jnp.mean((model["scale"] * model["line"](x) - y) ** 2), {}

    trainer = Trainer(GradientMethod(estimator, optax.adam(0.1)))
    result = fit(trainer, model=model, objective=objective, data=InMemory(rows(), batch_size=5), epochs=20)
    assert result.history[-1].metrics["loss"] < 0.5 * result.history[0].metrics["loss"]
    assert result.model["note"] == "not an array"
    assert result.model["absent"] is None
    contract = estimator.contract
    assert result.evaluations == 40 * contract.evaluations(5)


CASES = [(estimator, "compiled") for estimator in ESTIMATORS[1:]] + [(CentralDifference(1e-2), "eager")]


@pytest.mark.parametrize(("estimator", "execution"), CASES, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_every_estimator_of_order_0_trains_a_black_box(estimator, execution):
    assert estimator.contract.order is Order.ZERO
    calls = []

    def simulator(params, x):
        calls.append(1)
        return np.asarray(x) @ params["w"] + params["b"]

    start = {"w": np.zeros(3, np.float32), "b": np.float32(0.0)}
    box = BlackBox(simulator, start, output_shape=lambda x: x.shape[:1])

    def objective(model, batch, controls, key):
        x, y = batch
        return jnp.mean((model(x) - y) ** 2), {}

    trainer = Trainer(GradientMethod(estimator, optax.adam(0.2)), execution=execution)
    result = fit(trainer, model=box, objective=objective, epochs=10)
    assert result.history[-1].metrics["loss"] < 0.5 * result.history[0].metrics["loss"]
    assert calls


def test_the_models_own_arrays_are_left_alone():
    model = line()
    big = {"line": model, "ballast": jnp.zeros(2**19)}  # above the size from which buffers are handed over

    def objective(m, batch, controls, key):
        loss, metrics = squares(m["line"], batch, controls, key)
        return loss + jnp.mean(m["ballast"] ** 2), metrics

    result = fit(model=big, objective=objective, epochs=3)
    close(result.model["line"], fit(model=model, epochs=3).model)
    same(model, line())
    assert not big["ballast"].is_deleted()


def test_python_floats_are_not_parameters_but_numpy_scalars_are():
    def objective(model, batch, controls, key):
        return (model["a"] - 1.0) ** 2 + 0.0 * model["rate"], {}

    model = {"a": np.float32(0.0), "rate": 0.5}
    result = fit(model=model, objective=objective, epochs=1, trainable=eqx.is_inexact_array)
    assert float(result.model["a"]) == pytest.approx(2 * RATE)
    assert result.model["rate"] == 0.5

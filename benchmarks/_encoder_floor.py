"""What an encoder costs at least: the same arithmetic in C on one core, float32, a gradient included.

Two floors, each the sum of what its name says and nothing else:

    scan_floor      the selective scan by itself: exponentials, recurrence, read-out; u, Δ, B and C are given.
                    Backwards: cotangents of u, Δ, B, C and A; states are kept, the rest is computed again.
    encoder_floor   whole stacks: norm, projections, convolution, gates and scan of every block, on [reversed, forward].
                    It is the package's own kernel, called on one thread without JAX around it; heads are left out.

    python benchmarks/_encoder_floor.py          both, with the package's forms beside them
"""

from __future__ import annotations

import ctypes
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import hardgrad.oscillators._encoders as encoders
from hardgrad.oscillators._encoders._block import Sizes, block_source

FLAGS = ("-O3", "-march=native", "-std=gnu11", "-fno-math-errno", "-fPIC", "-shared", "-w")

# Arrays are [time, channels, batch], [time, n, batch] and [channels, n]; states [time, n, channels, batch].
# The elementary functions are those of _block.c, which is written in front.
SCAN = """
#define VECTORS (BATCH / LANES)
typedef vec row[VECTORS];

void scan_forward(long time, const row *u, const row *delta, const row *b, const row *c, const float *a, row *y,
                  row (*states)[N_STATES][CHANNELS]) {
  row zero[N_STATES][CHANNELS];
  memset(zero, 0, sizeof zero);
  for (long t = 0; t < time; ++t)
    for (int j = 0; j < CHANNELS; ++j)
      for (int i = 0; i < VECTORS; ++i) {
        const vec step = delta[t * CHANNELS + j][i], entering = step * u[t * CHANNELS + j][i];
        vec sum = all(0);
        for (int n = 0; n < N_STATES; ++n) {
          const vec before = (t ? states[t - 1] : zero)[n][j][i];
          const vec after = exponential(step * a[j * N_STATES + n]) * before + entering * b[t * N_STATES + n][i];
          states[t][n][j][i] = after;
          sum += c[t * N_STATES + n][i] * after;
        }
        y[t * CHANNELS + j][i] = sum;
      }
}

void scan_backward(long time, const row *u, const row *delta, const row *b, const row *c, const float *a,
                   row (*states)[N_STATES][CHANNELS], const row *y_bar, row *u_bar, row *delta_bar, row *b_bar,
                   row *c_bar, float *a_bar) {
  static row bars[N_STATES][CHANNELS], zero[N_STATES][CHANNELS], sums[CHANNELS][N_STATES];
  memset(bars, 0, sizeof bars), memset(sums, 0, sizeof sums);
  memset(b_bar, 0, time * N_STATES * sizeof *b_bar), memset(c_bar, 0, time * N_STATES * sizeof *c_bar);
  for (long t = time - 1; t >= 0; --t)
    for (int j = 0; j < CHANNELS; ++j)
      for (int i = 0; i < VECTORS; ++i) {
        const vec step = delta[t * CHANNELS + j][i], input = u[t * CHANNELS + j][i], entering = step * input;
        const vec given = y_bar[t * CHANNELS + j][i];
        vec entering_bar = all(0), step_bar = all(0);
        for (int n = 0; n < N_STATES; ++n) {
          vec bar = bars[n][j][i] + c[t * N_STATES + n][i] * given;
          c_bar[t * N_STATES + n][i] += states[t][n][j][i] * given;
          b_bar[t * N_STATES + n][i] += bar * entering;
          entering_bar += bar * b[t * N_STATES + n][i];
          bar *= exponential(step * a[j * N_STATES + n]);
          bars[n][j][i] = bar;
          const vec exponent_bar = bar * (t ? states[t - 1] : zero)[n][j][i];
          step_bar += exponent_bar * a[j * N_STATES + n];
          sums[j][n][i] += exponent_bar * step;
        }
        u_bar[t * CHANNELS + j][i] = entering_bar * step;
        delta_bar[t * CHANNELS + j][i] = step_bar + entering_bar * input;
      }
  for (int k = 0; k < CHANNELS * N_STATES; ++k) {
    a_bar[k] = 0;
    for (int i = 0; i < VECTORS; ++i)
      for (int lane = 0; lane < LANES; ++lane) a_bar[k] += ((row *)sums)[k][i][lane];
  }
}
"""

STACK = """
int stack_block(long groups, long time, long batch, const float *params, const float *r, const float *state, float *out,
                float *last, float *kept) {
  Plan plan = {.groups = groups, .time = time, .batch = batch, .params = params, .r = r, .state = state, .out = out,
               .last = last, .kept = kept, .tiles = (batch + LANES - 1) / LANES, .spans = (time + SPAN - 1) / SPAN};
  return run(&plan, NULL);
}

int stack_block_back(long groups, long time, long batch, const float *params, const float *r, float *kept,
                     const float *out_bar, const float *last_bar, float *params_bar, float *r_bar, float *state_bar) {
  Plan plan = {.groups = groups, .time = time, .batch = batch, .params = params, .r = r, .kept = kept,
               .out_bar = out_bar, .last_bar = last_bar, .params_bar = params_bar, .r_bar = r_bar,
               .state_bar = state_bar,
               .tiles = (batch + LANES - 1) / LANES, .spans = (time + SPAN - 1) / SPAN};
  return run(&plan, NULL);
}
"""


def _library(source: str) -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        program, made = Path(folder) / "floor.c", Path(folder) / "floor.so"
        program.write_text(source, encoding="utf-8")
        include = ["-I", jax.ffi.include_dir()]
        subprocess.run(["cc", *FLAGS, *include, str(program), "-o", str(made), "-lm"], check=True)
        return ctypes.CDLL(str(made))


def _kernel_source(sizes: Sizes, **other: int) -> str:
    source = block_source(sizes, "float32")
    for name, value in other.items():
        source = source.replace(f"#define {name} 64\n", f"#define {name} {value}\n")
    return source


def _call(function: Any, *arguments: Any) -> None:
    whole = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_void_p(a.ctypes.data) for a in arguments]
    function(*whole)


def _array(*shape: int) -> np.ndarray:
    """On a boundary of 64 bytes, its pages touched."""
    size = int(np.prod(shape)) * 4
    raw = np.zeros(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(np.float32).reshape(shape)


def _filled(*shape: int, seed: int = 0) -> np.ndarray:
    array = _array(*shape)
    array[...] = np.random.default_rng(seed).standard_normal(shape)
    return array


def milliseconds(
    function: Callable[[], Any], repeats: int = 7, clock: Callable[[], float] = time.perf_counter
) -> float:
    """The least of several runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1e3 * min(times[1:])


def scan_inputs(length: int, channels: int, n: int, batch: int) -> dict[str, np.ndarray]:
    """Inputs of both floor and package, ``[time, channels, batch]``."""
    delta = _filled(length, channels, batch, seed=1)
    delta[...] = np.log1p(np.exp(delta - 3))
    a = _array(channels, n)
    a[...] = -np.arange(1, n + 1)
    return {
        "u": _filled(length, channels, batch, seed=2),
        "delta": delta,
        "b": _filled(length, n, batch, seed=3),
        "c": _filled(length, n, batch, seed=4),
        "a": a,
    }


def scan_program(length: int, channels: int, n: int, batch: int) -> tuple[Callable[[], Any], Callable[[], Any], dict]:
    """Forward, forward and backward, and the arrays they fill. `batch` is a multiple of 8."""
    lanes = 16 if batch % 16 == 0 else 8
    source = _kernel_source(Sizes(1, 1, 1, 1, 1), VECTOR=4 * lanes)
    front = f"#define CHANNELS {channels}\n#define N_STATES {n}\n#define BATCH {batch}\n"
    library = _library(source + front + SCAN)
    given = scan_inputs(length, channels, n, batch)
    found = {"y": _array(length, channels, batch), "states": _array(length, n, channels, batch)}
    found |= {f"{name}_bar": _array(*array.shape) for name, array in given.items()}
    order = [given[name] for name in ("u", "delta", "b", "c", "a")]

    def forward() -> None:
        _call(library.scan_forward, length, *order, found["y"], found["states"])

    def both() -> None:
        forward()
        bars = [found[f"{name}_bar"] for name in ("u", "delta", "b", "c", "a")]
        _call(library.scan_backward, length, *order, found["states"], found["y"], *bars)  # of Σ y²/2

    return forward, both, {**given, **found}


def scan_floor(length: int = 2048, channels: int = 32, n: int = 16, batch: int = 8) -> dict[str, float]:
    """Milliseconds of the scan by itself."""
    forward, both, _ = scan_program(length, channels, n, batch)
    return {"forward": milliseconds(forward), "forward_backward": milliseconds(both)}


def encoder_program(
    length: int, batch: int, sizes: Sizes, layers: int, groups: int, blocks: list[np.ndarray] | None = None
) -> tuple[Callable[[], Any], Callable[[], Any], dict[str, Any]]:
    """Forward, forward and backward of whole stacks, and arrays: inputs, outputs of each layer, gradients."""
    library = _library(_kernel_source(sizes) + STACK)
    lanes = 16
    tiles, spans, time_ = -(-batch // lanes), -(-2 * length // sizes.span), 2 * length
    template = encoders.MambaStack(
        sizes.d_model,
        n_layers=layers,
        d_state=sizes.d_state,
        expand=sizes.inner // sizes.d_model,
        d_conv=sizes.taps,
        key=jax.random.key(0),
    )
    if blocks is None:
        blocks = [np.stack([np.asarray(block.in_order())] * groups) for block in template.blocks]
    r = [_filled(groups, time_, sizes.d_model, batch), *(_array(groups, time_, sizes.d_model, batch) for _ in blocks)]
    zeros, last = _array(groups, sizes.state, batch), _array(groups, sizes.state, batch)
    kept = [_array(groups, tiles, spans, sizes.state * lanes) for _ in blocks]
    params_bar = [_array(groups, tiles, block.shape[1]) for block in blocks]
    bars = [_array(*r[0].shape), _array(*r[0].shape)]

    def forward() -> None:
        for i, params in enumerate(blocks):
            _call(library.stack_block, groups, time_, batch, params, r[i], zeros, r[i + 1], last, kept[i])

    def both() -> None:
        forward()
        bars[0][...] = r[-1]  # of Σ r²/2
        for i in reversed(range(len(blocks))):
            inputs = (blocks[i], r[i], kept[i], bars[0], zeros, params_bar[i], bars[1], last)
            _call(library.stack_block_back, groups, time_, batch, *inputs)
            bars.reverse()

    return forward, both, {"r": r, "params_bar": params_bar, "bars": bars}


def encoder_floor(
    length: int = 2205,
    batch: int = 32,
    *,
    d_model: int = 2,
    expand: int = 10,
    d_state: int = 4,
    d_conv: int = 4,
    layers: int = 3,
    groups: int = 3,
) -> dict[str, float]:
    """Milliseconds of whole stacks; the defaults are the published encoder on a segment of 50 ms."""
    sizes = Sizes(d_model, expand * d_model, d_state, d_conv, -(-d_model // 16))
    forward, both, _ = encoder_program(length, batch, sizes, layers, groups)
    return {"forward": milliseconds(forward), "forward_backward": milliseconds(both)}


def package_scan(form: str, length: int = 2048, channels: int = 32, n: int = 16, batch: int = 8) -> dict[str, float]:
    """Milliseconds of `selective_scan`."""
    given = {name: jax.numpy.asarray(array) for name, array in scan_inputs(length, channels, n, batch).items()}
    arrays = [given["a"] if name == "a" else given[name].transpose(2, 0, 1) for name in ("u", "delta", "a", "b", "c")]
    skip = jax.numpy.zeros(channels)
    value = jax.jit(lambda arrays: encoders.selective_scan(*arrays, skip, form=form)[0])
    loss = lambda arrays: (encoders.selective_scan(*arrays, skip, form=form)[0] ** 2).sum() / 2
    gradient = jax.jit(jax.grad(loss))
    return {
        "forward": milliseconds(lambda: jax.block_until_ready(value(arrays))),
        "forward_backward": milliseconds(lambda: jax.block_until_ready(gradient(arrays))),
    }


def package_encoder(
    form: str, length: int = 2205, batch: int = 32, *, groups: int = 3, **sizes: int
) -> dict[str, float]:
    """Milliseconds of `MambaEncoder`, heads included."""
    encoder = encoders.MambaEncoder((1,) * groups, form=form, key=jax.random.key(0), **sizes)
    x, v = 0.1 * jax.random.normal(jax.random.key(1), (2, batch, length))
    value = eqx.filter_jit(lambda encoder: encoder(x, v))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda encoder: (encoder(x, v) ** 2).sum() / 2))
    return {
        "forward": milliseconds(lambda: jax.block_until_ready(value(encoder)), 4),
        "forward_backward": milliseconds(lambda: jax.block_until_ready(jax.tree.leaves(gradient(encoder))), 4),
    }


def check_scan_floor() -> None:
    """The floor computes what the package does, gradients included."""
    _, both, arrays = scan_program(50, 3, 4, 8)
    both()
    names = ("u", "delta", "a", "b", "c")
    given = [arrays[name] if name == "a" else arrays[name].transpose(2, 0, 1) for name in names]
    loss = lambda given: (encoders.selective_scan(*given, jax.numpy.zeros(3))[0] ** 2).sum() / 2
    for name, ours in zip(names, jax.jit(jax.grad(loss))([jax.numpy.asarray(array) for array in given]), strict=True):
        theirs = arrays[f"{name}_bar"]
        theirs = theirs if name == "a" else theirs.transpose(2, 0, 1)
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max(), err_msg=name)


def main() -> None:
    """Print the table."""
    check_scan_floor()
    shapes = {"published": {}, "d_model 16": {"length": 1024, "batch": 8, "d_model": 16, "expand": 2, "d_state": 16}}
    rows: dict[str, Any] = {"scan floor": scan_floor()}
    rows |= {f"scan {form}": package_scan(form) for form in ("chunked", "sequential")}
    for name, shape in shapes.items():
        layers = {"layers": 3, "groups": 3} if name == "published" else {"layers": 1, "groups": 1}
        rows[f"{name} floor"] = encoder_floor(**shape, **layers)
        for form in ("kernel", "chunked"):
            sizes = {**shape, "n_layers": layers["layers"], "groups": layers["groups"]}
            rows[f"{name} {form}"] = package_encoder(form, **sizes)
    for name, row in rows.items():
        print(f"{name:22}" + "".join(f"{key} {value:8.1f} ms   " for key, value in row.items()))


if __name__ == "__main__":
    main()

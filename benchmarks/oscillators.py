"""What do oscillators cost to train? Ratios to C floors and to eager PyTorch, measured in one process, float32.

    python benchmarks/oscillators.py [--quick]        needs: a C compiler for floors and kernels; pip install torch

Times are the least of several runs, forward and backward, one batch of 32 at a time. Rollouts, Mamba encoders and
spectral losses are compared with their peers, gradients included, before they are timed. Tables:

* rollout    x'' = Σ c_pk(t) x^p v^k of all P² terms, no bounds unless named; gradients of coefficients and start
* memory     what the same programs allocate besides arguments and results, by XLA's account
* encoder    the published sizes, and the frame encoder beside them, on segments of 50 ms
* spectra    the multi-resolution loss, the target's magnitudes made beforehand
* step       whole training steps of `song-coldstart`, and their parts, each measured by itself
* seeds      four models in one program against four in turn

PyTorch has both cores, except for rollouts, which are faster on one. Its long loops run once.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import time
from collections.abc import Callable
from typing import Any

import _encoder_floor
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from _encoder_floor import encoder_floor, scan_floor
from _oscillator_common import QUICK, Sizes, best, once, peers
from _oscillator_rollouts import memory, rollouts
from _oscillator_steps import seeds, songs, steps

from hardgrad.oscillators import FrameEncoder, MambaEncoder, SpectralLoss, rollout_form

SCANS = "C floor: selective scans alone"
DDSP = tuple((n_fft, n_fft // 4) for n_fft in (2048, 1024, 512, 256, 128, 64))


def sound(batch: int, samples: int, seed: int = 0) -> tuple[Any, Any]:
    """Noise, and its change per sample."""
    x = 0.1 * jax.random.normal(jax.random.key(seed), (batch, samples))
    return x, jnp.gradient(x, axis=1)


def encoder_gradient(encoder: Any, x: Any, v: Any) -> Callable[[], Any]:
    """Gradient of the parameters, and raw drives."""

    @eqx.filter_jit
    def run(encoder: Any, x: Any, v: Any) -> Any:
        def loss(encoder: Any) -> Any:
            raw = encoder(x, v)
            return jnp.sum(raw * raw) / 2, raw

        return eqx.filter_grad(loss, has_aux=True)(encoder)

    return lambda: run(encoder, x, v)


def encoder_in_torch(encoder: MambaEncoder, x: Any, v: Any) -> Callable[[], Any]:
    """The same in PyTorch, its scan a loop."""
    names = [field.name for field in dataclasses.fields(encoder.stacks.blocks[0])]
    block = lambda block, group: {name: np.asarray(getattr(block, name)[group]) for name in names}
    stacks = [[block(one, group) for one in encoder.stacks.blocks] for group in range(len(encoder.heads))]
    heads = [(np.asarray(head.weight), np.asarray(head.bias)) for head in encoder.heads]
    return peers.sequential_encoder(stacks, heads, np.asarray(x), np.asarray(v))


def check_encoder(encoder: MambaEncoder, batch: int) -> None:
    """PyTorch's drives and gradients are ours."""
    x, v = sound(batch, 40)
    gradient, raw = encoder_gradient(encoder, x, v)()
    theirs, by_blocks = encoder_in_torch(encoder, x, v)()
    np.testing.assert_allclose(theirs, raw, rtol=0, atol=1e-4)
    for i, block in enumerate(gradient.stacks.blocks):
        for group in range(len(encoder.heads)):
            for name, found in by_blocks[group][i].items():
                ours = np.asarray(getattr(block, name)[group])
                np.testing.assert_allclose(found, ours, rtol=0, atol=1e-3 * np.abs(ours).max() + 1e-6, err_msg=name)


def encoders(sizes: Sizes, *, kernel: bool, floor: bool) -> None:
    """The table of encoders."""
    batch, samples = sizes.batch, sizes.samples
    x, v = sound(batch, samples)
    make = lambda form: MambaEncoder((1, 1, 16), form=form, key=jax.random.key(0))
    rows: dict[str, tuple[float, str]] = {}
    if floor:
        _encoder_floor.check_scan_floor()
        alone = scan_floor(2 * samples, channels=20, n=4, batch=batch)["forward_backward"]
        rows[SCANS] = (9 * alone, "")
        rows["our kernel without JAX, one thread"] = (encoder_floor(samples, batch)["forward_backward"], "")
    for form in ["kernel"] * kernel + ["chunked", "sequential"]:
        repeats = min(sizes.repeats, 5) if form == "kernel" else 1
        took = best(encoder_gradient(make(form), x, v), repeats)
        rows[f"MambaEncoder, {form}"] = (took, "≤ 4 × floor")
    frames = FrameEncoder(18, key=jax.random.key(0))
    rows["FrameEncoder"] = (best(encoder_gradient(frames, x, v), sizes.repeats), "")
    if peers:
        for form in ["kernel"] * kernel + ["chunked", "sequential"]:
            check_encoder(make(form), batch)
        rows["PyTorch, sequential scan"] = (once(encoder_in_torch(make("auto"), x, v))[0], "")
    peer = rows.get("PyTorch, sequential scan", (0.0, ""))[0]
    least = rows.get(SCANS, (0.0, ""))[0]
    print(f"\n{f'encoder, {samples} samples':<36}{'ms':>9}{'× floor':>9}{'peer ÷':>9}  target")
    for label, (took, target) in rows.items():
        over = f"{took / least:>9.2f}" if least else f"{'–':>9}"
        gain = f"{peer / took:>9.1f}" if peer else f"{'–':>9}"
        print(f"{label:<36}{took:>9.1f}{over}{gain}  {target}".rstrip())


def spectra(sizes: Sizes) -> None:
    """The table of spectral losses."""
    samples = sizes.horizons[-1]
    (generated, _), (target, _) = sound(sizes.batch, samples, 1), sound(sizes.batch, samples, 2)
    print(f"\n{f'spectral loss, {samples} samples':<30}{'ms':>9}{'torch.stft':>12}{'peer ÷':>9}")
    for label, loss in (("three resolutions (default)", SpectralLoss()), ("DDSP's six", SpectralLoss(configs=DDSP))):
        magnitudes = loss.magnitudes(target)
        both = jax.jit(jax.value_and_grad(loss.compare))
        ours = best(lambda both=both, magnitudes=magnitudes: both(generated, magnitudes), sizes.repeats)
        theirs = 0.0
        if peers:
            arrays = np.asarray(generated), np.asarray(target)
            run = peers.spectral_loss(*arrays, loss.resolutions(samples), loss.eps, loss.eps_sc)
            value, gradient = run()
            np.testing.assert_allclose(value, both(generated, magnitudes)[0], rtol=1e-5)
            ours_gradient = np.asarray(both(generated, magnitudes)[1])
            np.testing.assert_allclose(gradient, ours_gradient, rtol=0, atol=1e-3 * np.abs(ours_gradient).max())
            theirs = best(run, sizes.repeats)
        print(f"{label:<30}{ours:>9.1f}" + (f"{theirs:>12.1f}{theirs / ours:>9.1f}" if peers else ""))


def has_compiler() -> bool:
    """Whether floors can be had."""
    try:
        return subprocess.run(["cc", "--version"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: that it works, not how fast")
    sizes = QUICK if parser.parse_args().quick else Sizes()
    floor = has_compiler()
    kernel = rollout_form(((1, 0),)) == "kernel"
    if not peers:
        print("PyTorch is not installed: its rows are left out (pip install torch)")
    if not floor:
        print("no C compiler: floors and kernels are left out")
    load = "load average " + " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, {load} at the start, batch {sizes.batch}")
    begin = time.perf_counter()
    for order in (3, 15):
        programs = rollouts(order, sizes, kernel=kernel, floor=floor)
        memory(order, programs, sizes)
    encoders(sizes, kernel=kernel, floor=floor)
    spectra(sizes)
    both = songs(sizes)
    steps(both, sizes.repeats)
    seeds(both, min(sizes.repeats, 3))
    load = "load average " + " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"\n{load} at the end; {time.perf_counter() - begin:.0f} s in all")


if __name__ == "__main__":
    main()

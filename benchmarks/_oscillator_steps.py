"""Tables of whole training steps of `song-coldstart`: their parts, and four seeds in one program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from _oscillator_common import Sizes, best

from hardgrad.oscillators import Segments, SongModel
from hardgrad.training import EnsembleObjective, make_ensemble
from hardgrad.zoo import song_coldstart
from hardgrad.zoo._song_birds import Bird, segments, simulated
from hardgrad.zoo._song_models import song_model


class Song:
    """A training step of `song-coldstart` on a simulated bird's segments, and its parts.

    Args:
        architecture: the recipe's.
        bird: whose songs.
        sizes: batch and horizon.
    """

    def __init__(self, architecture: Any, bird: Bird, sizes: Sizes) -> None:
        published = architecture == "published"  # alone, and with its anchor, as published
        settings = {"tract": 0, "lambda_tf": 1.0} if published else {}
        config = song_coldstart.Config(architecture=architecture, **settings)
        drawn = segments(bird, count=sizes.batch, seconds=config.context, seed=0)
        self.batch: Segments = jax.tree.map(jnp.asarray, drawn)
        self.objective = song_coldstart.objective(config, drawn)
        self.horizon = sizes.horizons[-1]
        given = {name: getattr(config, name) for name in ("width", "order", "tract", "lowpass_ms")}
        self.make = eqx.filter_jit(lambda key: song_model(config.architecture, bird, key=key, **given))
        self.adam = optax.chain(optax.clip_by_global_norm(config.max_norm), optax.adam(config.learning_rate))

    def step(self, model: Any, objective: Any) -> Callable[[], Any]:
        """Loss, gradient, clipping and Adam: new parameters."""
        horizon, adam = self.horizon, self.adam
        params, static = eqx.partition(model, eqx.is_inexact_array)
        state = jax.jit(adam.init)(params)

        @jax.jit
        def run(params: Any, state: Any, batch: Any, key: Any) -> Any:
            def loss(params: Any) -> Any:
                return objective(eqx.combine(params, static), batch, {"horizon": horizon}, key)

            (value, _), gradient = jax.value_and_grad(loss, has_aux=True)(params)
            updates, after = adam.update(gradient, state, params)
            return value, optax.apply_updates(params, updates), after

        return lambda: run(params, state, self.batch, jax.random.key(1))

    def parts(self, model: SongModel) -> dict[str, Callable[[], Any]]:
        """Each part, forward and backward, as its own program."""
        batch, horizon = self.batch, self.horizon
        x, v, target = batch.sound, batch.velocity, batch.sound[:, :horizon]
        raw = eqx.filter_jit(lambda model: model.encoder(x, v))(model)
        coefficients = eqx.filter_jit(lambda model: model.coefficients(raw))(model)
        cut = coefficients[:, : -(-(horizon - 1) // model.hop) + 1]

        def gradient(function: Any, *arguments: Any) -> Callable[[], Any]:
            half_square = lambda *a: sum(jnp.sum(out * out) for out in jax.tree.leaves(function(*a))) / 2
            run = eqx.filter_jit(eqx.filter_grad(lambda a: half_square(*a)))
            return lambda: run(arguments)

        parts = {
            "encoder": gradient(lambda encoder: encoder(x, v), model.encoder),
            "drives and low-pass": gradient(model.coefficients, raw),
            "rollout": gradient(lambda c: model.rollout(c, x[:, 0], v[:, 0], horizon)[0], cut),
        }
        if model.tract is not None:
            parts["vocal tract"] = gradient(lambda tract, x: tract(x), model.tract, target)
        parts["spectral loss"] = gradient(lambda sound: self.objective.spectral(sound, target), 0.9 * target)
        if self.objective.lambda_tf:
            parts["anchor"] = gradient(lambda c: model.acceleration(c, x, v), coefficients)
        return parts


def songs(sizes: Sizes) -> dict[str, Song]:
    """Both architectures, on one bird."""
    bird = simulated("source", seed=0, songs=3, validation=1, test=1, noise=2e-4)
    return {name: Song(name, bird, sizes) for name in ("cycle", "published")}


def steps(songs: dict[str, Song], repeats: int) -> None:
    """A table of each architecture's step."""
    for name, song in songs.items():
        model = song.make(jax.random.key(0))
        whole = best(song.step(model, song.objective), repeats)
        title = f"step, {name}, horizon {song.horizon}"
        print(f"\n{title:<38}{'ms':>9}{'share':>8}\n{'all':<38}{whole:>9.1f}{'100%':>8}")
        rest = whole
        for label, part in song.parts(model).items():
            took = best(part, repeats)
            rest -= took
            print(f"{label:<38}{took:>9.1f}{took / whole:>8.0%}")
        print(f"{'rest: windows, clipping, Adam':<38}{rest:>9.1f}{rest / whole:>8.0%}")


def seeds(songs: dict[str, Song], repeats: int) -> None:
    """A table of four seeds' steps."""
    print(f"\n{'four seeds, a step of each':<30}{'in turn ms':>12}{'vmapped ms':>12}{'ratio':>8}  target")
    for name, song in songs.items():
        one = song.step(song.make(jax.random.key(0)), song.objective)
        four = song.step(make_ensemble(song.make, [0, 1, 2, 3]), EnsembleObjective(song.objective))
        in_turn = best(lambda one=one: [one() for _ in range(4)], repeats)
        together = best(four, repeats)
        print(f"{name:<30}{in_turn:>12.1f}{together:>12.1f}{in_turn / together:>8.2f}  > 1")

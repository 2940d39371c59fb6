"""Classical Runge-Kutta of a driven second-order equation, in float64, for many songs at once.

Controls are known at the samples and linear in between; each sample is taken in `substeps` steps. Songs go through one
compiled program in groups of a fixed size and pieces of a fixed length, however many and long they are: so a song is
the same to the bit in any company, and nothing is compiled twice.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

LANES = 32  # songs a group
PIECE = 4096  # samples a call

# (x, v, controls [K, LANES]) -> acceleration, in seconds.
Acceleration = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@contextlib.contextmanager
def _double_precision() -> Iterator[None]:
    """float64 on the CPU, whatever the process uses otherwise."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(jax.enable_x64(True))
        with contextlib.suppress(RuntimeError):  # no CPU among the platforms chosen
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield


@functools.partial(jax.jit, static_argnames=("acceleration", "substeps"))
def _piece(
    acceleration: Acceleration, substeps: int, dt: jax.Array, state: tuple[jax.Array, ...], controls: jax.Array
) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, jax.Array]]:
    """State (x, v, controls) at a sample, and controls ``[PIECE, K, LANES]`` at the next ones."""
    h = dt / substeps

    def sample(state: tuple[jax.Array, ...], right: jax.Array) -> tuple[tuple[jax.Array, ...], tuple[jax.Array, ...]]:
        left = state[2]

        def substep(j: jax.Array, xv: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            x, v = xv
            begin = left + (right - left) * (j.astype(dt.dtype) / substeps)
            half = (right - left) * (0.5 / substeps)
            a1 = acceleration(x, v, begin)
            v2 = v + 0.5 * h * a1
            a2 = acceleration(x + 0.5 * h * v, v2, begin + half)
            v3 = v + 0.5 * h * a2
            a3 = acceleration(x + 0.5 * h * v2, v3, begin + half)
            v4 = v + h * a3
            a4 = acceleration(x + h * v3, v4, begin + 2.0 * half)
            return (
                x + h / 6.0 * (v + 2.0 * v2 + 2.0 * v3 + v4),
                v + h / 6.0 * (a1 + 2.0 * a2 + 2.0 * a3 + a4),
            )

        x, v = jax.lax.fori_loop(0, substeps, substep, (state[0], state[1]))
        return (x, v, right), (state[0], state[1])

    state, states = jax.lax.scan(sample, state, controls)
    return state, (states[0], states[1])


def integrate(
    acceleration: Acceleration,
    controls: Sequence[NDArray[np.float64]],
    x0: Sequence[float],
    *,
    sample_rate: int,
    substeps: int,
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Position and velocity (per second) of songs that start at rest.

    Args:
        acceleration: the equation; a function of a module, or it is compiled anew.
        controls: of each song ``[K, time]``; lengths may differ.
        x0: where each song starts.
        sample_rate: samples a second.
        substeps: steps a sample.

    Returns:
        Of each song x and v, float64 ``[time]``.
    """
    songs: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for first in range(0, len(controls), LANES):
        group, start = controls[first : first + LANES], x0[first : first + LANES]
        longest = max(song.shape[1] for song in group)
        time = -(-longest // PIECE) * PIECE + 1
        # Beyond a song's end its last controls go on; idle lanes repeat the last song. Nobody looks at either.
        laid = np.stack([np.pad(song, ((0, 0), (0, time - song.shape[1])), mode="edge").T for song in group], axis=-1)
        laid = np.pad(laid, ((0, 0), (0, 0), (0, LANES - len(group))), mode="edge")
        begin = np.pad(np.asarray(start, np.float64), (0, LANES - len(group)), mode="edge")
        pieces = []
        with _double_precision():
            state = (jnp.asarray(begin), jnp.zeros(LANES), jnp.asarray(laid[0]))
            dt = jnp.asarray(1.0 / sample_rate)
            for at in range(1, time, PIECE):
                state, states = _piece(acceleration, substeps, dt, state, jnp.asarray(laid[at : at + PIECE]))
                pieces.append(np.asarray(states))
        x, v = np.concatenate(pieces, axis=1)
        songs += [(x[: song.shape[1], lane], v[: song.shape[1], lane]) for lane, song in enumerate(group)]
    return songs

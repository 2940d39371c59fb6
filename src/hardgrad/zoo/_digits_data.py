"""The 1797 handwritten digits of scikit-learn, 8 × 8 pixels: split, as numbers and as spikes, and what is easily had.

E. Alpaydin, C. Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository. They come
with scikit-learn (``pip install 'hardgrad[data]'``).
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from ..core import UsageError, require
from ..spiking import pack_bits, rate_code

IMAGES, PIXELS, CLASSES = 1797, 64, 10
TRAIN, VALIDATION, TEST = range(3)
_SIDE = 8


@functools.cache
def images() -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Brightness ``[1797, 64]`` in [0, 1], and labels ``[1797]``.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    found = require("sklearn.datasets", extra="data").load_digits()
    return (found.data / 16.0).astype(np.float32), found.target.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Digits:
    """The images, dealt out anew for each member.

    Attributes:
        seeds: one a member.
        sizes: images to learn from, to choose the best epoch by, and to report.

    Raises:
        UsageError: they are more than there are.
    """

    seeds: tuple[int, ...]
    sizes: tuple[int, int, int]

    def __post_init__(self) -> None:
        if sum(self.sizes) > IMAGES:
            train, validation, test = self.sizes
            raise UsageError(
                f"train={train}, validation={validation} and test={test} are {sum(self.sizes)} images; there are "
                f"{IMAGES}."
            )

    def rows(self, part: int) -> NDArray[Any]:
        """Which images ``[images, members]``: no image is in two parts of one member.

        Args:
            part: `TRAIN`, `VALIDATION` or `TEST`.
        """
        start = sum(self.sizes[:part])
        dealt = [np.random.default_rng(seed).permutation(IMAGES) for seed in self.seeds]
        return np.stack([order[start : start + self.sizes[part]] for order in dealt], axis=1)

    def pixels(self, part: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Brightness ``[images, members, 64]`` and labels ``[images, members]``."""
        brightness, labels = images()
        rows = self.rows(part)
        return brightness[rows], labels[rows]

    def drawn(self, part: int, *, draws: int = 1, shifted: float = 0.0) -> tuple[NDArray[Any], NDArray[Any]]:
        """Each image `draws` times, brightness ``[images · draws, members, 64]``, and labels.

        Args:
            part: `TRAIN`, `VALIDATION` or `TEST`.
            draws: how often.
            shifted: share of them that are moved, uniformly by -1, 0 or 1 pixels down and across.
        """
        brightness, labels = (np.tile(array, (draws, *[1] * (array.ndim - 1))) for array in self.pixels(part))
        for member, seed in enumerate(self.seeds):
            rng = np.random.default_rng((seed, part))
            moves = rng.random(len(labels)) < shifted
            by = rng.integers(-1, 2, (len(labels), 2)) * moves[:, None]
            brightness[:, member] = moved(brightness[:, member], by)
        return brightness, labels

    def encoded(self, brightness: NDArray[Any], part: int, *, steps: int, most: float) -> NDArray[Any]:
        """Images ``[images, members, 64]`` as bits along time ``[images, members, bytes, 64]``.

        Args:
            brightness: in [0, 1].
            part: `TRAIN`, `VALIDATION` or `TEST`.
            steps: time steps.
            most: probability of a spike at full brightness.
        """
        keys = [jax.random.fold_in(jax.random.key(seed), part) for seed in self.seeds]
        found = [_encode(jnp.asarray(brightness[:, i]), key, steps, most) for i, key in enumerate(keys)]
        return np.stack([np.asarray(bits) for bits in found], axis=1)

    def baselines(self) -> dict[str, list[float]]:
        """Test accuracy of each member's most frequent class, and of a logistic regression on the pixels."""
        linear_model = require("sklearn.linear_model", extra="data")
        (x, y), (test_x, test_y) = self.pixels(TRAIN), self.pixels(TEST)
        found: dict[str, list[float]] = {"linear": [], "majority": []}
        for i in range(len(self.seeds)):
            most = np.bincount(y[:, i], minlength=CLASSES).argmax()
            found["majority"].append(float(np.mean(test_y[:, i] == most)))
            fitted = linear_model.LogisticRegression(max_iter=5000).fit(x[:, i], y[:, i])
            found["linear"].append(float(np.mean(fitted.predict(test_x[:, i]) == test_y[:, i])))
        return found


def moved(images: NDArray[Any], by: NDArray[Any]) -> NDArray[Any]:
    """Images moved, with darkness coming in.

    Args:
        images: ``[images, 64]``.
        by: pixels down and across, -1 to 1, ``[images, 2]``.
    """
    framed = np.pad(images.reshape(-1, _SIDE, _SIDE), ((0, 0), (1, 1), (1, 1)))
    down, across = (np.arange(_SIDE) + 1 - by[:, axis, None] for axis in (0, 1))
    found: NDArray[Any] = framed[np.arange(len(images))[:, None, None], down[:, :, None], across[:, None, :]]
    return found.reshape(images.shape)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _encode(brightness: Any, key: Any, steps: int, most: float) -> Any:
    return pack_bits(rate_code(brightness, steps, most=most, key=key))

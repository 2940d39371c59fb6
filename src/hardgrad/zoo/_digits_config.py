"""Settings of the recipe `digits-lif`, of all its variants."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..core import UsageError
from ._config import check_range, member_seeds
from ._digits_data import CLASSES, Digits


@dataclasses.dataclass(frozen=True)
class Config:
    """One size for all variants; an epoch shows each training image as often as it is drawn.

    Rate, shifts and smoothing were chosen on held-out images of seeds 100 to 103 and 200 to 205.
    """

    variant: Literal["surrogate", "eprop", "conversion", "hybrid"] = "surrogate"
    """how the network is trained"""
    train: int = 1221
    """images of each member to learn from"""
    validation: int = 216
    """images to choose the best epoch by"""
    test: int = 360
    """images to report"""
    steps: int = 24
    """time steps of an image"""
    rate: float = 1.0
    """probability of a spike at full brightness, a step"""
    draws: int = 5
    """times each training image is drawn and encoded"""
    shifted: float = 0.5
    """share of these draws that are shifted by a pixel"""
    hidden: int = 100
    """spiking units"""
    epochs: int = 10
    """epochs of training"""
    batch_size: int = 64
    """images a step"""
    learning_rate: float = 5e-3
    """Adam's, at the start; falls to 0 along a cosine"""
    smoothing: float = 0.1
    """of the labels"""
    members: int = 5
    """networks, each with split, code and start of its own"""
    eprop_mode: Literal["reverse", "online"] = "reverse"
    """eprop: how its gradient is found; the same to rounding, "online" in memory that does not grow with time"""
    source_hidden: int = 128
    """conversion: units of each of the source's two hidden layers"""
    conversion_steps: tuple[int, ...] = (4, 8, 16, 32, 64)
    """conversion: time steps after which the answer is read"""
    fraction: float = 0.3
    """hybrid: length of the correction, in gradients (or, not normalised, a factor)"""
    normalize: bool = True
    """hybrid: whether the fraction is of the gradient's length"""
    pairs: int = 4
    """hybrid: antithetic pairs of random directions a step"""
    sigma: float = 0.02
    """hybrid: their spread, in the units of weights"""
    seed: int = 0
    """members take seeds SEED·MEMBERS and on: no two seeds share one"""

    def __post_init__(self) -> None:
        check_range(self, train=CLASSES, validation=1, test=1, steps=1, draws=1, hidden=1, epochs=0, batch_size=1)
        check_range(self, learning_rate=0, members=1, source_hidden=1, fraction=0, pairs=1, seed=0)
        if not 0.0 < self.rate <= 1.0:
            raise UsageError(f"rate is a probability above 0, at most 1, got {self.rate!r}.")
        if not 0.0 <= self.shifted <= 1.0:
            raise UsageError(f"shifted is a share, from 0 to 1, got {self.shifted!r}.")
        if not 0.0 <= self.smoothing < 1.0:
            raise UsageError(f"smoothing must be at least 0 and below 1, got {self.smoothing!r}.")
        if not self.sigma > 0:
            raise UsageError(f"sigma must be above 0, got {self.sigma!r}.")
        if not self.conversion_steps or min(self.conversion_steps) < 1:
            raise UsageError(f"conversion_steps must be whole numbers of at least 1, got {self.conversion_steps!r}.")
        if self.batch_size > self.train * self.draws:
            raise UsageError(f"a batch of {self.batch_size} is more than the {self.train * self.draws} rows there are.")
        _ = self.digits

    @property
    def arms(self) -> tuple[str, ...]:
        """What is trained side by side, each with all seeds."""
        return ("surrogate", "hybrid") if self.variant == "hybrid" else (self.variant,)

    @property
    def seeds(self) -> list[int]:
        """One a member of an arm."""
        return member_seeds(self.seed, self.members)

    @property
    def digits(self) -> Digits:
        """The images, dealt out to the members of an arm.

        Raises:
            UsageError: more are asked for than there are.
        """
        return Digits(tuple(self.seeds), (self.train, self.validation, self.test))

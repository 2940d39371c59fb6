"""What is fixed when a rollout is compiled, and where in its coefficients a sample lies."""

from __future__ import annotations

import dataclasses

from .._fields import Exponents
from ._saturation import Saturation


@dataclasses.dataclass(frozen=True)
class Scheme:
    """A rollout without its arrays.

    Attributes:
        exponents: (power of x, power of v) of each term.
        samples: H, the first of which is the initial state.
        hop: samples from one frame of coefficients to the next.
        substeps: m Runge-Kutta steps of length 1/m a sample.
        linear: whether coefficients move within a sample, or are those of the sample on the left.
        saturation: bounds of the state.
        segment: samples that are worked on at a time; None: all.
    """

    exponents: Exponents
    samples: int
    hop: int
    substeps: int
    linear: bool
    saturation: Saturation
    segment: int | None

    @property
    def steps(self) -> int:
        """H - 1."""
        return self.samples - 1

    @property
    def segment_steps(self) -> int:
        """Samples of a segment: whole hops, as many as cover what was asked for; all of them if nothing was."""
        if self.segment is None or self.segment >= self.steps:
            return self.steps
        return min(self.steps, -(-self.segment // self.hop) * self.hop)

    @property
    def frames(self) -> int:
        """How many frames of coefficients the samples reach: the last one lies at or before the last frame."""
        return -(-self.steps // self.hop) + 1

    @property
    def unbounded(self) -> Scheme:
        """The same without bounds."""
        return dataclasses.replace(self, saturation=dataclasses.replace(self.saturation, kind="none"))

    @property
    def held(self) -> bool:
        """Whether each sample uses the coefficients of one frame as they are."""
        return self.hop == 1 and not self.linear

    @property
    def sides(self) -> tuple[int, ...]:
        """The frames an interval needs: its left one, and its right one unless coefficients are held."""
        return (0,) if self.held else (0, 1)

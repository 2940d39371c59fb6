"""The horizon of a rollout: how many samples the model runs alone before its sound is judged.

With i the present epoch (or step) of n, t = min(1, i/(n - 1)), H₀ the start and H₁ the end:

    const    H₁
    linear   round(H₀ + t (H₁ - H₀))
    geom     round(H₀ (H₁/H₀)^t)
    pow2     the ⌊i m/n⌋-th of the m values H₀, 2H₀, 4H₀, … below H₁, then H₁

Source: the published system. A horizon is a shape: each of its values costs a compiled program. ``linear`` and ``geom``
take a new one at almost every epoch; with `shapes=m` they become stairs of m equally long steps, as ``pow2`` is, whose
heights are the formula's at t = 0, 1/(m - 1), …, 1.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..core import Progress, UsageError, one_of, whole_number
from ._curves import Unit, check_curve, count_of

HorizonKind = Literal["geom", "linear", "const", "pow2"]
"""How a horizon grows."""


@dataclasses.dataclass(frozen=True)
class Horizon:
    """A rollout's length in samples, from `start` to `end` over the run; in a plan it is ``Static(Horizon(...))``.

    Attributes:
        start: samples at the beginning, at least 2.
        end: samples at the end, at least 2. It may be the smaller one, but for ``"pow2"``, which then stays at it.
        kind: ``"geom"``, ``"linear"``, ``"const"`` (`end` throughout) or ``"pow2"`` (doubling).
        unit: ``"epoch"`` or ``"step"``: what is counted.
        shapes: the most distinct values that ``"geom"`` or ``"linear"`` may take, at least 1 (then `end` alone); None:
            as many as the formula gives. The trainer warns of more than eight.
        over: length of the whole curve in epochs or steps, at least 1; None: that of the run. A run that may be
            stopped early or continued for longer gives it, so that its horizons stay those of the full run.

    Raises:
        UsageError: an unknown kind or unit, a number out of range, or `shapes` with ``"const"`` or ``"pow2"``, whose
            values are few by themselves.

    Examples:
        >>> horizon = Horizon(512, 2048, "pow2")
        >>> [horizon(Progress(epoch=e, step=0, epochs=50)) for e in (0, 16, 17, 33, 34, 49)]
        [512, 512, 1024, 1024, 2048, 2048]
        >>> Horizon(512, 2048, shapes=4).values(50)
        [512, 813, 1290, 2048]
    """

    start: int
    end: int
    kind: HorizonKind = "geom"
    _: dataclasses.KW_ONLY
    unit: Unit = "epoch"
    shapes: int | None = None
    over: int | None = None

    def __post_init__(self) -> None:
        check_curve(self.unit)
        one_of("a horizon's kind", self.kind, HorizonKind)
        whole_number("start", self.start, least=2)
        whole_number("end", self.end, least=2)
        if self.over is not None:
            whole_number("over", self.over, least=1)
        if self.shapes is not None:
            whole_number("shapes", self.shapes, least=1)
            if self.kind in ("const", "pow2"):
                raise UsageError(
                    f"shapes bounds the values of 'geom' and 'linear'; those of {self.kind!r} are few already, got "
                    f"shapes={self.shapes}. Leave it out."
                )

    @property
    def per_epoch(self) -> bool:
        """Whether it counts epochs."""
        return self.unit == "epoch" or self.kind == "const"

    def __call__(self, progress: Progress) -> int:
        """The horizon now.

        Raises:
            UsageError: it counts steps, and neither `over` nor the length of an epoch is known.
        """
        if self.kind == "const":
            return self.end
        total = self.over
        if total is None:
            total = progress.epochs if self.unit == "epoch" else progress.total_steps
        if total is None:
            raise UsageError(
                "a horizon that counts steps needs the length of the run, which a stream does not tell. "
                "Say Horizon(..., unit='step', over=STEPS), or count epochs."
            )
        return self.at(count_of(progress, self.unit), total)

    def at(self, count: int, total: int) -> int:
        """The horizon at the `count`-th epoch or step, from 0, of `total`."""
        if self.kind == "const" or total <= 1:
            return self.end
        stairs = self._stairs()
        if stairs is not None:
            return stairs[min(count * len(stairs) // total, len(stairs) - 1)]
        return self._curve(min(1.0, count / (total - 1)))

    def values(self, total: int) -> list[int]:
        """The distinct values over `total` epochs or steps, in order of appearance."""
        return list(dict.fromkeys(self.at(count, total) for count in range(total)))

    def _curve(self, t: float) -> int:
        if self.kind == "linear":
            return round(self.start + t * (self.end - self.start))
        return round(self.start * float((self.end / self.start) ** t))

    def _stairs(self) -> list[int] | None:
        if self.kind == "pow2":
            heights = []
            height = self.start
            while height < self.end:
                heights.append(height)
                height *= 2
            return [*heights, self.end]
        if self.shapes is None:
            return None
        if self.shapes == 1:
            return [self.end]
        return [self._curve(i / (self.shapes - 1)) for i in range(self.shapes)]

"""Shares of rows with the exact interval of Clopper and Pearson.

    low  = Beta⁻¹(α/2; k, n-k+1)        high = Beta⁻¹(1-α/2; k+1, n-k)        α = 1 - confidence

for k of n rows; low = 0 for k = 0, high = 1 for k = n. Source: Clopper and Pearson, Biometrika 26 (1934).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...core import UsageError, finite_number, whole_number


@dataclass(frozen=True)
class Proportion:
    """A share of rows with its exact two-sided interval.

    Attributes:
        count: rows that had it.
        total: rows asked, at least 1.
        confidence: of the interval, in (0, 1).
    """

    count: int
    total: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        whole_number("total", self.total, least=1)
        whole_number("count", self.count, least=0, most=self.total)
        check_confidence(self.confidence)

    @property
    def rate(self) -> float:
        """count / total."""
        return self.count / self.total

    @property
    def low(self) -> float:
        """Lower end of the interval of Clopper and Pearson; 0 for a count of 0."""
        return beta_quantile((1 - self.confidence) / 2, self.count, self.total - self.count + 1)

    @property
    def high(self) -> float:
        """Upper end of that interval; 1 for a count of all."""
        return beta_quantile((1 + self.confidence) / 2, self.count + 1, self.total - self.count)

    @property
    def upper_bound(self) -> float:
        """One-sided: the true rate is at most this, with the stated confidence."""
        return beta_quantile(self.confidence, self.count + 1, self.total - self.count)

    @property
    def lower_bound(self) -> float:
        """One-sided: the true rate is at least this, with the stated confidence."""
        return beta_quantile(1 - self.confidence, self.count, self.total - self.count + 1)

    def __str__(self) -> str:
        interval = f"[{100 * self.low:.2f}, {100 * self.high:.2f}]"
        return f"{100 * self.rate:.2f} % {interval}  ({self.count} of {self.total})"


def check_confidence(confidence: Any) -> None:
    if not 0.0 < finite_number("confidence", confidence) < 1.0:
        raise UsageError(f"confidence must lie between 0 and 1; got {confidence!r}.")


def beta_quantile(probability: float, a: int, b: int) -> float:
    """Quantile of Beta(a, b); 0 and 1 at the ends, where a or b is 0."""
    # JAX itself requires SciPy. Importing it takes a while, so only here.
    from scipy.special import betaincinv  # type: ignore[import-untyped]

    return 0.0 if a == 0 else 1.0 if b == 0 else float(betaincinv(a, b, probability))

"""Error rates over a range of thresholds, to look at. To have a threshold chosen, see `calibrate`.

    false rejections   share of in-range rows with score < tau
    false acceptances  share of ⊥ rows with score ≥ tau

Source: the published threshold sweep, there for |Q|.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...core import UsageError
from ._scores import Mask, Scores

if TYPE_CHECKING:
    from ._calibration import Calibration

_POINTS = 25


class TauSweep(NamedTuple):
    """Rates at each threshold, float64; NaN for a group without rows.

    Attributes:
        taus: thresholds, in the order given.
        false_rejection_rate: in-range rows rejected (published as `fn_in`).
        false_acceptance_rate: ⊥ rows accepted (`fp_cens`).
        bottom_rate: rows rejected, of all.
    """

    taus: NDArray[np.float64]
    false_rejection_rate: NDArray[np.float64]
    false_acceptance_rate: NDArray[np.float64]
    bottom_rate: NDArray[np.float64]


def tau_infer_sweep(scores: Scores, *, is_in_range: Mask, taus: Sequence[float] | None = None) -> TauSweep:
    """Both error rates of strict decoding at each threshold.

    Args:
        scores: |Q|, or another `rejection_score`, any shape. One that is not finite is rejected everywhere.
        is_in_range: of that shape: True where the label is finite, False where it is ⊥.
        taus: thresholds above 0. None takes 25, evenly spaced in the logarithm, over the scores above 0.

    Raises:
        UsageError: shapes differ, a threshold is not above 0, or no score is, so that none can be chosen.

    Examples:
        >>> import numpy as np
        >>> Q, finite = np.array([1e-5, 0.2, 0.5, 0.9]), np.array([False, False, True, True])
        >>> tau_infer_sweep(Q, is_in_range=finite, taus=[1e-3, 0.6]).false_acceptance_rate
        array([0.5, 0. ])
    """
    score = np.asarray(scores).astype(np.float64).ravel()
    in_range = np.asarray(is_in_range).ravel()
    if np.shape(scores) != np.shape(is_in_range):
        raise UsageError(
            f"scores and is_in_range must have one shape; got {np.shape(scores)}, {np.shape(is_in_range)}."
        )
    positive = score[np.isfinite(score) & (score > 0)]
    if taus is None and not positive.size:
        raise UsageError("no score is finite and above 0: give the thresholds (taus).")
    grid = np.geomspace(positive.min(), positive.max(), _POINTS) if taus is None else np.asarray(taus, np.float64)
    if grid.ndim != 1 or not (np.isfinite(grid) & (grid > 0)).all():
        raise UsageError(f"taus must be finite numbers above 0; got {taus!r}.")
    # A fault is rejected at any threshold.
    ranked = np.where(np.isfinite(score), score, -np.inf)

    def below(group: NDArray[np.float64]) -> NDArray[np.float64]:
        rejected = np.searchsorted(np.sort(group), grid, side="left")
        return rejected / group.size if group.size else np.full(grid.shape, np.nan)

    return TauSweep(grid, below(ranked[in_range]), 1.0 - below(ranked[~in_range]), below(ranked))


def tau_infer_sweep_report(
    sweep: TauSweep, *, title: str = "Threshold sweep", calibration: Calibration | None = None
) -> str:
    """The sweep as Markdown: a heading, a table of rates in percent, and the calibrated threshold if there is one.

    Examples:
        >>> import numpy as np
        >>> sweep = tau_infer_sweep(np.array([0.1, 0.5]), is_in_range=np.array([False, True]), taus=[0.2])
        >>> print(tau_infer_sweep_report(sweep))
        # Threshold sweep
        <BLANKLINE>
        | tau_infer | in range, rejected | ⊥, accepted | rejected of all |
        |---:|---:|---:|---:|
        | 0.2 | 0.00 % | 0.00 % | 50.00 % |
        <BLANKLINE>
    """
    lines = [
        f"# {title}",
        "",
        "| tau_infer | in range, rejected | ⊥, accepted | rejected of all |",
        "|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {tau:.4g} | {_percent(a)} | {_percent(b)} | {_percent(c)} |" for tau, a, b, c in zip(*sweep, strict=True)
    ]
    if calibration is not None:
        lines += ["", "Calibrated threshold:", "", "```", calibration.summary(), "```"]
    return "\n".join(lines) + "\n"


def _percent(rate: Any) -> str:
    return "–" if np.isnan(rate) else f"{100 * rate:.2f} %"

"""A calibrated threshold: the number, what it was chosen for, and what labels say about it. See `calibrate`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp

from ...core import UsageError, finite_number, one_of, whole_number
from ._decode import InferenceConfig
from ._proportion import Proportion, check_confidence
from ._scores import Score, check_tau

Method = Literal["rate", "guarantee", "cost", "given"]
SCHEMA, VERSION = "hardgrad.calibration", 1


@dataclass(frozen=True)
class Calibration:
    """A threshold, and what held-out labels say about it.

    Attributes:
        tau_infer: the threshold, a number of `dtype`.
        score: what it is compared with.
        dtype: of the scores it was chosen on, such as ``"float32"``.
        method: ``"rate"``, ``"guarantee"``, ``"cost"``, or ``"given"`` (by `assess_threshold`).
        false_rejection: finite rows rejected.
        recall: ⊥ rows rejected; None without labels of ⊥.
        faults: rows, of either label, that no threshold would accept.
        ignored: rows whose label is neither finite nor ⊥.
        false_rejection_rate: the rate that was asked for, if one was.
        cost: (of accepting a ⊥, of rejecting a finite row), if they were stated.
        bottom_share: the share of ⊥ in service that costs were weighed with.
    """

    tau_infer: float
    score: Score
    dtype: str
    method: Method
    false_rejection: Proportion
    recall: Proportion | None
    faults: int
    ignored: int = 0
    false_rejection_rate: float | None = None
    cost: tuple[float, float] | None = None
    bottom_share: float | None = None

    @property
    def confidence(self) -> float:
        """Confidence of the intervals."""
        return self.false_rejection.confidence

    @property
    def expected_cost(self) -> float | None:
        """Cost a row, at the rates found; None where no costs were stated."""
        if self.cost is None or self.bottom_share is None or self.recall is None:
            return None
        return float(cost_a_row(self.cost, self.bottom_share, self.recall.rate, self.false_rejection.rate))

    def config(self, tau_train: float | None = None) -> InferenceConfig:
        """The configuration that decodes with this threshold.

        Raises:
            UsageError: `tau_train` is below the threshold.
        """
        return InferenceConfig(tau_infer=self.tau_infer, tau_train=tau_train, score=self.score)

    def summary(self) -> str:
        """A few lines of at most 80 columns."""
        goal = {
            "rate": f"{_percent(self.false_rejection_rate)} of finite rows rejected on these labels",
            "guarantee": f"at most {_percent(self.false_rejection_rate)} of finite rows rejected, guaranteed",
            "cost": "least cost on these labels",
            "given": "the threshold was given",
        }[self.method]
        level = f"{100 * self.confidence:g} %"
        lines = [
            f"tau_infer        {self.tau_infer:.9g}  ({self.score} score, {self.dtype})",
            f"chosen for       {goal}",
            f"false rejection  {self.false_rejection}",
            f"  at most        {100 * self.false_rejection.upper_bound:.2f} %  (one-sided)",
            f"recall of ⊥      {self.recall or 'unknown: no row is labelled ⊥'}",
            f"intervals        {'nominal' if self.method == 'cost' else 'exact'}, {level} confidence",
        ]
        if self.expected_cost is not None and self.cost is not None:
            accept, reject = self.cost
            lines.append(
                f"expected cost    {self.expected_cost:.4g} a row  (accepting ⊥ {accept:g}, rejecting {reject:g})"
            )
        if self.faults or self.ignored:
            lines.append(f"rows             {self.faults} rejected at any threshold, {self.ignored} without a label")
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The calibration in types JSON knows, with the intervals for other readers."""

        def proportion(p: Proportion | None) -> dict[str, Any] | None:
            return None if p is None else {"count": p.count, "total": p.total, "low": p.low, "high": p.high}

        return {
            "schema": SCHEMA,
            "version": VERSION,
            "tau_infer": self.tau_infer,
            "score": self.score,
            "dtype": self.dtype,
            "method": self.method,
            "confidence": self.confidence,
            "false_rejection": proportion(self.false_rejection),
            "recall": proportion(self.recall),
            "faults": self.faults,
            "ignored": self.ignored,
            "false_rejection_rate": self.false_rejection_rate,
            "cost": None if self.cost is None else list(self.cost),
            "bottom_share": self.bottom_share,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | str) -> Calibration:
        """A calibration read back from `as_json`, or from its text. Everything is checked; intervals are formed anew.

        Raises:
            UsageError: it is no such document, or something in it is out of range or does not fit the rest.
        """
        return _from_json(document)


def cost_a_row(cost: tuple[float, float], share: float, recall: Any, rejected: Any) -> Any:
    return share * cost[0] * (1.0 - recall) + (1.0 - share) * cost[1] * rejected


def check_costs(cost: Any) -> tuple[float, float]:
    if not isinstance(cost, tuple | list) or len(cost) != 2:
        raise UsageError(f"cost is (of accepting a ⊥, of rejecting a finite row); got {cost!r}.")
    return finite_number("cost[0]", cost[0], above=0.0), finite_number("cost[1]", cost[1], above=0.0)


def _percent(rate: float | None) -> str:
    return "" if rate is None else f"{100 * rate:g} %"


def _from_json(document: Mapping[str, Any] | str) -> Calibration:
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"a calibration is a JSON object; this text is none ({error}).") from None
    if not isinstance(document, Mapping) or (document.get("schema"), document.get("version")) != (SCHEMA, VERSION):
        raise UsageError(f"this is no calibration: schema {SCHEMA!r} of version {VERSION} is expected.")
    fields = set(Calibration.__dataclass_fields__) | {"schema", "version", "confidence"}
    if set(document) != fields:
        raise UsageError(f"a calibration has exactly these fields: {', '.join(sorted(fields))}.")
    for name, known in (
        ("score", Score),
        ("method", Method),
        ("dtype", Literal["float16", "bfloat16", "float32", "float64"]),
    ):
        one_of(name, document[name], known)
    confidence, method = document["confidence"], document["method"]
    check_confidence(confidence)
    rate, cost, share = document["false_rejection_rate"], document["cost"], document["bottom_share"]
    by_rate, by_cost = method in ("rate", "guarantee"), method == "cost"
    if (rate is not None, cost is not None, share is not None) != (by_rate, by_cost, by_cost):
        raise UsageError(f"false_rejection_rate, cost and bottom_share don't fit the method {method!r}.")
    for name, value in (("false_rejection_rate", rate), ("bottom_share", share)):
        if value is not None and not 0.0 < finite_number(name, value) < 1.0:
            raise UsageError(f"{name} must lie between 0 and 1; got {value!r}.")
    tau = finite_number("tau_infer", document["tau_infer"], above=0.0)
    if float(check_tau(tau, jnp.dtype(document["dtype"]))) != tau:
        raise UsageError(f"tau_infer={tau!r} is no {document['dtype']} number: the document was changed.")
    InferenceConfig(tau_infer=tau, score=document["score"])
    recall = document["recall"]
    return Calibration(
        tau_infer=tau,
        score=document["score"],
        dtype=document["dtype"],
        method=method,
        false_rejection=_proportion("false_rejection", document["false_rejection"], confidence),
        recall=None if recall is None else _proportion("recall", recall, confidence),
        faults=whole_number("faults", document["faults"], least=0),
        ignored=whole_number("ignored", document["ignored"], least=0),
        false_rejection_rate=rate,
        cost=None if cost is None else check_costs(cost),
        bottom_share=share,
    )


def _proportion(name: str, given: Any, confidence: float) -> Proportion:
    if not isinstance(given, Mapping) or set(given) != {"count", "total", "low", "high"}:
        raise UsageError(f"{name} must hold count, total, low and high; got {given!r}.")
    found = Proportion(given["count"], given["total"], confidence)
    for end in ("low", "high"):
        if not math.isclose(finite_number(f"{name}.{end}", given[end]), getattr(found, end), abs_tol=1e-9):
            raise UsageError(f"{name}.{end}={given[end]!r} does not follow from its counts: the document was changed.")
    return found

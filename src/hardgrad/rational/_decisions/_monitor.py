"""Watching strict decisions in service: rates, running counts, and events when something stirs.

Host code in NumPy: it sees masks after they have left the model. Counts are exact whole numbers, and rates are formed
from them when asked for, so that a monitor that was stored and restored goes on as if nothing had happened.

Source: the published monitor. Its batch summaries grow without bound; here the last 1000 are kept.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...core import UsageError, finite_number, whole_number
from ._decode import StrictResult
from ._scores import Mask

Event = dict[str, Any]
SCHEMA, VERSION = "hardgrad.strict_inference_monitor", 1

_HISTOGRAMS = ("size", "bottom_count", "gap_count", "fault_count", "semantic_bottom_count", "numerical_hazard_count")
_COUNTS = ("n_bottom", "n_gap", "n_fault", "n_semantic_bottom", "n_numerical_hazard")
_UPDATES = ("n_updates", "n_gap_updates", "n_provenance_updates", "n_hazard_updates")


def strict_inference_rates(
    bottom_mask: Mask,
    gap_mask: Mask | None = None,
    *,
    fault_mask: Mask | None = None,
    semantic_bottom_mask: Mask | None = None,
    numerical_hazard_mask: Mask | None = None,
) -> dict[str, float]:
    """The share of each kind of decision.

    Args:
        bottom_mask: True where ⊥, any shape.
        gap_mask: of the same shape, as are the others. Without it the gap rate is NaN: not known.
        fault_mask: adds ``fault_rate``.
        semantic_bottom_mask: adds ``semantic_bottom_rate``.
        numerical_hazard_mask: entries found risky by a rule of yours; adds ``numerical_hazard_rate``.

    Returns:
        ``n``, ``bottom_rate``, ``gap_rate``, ``accept_rate`` (1 - bottom_rate: the gap is accepted) and what
        was added. Rates of nothing are NaN.

    Raises:
        UsageError: a mask is not boolean or the shapes differ.

    Examples:
        >>> import numpy as np
        >>> strict_inference_rates(np.array([True, False]), np.array([False, False]))
        {'n': 2.0, 'bottom_rate': 0.5, 'gap_rate': 0.0, 'accept_rate': 0.5}
    """
    masks = _masks(
        bottom=bottom_mask,
        gap=gap_mask,
        fault=fault_mask,
        semantic_bottom=semantic_bottom_mask,
        numerical_hazard=numerical_hazard_mask,
    )
    n = masks["bottom"].size
    bottom = int(masks["bottom"].sum())
    rates = {
        "n": float(n),
        "bottom_rate": _rate(bottom, n),
        "gap_rate": _rate(int(masks["gap"].sum()), n) if "gap" in masks else math.nan,
        "accept_rate": _rate(n - bottom, n),
    }
    rest = ("fault", "semantic_bottom", "numerical_hazard")
    return rates | {f"{name}_rate": _rate(int(masks[name].sum()), n) for name in rest if name in masks}


class StrictInferenceMonitor:
    """Counts strict decisions over batches and tells when something happens.

    Events are flat records with ``event``, ``update_index``, ``batch_size``, ``running_accept_rate``, ``bundle_id``:

    - ``"fault-bottom-trigger"``, ``"semantic-bottom-trigger"``, ``"numerical-hazard-trigger"``, ``"gap-trigger"``:
      a batch holds some; with ``count`` and ``rate``;
    - ``"acceptance-rate-drift"``: the accept rate moved by `drift_threshold` or more since the last batch; with
      ``accept_rate``, ``previous_accept_rate``, ``delta`` (its size), ``threshold``, ``direction``.

    Args:
        bundle_id: names what is watched, in every record.
        drift_threshold: in (0, 1]; None watches no drift.
        on_event: is given each event as it happens; `update` returns them too.
        kept_summaries: how many batch summaries are kept, the last ones.

    Raises:
        UsageError: an argument out of range.

    Examples:
        >>> import numpy as np
        >>> from hardgrad.rational import strict_inference
        >>> monitor = StrictInferenceMonitor(bundle_id="arm-7")
        >>> [event["event"] for event in monitor.update(strict_inference(np.ones(4), np.array([1.0, 0.0, 2.0, 3.0])))]
        ['semantic-bottom-trigger']
        >>> monitor.export_state()["accept_rate"]
        0.75
    """

    def __init__(
        self,
        *,
        bundle_id: str | None = None,
        drift_threshold: float | None = None,
        on_event: Callable[[Event], None] | None = None,
        kept_summaries: int = 1000,
    ) -> None:
        if drift_threshold is not None and finite_number("drift_threshold", drift_threshold, above=0.0) > 1.0:
            raise UsageError(f"drift_threshold is a change of a rate, at most 1; got {drift_threshold!r}.")
        self.bundle_id = bundle_id
        self.drift_threshold = drift_threshold
        self._on_event = on_event
        self._n = 0
        self._counts: Counter[str] = Counter()
        self._previous: tuple[int, int] | None = None  # accepted and all of the last batch
        self._histograms: dict[str, Counter[int]] = {name: Counter() for name in _HISTOGRAMS}
        self._summaries: deque[dict[str, Any]] = deque(maxlen=whole_number("kept_summaries", kept_summaries, least=0))

    def update(
        self,
        bottom_mask: Mask | StrictResult,
        gap_mask: Mask | None = None,
        *,
        fault_mask: Mask | None = None,
        semantic_bottom_mask: Mask | None = None,
        numerical_hazard_mask: Mask | None = None,
    ) -> list[Event]:
        """Count one batch: a `StrictResult`, or its masks.

        Raises:
            UsageError: masks don't fit (see `strict_inference_rates`), the batch is empty, one provenance mask
                comes without the other, or masks of a result are given twice.
        """
        if isinstance(bottom_mask, StrictResult):
            result = bottom_mask
            if gap_mask is not None or fault_mask is not None or semantic_bottom_mask is not None:
                raise UsageError("a StrictResult holds its masks; give no others beside it.")
            semantic = np.broadcast_to(np.asarray(result.semantic_bottom_mask), np.shape(result.bottom_mask))
            return self.update(
                np.asarray(result.bottom_mask),
                np.asarray(result.gap_mask),
                fault_mask=np.asarray(result.fault_mask),
                semantic_bottom_mask=semantic,
                numerical_hazard_mask=numerical_hazard_mask,
            )
        if (fault_mask is None) != (semantic_bottom_mask is None):
            raise UsageError("give both fault_mask and semantic_bottom_mask, or neither.")
        masks = _masks(
            bottom=bottom_mask,
            gap=gap_mask,
            fault=fault_mask,
            semantic_bottom=semantic_bottom_mask,
            numerical_hazard=numerical_hazard_mask,
        )
        if not masks["bottom"].size:
            raise UsageError("an empty batch has no rates; update the monitor with at least one decision.")
        summary = self._count(masks)
        events = self._events(summary)
        self._previous = (summary["accept_count"], summary["batch_size"])
        if self._on_event is not None:
            for event in events:
                self._on_event(event)
        return events

    def _count(self, masks: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
        """Add a batch to the counts; its summary."""
        size = masks["bottom"].size
        counts = {name: int(mask.sum()) for name, mask in masks.items()}
        provenance = "fault" in masks
        self._n += size
        self._counts.update({f"n_{name}": count for name, count in counts.items()})
        self._counts["n_updates"] += 1
        self._counts["n_gap_updates"] += "gap" in masks
        self._counts["n_provenance_updates"] += provenance
        self._counts["n_hazard_updates"] += "numerical_hazard" in masks
        self._histograms["size"][size] += 1
        for name, count in counts.items():
            self._histograms[f"{name}_count"][count] += 1
        summary: dict[str, Any] = {"update_index": self._counts["n_updates"], "batch_size": size}
        accept = size - counts["bottom"]
        shown = {"bottom": counts["bottom"], "gap": counts.get("gap", 0), "accept": accept}
        shown |= {name: counts[name] for name in ("fault", "semantic_bottom", "numerical_hazard") if name in counts}
        for name, count in shown.items():
            summary |= {f"{name}_count": count, f"{name}_rate": _rate(count, size)}
        summary |= {"has_gap": "gap" in masks, "has_provenance": provenance}
        if provenance:
            tags = _provenance_tags(masks)
            summary |= {"provenance_tag_counts": tags}
            summary |= {"provenance_tags": [tag for tag, count in tags.items() if count and tag != "finite"]}
        self._summaries.append(summary)
        return summary

    def _events(self, summary: dict[str, Any]) -> list[Event]:
        common = {
            "update_index": summary["update_index"],
            "batch_size": summary["batch_size"],
            "running_accept_rate": _rate(self._n - self._counts["n_bottom"], self._n),
            "bundle_id": self.bundle_id,
        }
        triggers = {
            "fault": "fault-bottom-trigger",
            "semantic_bottom": "semantic-bottom-trigger",
            "numerical_hazard": "numerical-hazard-trigger",
            "gap": "gap-trigger",
        }
        events = [
            {"event": event} | common | {"count": summary[f"{name}_count"], "rate": summary[f"{name}_rate"]}
            for name, event in triggers.items()
            if summary.get(f"{name}_count")
        ]
        if self.drift_threshold is not None and self._previous is not None:
            rate, previous = summary["accept_rate"], _rate(*self._previous)
            if abs(rate - previous) >= self.drift_threshold:
                drift = {
                    "accept_rate": rate,
                    "previous_accept_rate": previous,
                    "delta": abs(rate - previous),
                    "threshold": self.drift_threshold,
                    "direction": "increase" if rate > previous else "decrease",
                }
                events.append({"event": "acceptance-rate-drift"} | common | drift)
        return events

    def rates(self) -> dict[str, float]:
        """Rates over everything seen, as `strict_inference_rates` gives them for one batch."""
        counts = self._counts
        rates = {
            "n": float(self._n),
            "bottom_rate": _rate(counts["n_bottom"], self._n),
            "gap_rate": _rate(counts["n_gap"], self._n) if counts["n_gap_updates"] else math.nan,
            "accept_rate": _rate(self._n - counts["n_bottom"], self._n),
        }
        if counts["n_provenance_updates"]:
            rates["fault_rate"] = _rate(counts["n_fault"], self._n)
            rates["semantic_bottom_rate"] = _rate(counts["n_semantic_bottom"], self._n)
        if counts["n_hazard_updates"]:
            rates["numerical_hazard_rate"] = _rate(counts["n_numerical_hazard"], self._n)
        return rates

    def export_state(self, *, include_histograms: bool = True, include_batch_summaries: bool = True) -> dict[str, Any]:
        """Everything counted, in types JSON knows (write it with `hardgrad.core.dumps`: rates of nothing are NaN).

        Rates of kinds that only some batches came with are shares of all entries seen.
        """
        counts = self._counts
        state: dict[str, Any] = {"schema": SCHEMA, "version": VERSION, **self.rates(), "n": self._n}
        state |= {"bundle_id": self.bundle_id, "drift_threshold": self.drift_threshold}
        state |= {name: counts[name] for name in (*_UPDATES, *_COUNTS)}
        state |= {"n_accept": self._n - counts["n_bottom"], "has_provenance": counts["n_provenance_updates"] > 0}
        state |= {"previous_batch": None if self._previous is None else list(self._previous)}
        if include_histograms:
            state["histograms"] = {
                f"batch_{name}": {str(count): times for count, times in sorted(histogram.items())}
                for name, histogram in self._histograms.items()
                if histogram
            }
        if include_batch_summaries:
            state["batch_summaries"] = [dict(summary) for summary in self._summaries]
        return state

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any],
        *,
        on_event: Callable[[Event], None] | None = None,
        kept_summaries: int = 1000,
    ) -> StrictInferenceMonitor:
        """A monitor that goes on where `export_state` left off, from a mapping read from JSON.

        Histograms and summaries that were left out of the state begin anew. Rates are formed from the counts, so
        those in the state are not read.

        Raises:
            UsageError: the state has another schema or version, lacks something, or contradicts itself.
        """
        if not isinstance(state, Mapping) or (state.get("schema"), state.get("version")) != (SCHEMA, VERSION):
            raise UsageError(f"this is no state of a monitor: schema {SCHEMA!r} of version {VERSION} is expected.")
        bundle_id = state.get("bundle_id")
        if bundle_id is not None and not isinstance(bundle_id, str):
            raise UsageError(f"bundle_id must be text or null; got {bundle_id!r}.")
        monitor = cls(
            bundle_id=bundle_id,
            drift_threshold=state.get("drift_threshold"),
            on_event=on_event,
            kept_summaries=kept_summaries,
        )
        n = monitor._n = whole_number("n", state.get("n"), least=0)
        updates = whole_number("n_updates", state.get("n_updates"), least=min(n, 1), most=n)
        for name in _UPDATES:
            monitor._counts[name] = whole_number(name, state.get(name), least=0, most=updates)
        for name in _COUNTS:
            monitor._counts[name] = whole_number(name, state.get(name), least=0, most=n)
        previous = state.get("previous_batch")
        if (previous is None) != (updates == 0) or not (previous is None or _is_share(previous, n)):
            raise UsageError(f"previous_batch must be [accepted, all] of the last batch; got {previous!r}.")
        monitor._previous = None if previous is None else (previous[0], previous[1])
        monitor._histograms |= _histograms(state.get("histograms", {}), updates)
        summaries = state.get("batch_summaries", [])
        if not isinstance(summaries, list) or not all(isinstance(summary, Mapping) for summary in summaries):
            raise UsageError("batch_summaries must be a list of records.")
        monitor._summaries.extend(dict(summary) for summary in summaries)
        return monitor


def _masks(**given: Any) -> dict[str, NDArray[np.bool_]]:
    """Those masks that were given, as arrays, bottom first; checked."""
    masks = {name: np.asarray(mask) for name, mask in given.items() if mask is not None}
    for name, mask in masks.items():
        # An empty list comes as float64: nothing in it is of the wrong kind.
        if mask.dtype != np.bool_ and mask.size:
            raise UsageError(f"the {name} mask must be boolean; got {mask.dtype}.")
        if mask.shape != masks["bottom"].shape:
            raise UsageError(f"masks must have one shape; got bottom {masks['bottom'].shape}, {name} {mask.shape}.")
    return masks


def _rate(count: int, n: int) -> float:
    return count / n if n else math.nan


def _provenance_tags(masks: dict[str, NDArray[np.bool_]]) -> dict[str, int]:
    """How many entries are finite, ⊥ by a fault, by meaning, by both, or by neither."""
    bottom, fault, semantic = masks["bottom"], masks["fault"], masks["semantic_bottom"]
    return {
        "finite": int((~bottom).sum()),
        "fault": int((bottom & fault & ~semantic).sum()),
        "semantic": int((bottom & semantic & ~fault).sum()),
        "mixed": int((bottom & fault & semantic).sum()),
        "unspecified": int((bottom & ~fault & ~semantic).sum()),
    }


def _is_share(value: Any, n: int) -> bool:
    whole = isinstance(value, list) and len(value) == 2 and all(type(part) is int for part in value)
    return whole and 0 <= value[0] <= value[1] and 0 < value[1] <= n


def _histograms(given: Any, updates: int) -> dict[str, Counter[int]]:
    """Histograms as `export_state` writes them, checked."""
    if not isinstance(given, Mapping):
        raise UsageError("histograms must be a mapping.")
    found = {}
    for key, histogram in given.items():
        name = str(key).removeprefix("batch_")
        plain = isinstance(histogram, Mapping) and all(str(count).isdecimal() for count in histogram)
        if name not in _HISTOGRAMS or not plain:
            raise UsageError(f"histograms hold no {key!r} of that form.")
        times = [whole_number(f"histograms[{key!r}]", value, least=1, most=updates) for value in histogram.values()]
        found[name] = Counter(dict(zip(map(int, histogram), times, strict=True)))
    return found

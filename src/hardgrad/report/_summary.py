"""What became of a run, gathered from its folder."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

from ..core import CheckpointError, UsageError, number
from ..training import EpochRecord, RunFolder, Status
from ..training._storage import read_manifest
from ._records import lowest_loss
from ._text import as_number, count, format_number, format_seconds

RUNNING, FAILED = "still running", "failed"


@dataclasses.dataclass(frozen=True)
class Summary:
    """What became of a run.

    Attributes:
        config: the content of config.json.
        records: one a finished epoch.
        status: ``"completed"``, ``"stopped"``, ``"diverged"``, ``"interrupted"``, ``"failed"`` (an exception
            ended it) or ``"still running"`` (or killed: nobody was left to write how it ended).
        reason: the same in a sentence.
        headline: what its recipe says in a line; empty if nothing.
        best: the best epoch: ``epoch``, ``metric``, ``value``; None where there is none.
        figures: the key figures: a name and its text.
        lines: what its recipe printed at its end.
        notes: sentences that its recipe adds, to be known of what it says.
        warnings: sentences on what should not be overlooked in the run itself.
        begun: when, in words; empty if unknown.
    """

    config: dict[str, Any]
    records: list[EpochRecord]
    status: str
    reason: str
    headline: str
    best: dict[str, Any] | None
    figures: list[tuple[str, str]]
    lines: list[str]
    notes: list[str]
    warnings: list[str]
    begun: str

    @property
    def over(self) -> bool:
        """Whether the run has ended and there is nothing left of it to do."""
        return self.status in (Status.COMPLETED.value, Status.STOPPED.value)


def summarize(folder: RunFolder) -> Summary:
    """Read a run's files.

    Raises:
        UsageError: one is missing or damaged.
    """
    config = _object(folder, folder.config_path)
    events, records = list(folder.telemetry()), list(folder.records())
    result = _object(folder, folder.result_path) if folder.result_path.is_file() else {}
    # A resumed run leaves the result of its first session standing until it ends itself.
    if result and events and events[-1].get("kind") not in ("run_end", None):
        result = {}
    status, reason = _outcome(result, events, records, config)
    best = _best(folder, result, records)
    return Summary(
        config=config,
        records=records,
        status=status,
        reason=_sentence(reason),
        headline=_sentence(said) if isinstance(said := result.get("headline"), str) else "",
        best=best,
        figures=_key_figures(result, events, records, config, best),
        lines=[one.replace("{run}", str(folder.path)) for one in _texts(result.get("lines"))],
        notes=_texts(result.get("notes")),
        warnings=_warnings(records, result),
        begun=_begun(events),
    )


def _object(folder: RunFolder, path: Any) -> dict[str, Any]:
    value = folder.read_json(path)
    if not isinstance(value, dict):
        raise UsageError(f"{path} is damaged: it must hold a JSON object.")
    return value


def _outcome(
    result: dict[str, Any],
    events: list[dict[str, Any]],
    records: Sequence[EpochRecord],
    config: dict[str, Any],
) -> tuple[str, str]:
    if result:
        status, reason = str(result.get("status", "unknown")), str(result.get("reason", ""))
        return status, reason or status
    if events and events[-1].get("kind") == "error":
        error = events[-1]
        return (
            FAILED,
            f"{error.get('type', 'an error')} in epoch {error.get('epoch', '?')}: {error.get('message', '')}",
        )
    total = config.get("epochs")
    done = (
        f"{format_number(len(records))} of {count(total, 'epoch')} done"
        if isinstance(total, int)
        else f"{count(len(records), 'epoch')} done"
    )
    return (
        RUNNING,
        f"{done} when this report was written, and no result yet. If nothing works on it any more, resume it",
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return text if not text or text[-1] in ".!?…" else f"{text}."


def _best(folder: RunFolder, result: dict[str, Any], records: Sequence[EpochRecord]) -> dict[str, Any] | None:
    """What a `Best` callback found, else the lowest loss."""
    found = result.get("best")
    if not isinstance(found, dict) and folder.best_path.is_dir():
        try:
            found = read_manifest(folder.best_path)["meta"]
        except CheckpointError:
            found = None  # the report of a run is of use also where its best parameters are not
    if isinstance(found, dict) and as_number(found.get("epoch")) is not None:
        return {
            "epoch": found["epoch"],
            "metric": found.get("metric", "value"),
            "value": number(found.get("value")),
        }
    return lowest_loss(records)


def _key_figures(
    result: dict[str, Any],
    events: list[dict[str, Any]],
    records: Sequence[EpochRecord],
    config: dict[str, Any],
    best: dict[str, Any] | None,
) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    final = records[-1].metrics if records else {}
    for name in ("loss", "val_loss"):
        if name in final:
            figures.append((f"final {name}", format_number(final[name])))
    if best is not None:
        figures.append(
            (
                f"best {best['metric']}",
                f"{format_number(best['value'])} in epoch {format_number(best['epoch'])}",
            )
        )
    done, asked = result.get("epochs_completed", len(records)), config.get("epochs")
    of = f" of {format_number(asked)}" if isinstance(asked, int) and asked != done else ""
    figures.append(("epochs", f"{format_number(done)}{of}"))
    figures.append(("steps", format_number(result.get("steps", records[-1].steps if records else 0))))
    figures.append(("skipped steps", format_number(result.get("skipped", _skipped(records)))))
    if "objective_evaluations" in result:
        figures.append(("objective evaluations", format_number(result["objective_evaluations"])))
    seconds = as_number(number(result.get("wall_seconds")))
    if seconds is not None:
        figures.append(("time training", format_seconds(seconds)))
    elif len(times := [time for event in events if (time := as_number(event.get("time"))) is not None]) > 1:
        figures.append(("from first to last record", format_seconds(times[-1] - times[0])))
    return figures


def _skipped(records: Sequence[EpochRecord]) -> int:
    return int(sum(value for r in records if 0 <= (value := r.metrics.get("skipped", 0.0)) < 1e18))


def _texts(value: Any) -> list[str]:
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _warnings(records: Sequence[EpochRecord], result: dict[str, Any]) -> list[str]:
    """What a glance at the curves may miss."""
    out = []
    skipped = as_number(result.get("skipped", _skipped(records))) or 0
    if skipped:
        out.append(f"{count(int(skipped), 'step')} changed nothing, because something in them was not finite.")
    for name in dict.fromkeys(name for record in records for name in record.metrics):
        lost = [r.epoch for r in records if name in r.metrics and not abs(r.metrics[name]) < float("inf")]
        if lost and len(out) < 8:
            out.append(f"{name} is not finite in {count(len(lost), 'epoch')}, first in epoch {lost[0]}.")
    return out


def _begun(events: list[dict[str, Any]]) -> str:
    time = as_number(events[0].get("time")) if events else None
    if time is None or not 0 <= time < 4e9:
        return ""
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")

"""The figures every run has: loss, the objective's terms, the gradient, the schedules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..training import EpochRecord
from ._panels import (
    epochs_along,
    legend,
    line,
    mark_best,
    mark_skipped,
    mark_warmups,
    scale,
    shade,
    shade_frozen,
    validation_line,
    warmup_ends,
)
from ._records import lowest_loss, metric, series, split_metrics
from ._schedules import is_flag, split_controls
from ._style import BLUE, VERMILLION, house_style, new_figure, small_multiples
from ._text import count, figure_text, format_number, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_PANELS = 16  # a page's worth; what is left out is named


def training_figures(records: Sequence[EpochRecord], *, best: Mapping[str, Any] | None = None) -> dict[str, Figure]:
    """The curves of a run, by title; only those there is something to show of.

    - ``"Loss"``: loss and validation loss. Frozen epochs are shaded, the best epoch is ringed, skipped
      steps and values that are not finite are marked at the edge. A faint dashed line is where a weight that grows,
      a control ``lambda_…``, first has 99 % of its full size, here and in "Terms". The axis is logarithmic where all
      values are positive and span more than a decade.
    - ``"Terms"``: the objective's other metrics with their validation counterparts.
    - ``"Gradient"``: ``gradient_norm`` with ``clipped_norm``, and the method's other diagnostics.
    - ``"Schedules"``: the controls that change. A yes-or-no control is a shade.

    Nothing is smoothed or filled in: a value that is not finite is a gap. What `Evaluate` measures only now and then is
    a dot for each time, joined by lines. The figures are Matplotlib's
    own and unknown to pyplot; ``figure.get_label()`` says in words what each shows.

    Args:
        records: one an epoch, such as `RunFolder.records` or ``FitResult.history`` gives.
        best: the best epoch, as ``FitResult.best`` has it; None takes the lowest ``val_loss``, or ``loss``.

    Raises:
        MissingExtraError: Matplotlib is not installed.

    Examples:
        >>> from hardgrad.report import training_figures
        >>> from hardgrad.training import EpochRecord
        >>> records = [EpochRecord(n, n + 1, {"depth": n // 3}, {"loss": 1.0 / (n + 1)}) for n in range(9)]
        >>> figures = training_figures(records)
        >>> list(figures)
        ['Loss', 'Schedules']
        >>> figures["Loss"].get_label()
        'loss over 9 epochs: first 1, last 0.1111. Best loss: 0.1111 in epoch 8.'
    """
    if not records:
        return {}
    best = lowest_loss(records) if best is None else best
    terms, diagnostics = split_metrics(records)
    changing, _ = split_controls(records)
    with house_style():
        figures = {
            "Loss": _loss(records, best),
            "Terms": _terms(records, terms, best),
            "Gradient": _gradient(records, diagnostics),
            "Schedules": _schedules(records, changing),
        }
    return {title: figure for title, figure in figures.items() if figure is not None}


def _loss(records: Sequence[EpochRecord], best: Mapping[str, Any] | None) -> Figure | None:
    loss, validation = metric(records, "loss"), metric(records, "val_loss")
    if not loss.present.any() and not validation.present.any():
        return None
    figure = new_figure(3.5)
    axis = figure.subplots()
    line(axis, loss, label="training", color=BLUE)
    if validation.present.any():
        validation_line(axis, validation)
    scale(axis, [loss, validation])
    shade_frozen(axis, records)
    skipped = mark_skipped(axis, records)
    ends = warmup_ends(records)
    mark_warmups(axis, ends)
    if best is not None:
        mark_best(axis, best, ("loss", "val_loss"))
    legend(axis, frozen=any(record.frozen for record in records), skipped=skipped)
    axis.set_ylabel("loss")
    epochs_along(axis, records)
    text = [_ends("loss", records), _ends("val_loss", records)]
    if best and best.get("epoch") is not None:
        text.append(f"Best {best.get('metric')}: {format_number(best.get('value'))} in epoch {best['epoch']}.")
    text.append(_warmed(ends))
    figure.set_label(" ".join(part for part in text if part))
    return figure


def _ends(name: str, records: Sequence[EpochRecord]) -> str:
    """The ends of a curve in words."""
    values = [record.metrics[name] for record in records if name in record.metrics]
    if not values:
        return ""
    first, last = format_number(values[0]), format_number(values[-1])
    return f"{name} over {count(len(values), 'epoch')}: first {first}, last {last}."


def _warmed(ends: Mapping[str, int]) -> str:
    """The ends of warm-ups in words."""
    if not ends:
        return ""
    listed = ", ".join(f"{shorten(name, 40)} in epoch {end}" for name, end in ends.items())
    return f"Dashed: full size of {listed}."


def _terms(records: Sequence[EpochRecord], names: list[str], best: Mapping[str, Any] | None) -> Figure | None:
    shown = names[:_MOST_PANELS]
    if not shown:
        return None
    figure, axes = small_multiples(len(shown))
    handles: dict[str, Any] = {}
    marked, ends = "", warmup_ends(records)
    for axis, name in zip(axes, shown, strict=True):
        training, validation = metric(records, name), metric(records, f"val_{name}")
        if name.startswith("val_"):  # measured between epochs, perhaps not after each
            line(axis, training.measured, label="validation", color=VERMILLION, dashed=True, dots=True)
        else:
            line(axis, training, label="training", color=BLUE)
        if validation.present.any():
            validation_line(axis, validation)
            handles |= {line.get_label(): line for line in axis.get_legend_handles_labels()[0]}
        if (mark := mark_warmups(axis, ends)) is not None:
            handles[mark.get_label()] = mark
        scale(axis, [training, validation])
        shade_frozen(axis, records)
        if best is not None and best.get("metric") in (name, f"val_{name}"):
            mark_best(axis, best, (name, f"val_{name}"))
            marked = f" Dotted: the best {best['metric']}, in epoch {best['epoch']}."
        axis.set_title(figure_text(name))
        epochs_along(axis, records, named=False)
    _name_below(axes)
    if handles:
        _legend_above(figure, list(handles.values()))
    figure.set_label(" ".join([_listing("The objective's terms over epochs", names) + marked, _warmed(ends)]).strip())
    return figure


def _gradient(records: Sequence[EpochRecord], names: list[str]) -> Figure | None:
    norms = [name for name in ("gradient_norm", "clipped_norm") if name in names]
    others = [name for name in names if name not in norms]
    panels = ([norms] if norms else []) + [[name] for name in others]
    if not panels:
        return None
    shown = panels[:_MOST_PANELS]
    figure, axes = small_multiples(len(shown))
    for axis, group in zip(axes, shown, strict=True):
        found = [metric(records, name) for name in group]
        line(axis, found[0], label="before clipping" if len(group) > 1 else group[0], color=BLUE)
        if len(group) > 1:
            line(axis, found[1], label="after clipping", color=VERMILLION, dashed=True)
            _legend_above(figure, axis.get_legend_handles_labels()[0])
        scale(axis, found)
        shade_frozen(axis, records)
        axis.set_title(figure_text(group[0]))
        epochs_along(axis, records, named=False)
    _name_below(axes)
    figure.set_label(_listing("What the method says about its updates, over epochs", names))
    return figure


def _schedules(records: Sequence[EpochRecord], names: list[str]) -> Figure | None:
    shown = names[:_MOST_PANELS]
    if not shown:
        return None
    figure, axes = small_multiples(len(shown), height=1.7)
    for axis, name in zip(axes, shown, strict=True):
        if is_flag(records, name):
            shade(axis, [record.controls.get(name) is True for record in records], records)
            axis.set_yticks([])
            axis.set_title(f"{figure_text(name)} (shaded: yes)")
        else:
            values = series(records, _control(name))
            line(axis, values, label=name, color=BLUE, steps=True)
            scale(axis, [values])
            axis.set_title(figure_text(name))
        epochs_along(axis, records, named=False)
    _name_below(axes)
    figure.set_label(_listing("Controls over epochs, each at its epoch's last step", names))
    return figure


def _legend_above(figure: Figure, handles: list[Any]) -> None:
    figure.legend(handles=handles, loc="outside upper right", ncols=2, borderaxespad=0.1)


def _control(name: str) -> Callable[[EpochRecord], Any]:
    return lambda record: record.controls.get(name)


def _name_below(axes: Sequence[Any]) -> None:
    """Name the horizontal axis once in each column."""
    for axis in axes[-2:]:
        axis.set_xlabel("epoch")


def _listing(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(shorten(name, 40) for name in names[:_MOST_PANELS])
    left = len(names) - _MOST_PANELS
    return f"{what}: {shown}" + (f"; {left} more are in the telemetry." if left > 0 else ".")

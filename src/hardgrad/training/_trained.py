"""The parameters of a run, put into its model."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import equinox as eqx
from jaxtyping import PyTree

from ..core import UsageError, running_state, split_parameters
from ._folder import RunFolder
from ._step import TrainState
from ._storage import load_part, load_tree, read_manifest

Which = Literal["best", "final"]
"""The parameters of the best epoch, or the last ones."""

_LEARNED = re.compile(r"\.?(params|running)\b")  # of the names of a `TrainState`


def trained_model(
    run: RunFolder | str | os.PathLike[str],
    model: PyTree,
    *,
    which: Which | None = None,
    trainable: PyTree | None = None,
) -> tuple[PyTree, dict[str, Any]]:
    """The model that a run has trained.

    Args:
        run: its folder.
        model: as it was given to `Trainer.fit`, with any parameters. All but the trained arrays is taken from it.
        which: ``"best"`` needs a `Best` callback to have watched; ``"final"`` takes the newest checkpoint. None
            takes the best if there is one.
        trainable: as it was given to `Trainer.fit`.

    Returns:
        The model, and where its parameters are from: ``params``, ``epoch`` (counted from 0) and for the best
        ``metric`` and ``value``.

    Raises:
        UsageError: no run, or one that has no such parameters.
        CheckpointError: they are damaged, or of another model.
    """
    folder = run if isinstance(run, RunFolder) else RunFolder.open(run)
    best, checkpoints = folder.best_path, folder.checkpoints()
    if which is None:
        which = "best" if best.exists() else "final"
    if which not in ("best", "final"):
        raise UsageError(f"which must be 'best' or 'final', got {which!r}.")
    if which == "best" and not best.exists():
        raise UsageError(
            f"{folder.path} kept no best parameters: a run does with Trainer(callbacks=[hg.Best('val_loss', 'min')]). "
            "Take the last ones: --params final (which='final')."
        )
    if which == "final" and not checkpoints:
        raise UsageError(f"{folder.path} has finished no epoch: there are no parameters to take.")
    params, rest = split_parameters(model, trainable)
    running = running_state(rest)
    if which == "best":
        like = params if running is None else eqx.combine(params, running)
        meta = read_manifest(best)["meta"]
        found = {"params": which, **{name: meta.get(name) for name in ("epoch", "metric", "value")}}
        return eqx.combine(load_tree(best, like), rest), found
    newest = checkpoints[-1]
    like = TrainState(params, None, None, None, None, running)  # type: ignore[arg-type] # the method's part is left
    state: TrainState = load_part(newest, like, lambda name: _LEARNED.match(name) is not None)
    return eqx.combine(state.learned, rest), {"params": which, "epoch": int(newest.name) - 1}

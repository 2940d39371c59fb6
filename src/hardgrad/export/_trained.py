"""The parameters of a run, put into its model."""

from __future__ import annotations

from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import PyTree

from ..core import UsageError, running_state, split_parameters
from ..training import RunFolder, Trainer
from ..training._step import TrainState, initial_state
from ..training._storage import load_tree, read_manifest

Which = Literal["best", "final"]
"""The parameters of the best epoch, or the last ones."""


def trained_model(
    folder: RunFolder, trainer: Trainer, model: PyTree, *, which: Which | None = None
) -> tuple[PyTree, dict[str, Any]]:
    """The model a run has trained.

    Args:
        folder: the run.
        trainer: what trained it.
        model: with its first parameters; all inexact arrays were trained.
        which: ``"best"`` needs a `Best` callback to have watched; ``"final"`` takes the newest checkpoint. None
            takes the best if there is one.

    Returns:
        The model, and where its parameters are from: ``params``, ``epoch`` (counted from 0) and for the best
        ``metric`` and ``value``.

    Raises:
        UsageError: the run has no such parameters.
        CheckpointError: they are damaged, or of another model.
    """
    best, checkpoints = folder.best_path, folder.checkpoints()
    if which is None:
        which = "best" if best.exists() else "final"
    if which == "best" and not best.exists():
        raise UsageError(f"{folder.path} kept no best parameters. Take the last ones: --params final (which='final').")
    if which == "final" and not checkpoints:
        raise UsageError(f"{folder.path} has finished no epoch: there are no parameters to take.")
    params, rest = split_parameters(model)
    running = running_state(rest)
    if which == "best":
        like = params if running is None else eqx.combine(params, running)
        meta = read_manifest(best)["meta"]
        found = {"params": which, **{name: meta.get(name) for name in ("epoch", "metric", "value")}}
        return eqx.combine(load_tree(best, like), rest), found
    newest = checkpoints[-1]
    state: TrainState = eqx.filter_jit(initial_state)(
        trainer.method, params, jnp.uint32(0), running, scaled=trainer.precision == "float16"
    )
    learned = load_tree(newest, state).learned
    return eqx.combine(learned, rest), {"params": which, "epoch": int(newest.name) - 1}

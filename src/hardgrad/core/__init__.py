"""The vocabulary every other package speaks. Imports nothing else of hardgrad.

Each name is imported when it is first used, so that a process that only needs errors or JSON does not load Equinox.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

# File -> its names. A test keeps the block below equal to this table.
_NAMES: dict[str, tuple[str, ...]] = {
    "_black_box": ("BlackBox", "black_box_failure"),
    "_controls": ("Control", "Controls", "control", "resolve"),
    "_errors": (
        "BundleError",
        "CheckpointError",
        "DamagedCheckpointError",
        "HardgradError",
        "MissingExtraError",
        "NoDerivativeError",
        "RunError",
        "UsageError",
        "did_you_mean",
    ),
    "_estimator": ("AbstractEstimator", "Estimate"),
    "_extras": ("require",),
    "_json": ("dumps", "number"),
    "_numbers": ("finite_number", "one_of", "whole_number"),
    "_objective": ("Loss", "LossFunction", "Metrics", "Objective", "take_running"),
    "_order": ("BACKWARD_COSTS", "Contract", "Order"),
    "_progress": ("Progress",),
    "_trees": (
        "Params",
        "Running",
        "all_finite",
        "cast_floats",
        "count_parameters",
        "float_dtype",
        "global_norm",
        "leaf_names",
        "named_key",
        "named_leaves",
        "running_state",
        "split_parameters",
        "tree_select",
    ),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

if TYPE_CHECKING:
    from ._black_box import BlackBox as BlackBox
    from ._black_box import black_box_failure as black_box_failure
    from ._controls import Control as Control
    from ._controls import Controls as Controls
    from ._controls import control as control
    from ._controls import resolve as resolve
    from ._errors import BundleError as BundleError
    from ._errors import CheckpointError as CheckpointError
    from ._errors import DamagedCheckpointError as DamagedCheckpointError
    from ._errors import HardgradError as HardgradError
    from ._errors import MissingExtraError as MissingExtraError
    from ._errors import NoDerivativeError as NoDerivativeError
    from ._errors import RunError as RunError
    from ._errors import UsageError as UsageError
    from ._errors import did_you_mean as did_you_mean
    from ._estimator import AbstractEstimator as AbstractEstimator
    from ._estimator import Estimate as Estimate
    from ._extras import require as require
    from ._json import dumps as dumps
    from ._json import number as number
    from ._numbers import finite_number as finite_number
    from ._numbers import one_of as one_of
    from ._numbers import whole_number as whole_number
    from ._objective import Loss as Loss
    from ._objective import LossFunction as LossFunction
    from ._objective import Metrics as Metrics
    from ._objective import Objective as Objective
    from ._objective import take_running as take_running
    from ._order import BACKWARD_COSTS as BACKWARD_COSTS
    from ._order import Contract as Contract
    from ._order import Order as Order
    from ._progress import Progress as Progress
    from ._trees import Params as Params
    from ._trees import Running as Running
    from ._trees import all_finite as all_finite
    from ._trees import cast_floats as cast_floats
    from ._trees import count_parameters as count_parameters
    from ._trees import float_dtype as float_dtype
    from ._trees import global_norm as global_norm
    from ._trees import leaf_names as leaf_names
    from ._trees import named_key as named_key
    from ._trees import named_leaves as named_leaves
    from ._trees import running_state as running_state
    from ._trees import split_parameters as split_parameters
    from ._trees import tree_select as tree_select
else:  # hidden from type checkers, which would otherwise accept any name

    def __getattr__(name: str) -> Any:
        if name not in _HOME:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'", name=name, obj=sys.modules[__name__])
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(_HOME)

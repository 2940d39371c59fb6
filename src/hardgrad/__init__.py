"""hardgrad: train models whose gradient is hard to get or hard to trust.

``import hardgrad as hg`` gives the names a user types. Each is imported from its package when it is
first used, so that ``hardgrad --help`` does not wait for JAX.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Package -> the names of it that stand here too. A test keeps the block below equal to this table.
_NAMES: dict[str, tuple[str, ...]] = {
    "core": (
        "BlackBox",
        "Contract",
        "Estimate",
        "HardgradError",
        "NoDerivativeError",
        "Order",
        "Progress",
        "RunError",
        "UsageError",
        "control",
    ),
    "estimators": (
        "SPSA",
        "AntitheticNES",
        "Autodiff",
        "Blocks",
        "CentralDifference",
        "Every",
        "ForwardDifference",
        "GuidedES",
        "Hybrid",
        "WithObjective",
    ),
    "schedules": (
        "Constant",
        "Cosine",
        "DecayByDepthAndEpoch",
        "FreezeAfterChange",
        "FromOptax",
        "Horizon",
        "LinearDepth",
        "LinearRamp",
        "Plan",
        "Static",
        "ThresholdByDepth",
        "UniformDraw",
        "Warmup",
    ),
    "training": (
        "CMAES",
        "SNES",
        "EvolutionMethod",
        "GradientMethod",
        "InMemory",
        "OpenES",
        "SepCMAES",
        "Stream",
        "Trainer",
        "by_block",
        "clip_by_global_norm",
        "controlled",
    ),
    "training.callbacks": (
        "Best",
        "Callback",
        "Checkpoints",
        "EarlyStopping",
        "Evaluate",
        "History",
        "ProgressBar",
        "StopBelow",
        "Telemetry",
        "TensorBoard",
    ),
}
_HOME = {name: package for package, names in _NAMES.items() for name in names}
_PACKAGES = (
    "audit",
    "core",
    "estimators",
    "export",
    "hypercausal",
    "oscillators",
    "rational",
    "report",
    "schedules",
    "search",
    "spiking",
    "training",
    "zoo",
)

if TYPE_CHECKING:
    from . import audit as audit
    from . import core as core
    from . import estimators as estimators
    from . import export as export
    from . import hypercausal as hypercausal
    from . import oscillators as oscillators
    from . import rational as rational
    from . import report as report
    from . import schedules as schedules
    from . import search as search
    from . import spiking as spiking
    from . import training as training
    from . import zoo as zoo
    from .core import BlackBox as BlackBox
    from .core import Contract as Contract
    from .core import Estimate as Estimate
    from .core import HardgradError as HardgradError
    from .core import NoDerivativeError as NoDerivativeError
    from .core import Order as Order
    from .core import Progress as Progress
    from .core import RunError as RunError
    from .core import UsageError as UsageError
    from .core import control as control
    from .estimators import SPSA as SPSA
    from .estimators import AntitheticNES as AntitheticNES
    from .estimators import Autodiff as Autodiff
    from .estimators import Blocks as Blocks
    from .estimators import CentralDifference as CentralDifference
    from .estimators import Every as Every
    from .estimators import ForwardDifference as ForwardDifference
    from .estimators import GuidedES as GuidedES
    from .estimators import Hybrid as Hybrid
    from .estimators import WithObjective as WithObjective
    from .schedules import Constant as Constant
    from .schedules import Cosine as Cosine
    from .schedules import DecayByDepthAndEpoch as DecayByDepthAndEpoch
    from .schedules import FreezeAfterChange as FreezeAfterChange
    from .schedules import FromOptax as FromOptax
    from .schedules import Horizon as Horizon
    from .schedules import LinearDepth as LinearDepth
    from .schedules import LinearRamp as LinearRamp
    from .schedules import Plan as Plan
    from .schedules import Static as Static
    from .schedules import ThresholdByDepth as ThresholdByDepth
    from .schedules import UniformDraw as UniformDraw
    from .schedules import Warmup as Warmup
    from .training import CMAES as CMAES
    from .training import SNES as SNES
    from .training import EvolutionMethod as EvolutionMethod
    from .training import GradientMethod as GradientMethod
    from .training import InMemory as InMemory
    from .training import OpenES as OpenES
    from .training import SepCMAES as SepCMAES
    from .training import Stream as Stream
    from .training import Trainer as Trainer
    from .training import by_block as by_block
    from .training import clip_by_global_norm as clip_by_global_norm
    from .training import controlled as controlled
    from .training.callbacks import Best as Best
    from .training.callbacks import Callback as Callback
    from .training.callbacks import Checkpoints as Checkpoints
    from .training.callbacks import EarlyStopping as EarlyStopping
    from .training.callbacks import Evaluate as Evaluate
    from .training.callbacks import History as History
    from .training.callbacks import ProgressBar as ProgressBar
    from .training.callbacks import StopBelow as StopBelow
    from .training.callbacks import Telemetry as Telemetry
    from .training.callbacks import TensorBoard as TensorBoard
else:  # hidden from type checkers, which would otherwise accept any name

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name in _HOME:
            value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
            globals()[name] = value
            return value
        # With `name` and `obj` given, Python adds "Did you mean ...?".
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'", name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    return sorted([*_HOME, *_PACKAGES, "__version__"])

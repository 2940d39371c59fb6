"""The trainer and what it is made of: methods, data feeds, records, checkpoints, run folders."""

from . import callbacks as callbacks
from ._data import InMemory as InMemory
from ._data import Stream as Stream
from ._ensemble import EnsembleObjective as EnsembleObjective
from ._ensemble import make_ensemble as make_ensemble
from ._ensemble import member as member
from ._ensemble import over_members as over_members
from ._folder import RunFolder as RunFolder
from ._method import AbstractMethod as AbstractMethod
from ._method import GradientMethod as GradientMethod
from ._method import Outcome as Outcome
from ._record import EpochRecord as EpochRecord
from ._run import FitResult as FitResult
from ._run import Run as Run
from ._run import Status as Status
from ._storage import load_tree as load_tree
from ._storage import save_tree as save_tree
from ._trainer import Trainer as Trainer
from ._transforms import clip_by_global_norm as clip_by_global_norm
from ._transforms import controlled as controlled

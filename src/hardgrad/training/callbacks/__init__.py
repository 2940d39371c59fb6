"""Callbacks: few, ordered, with state. They run on the host, between dispatches."""

from ._base import Callback as Callback
from ._checkpoints import Checkpoints as Checkpoints
from ._evaluate import Evaluate as Evaluate
from ._history import History as History
from ._monitor import Best as Best
from ._monitor import EarlyStopping as EarlyStopping
from ._monitor import Mode as Mode
from ._progress_bar import ProgressBar as ProgressBar
from ._stop_below import StopBelow as StopBelow
from ._telemetry import Telemetry as Telemetry
from ._tensorboard import TensorBoard as TensorBoard

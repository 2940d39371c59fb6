"""Hypercausal prediction: recursive cells that project K possible futures and learn to keep them coherent.

Build a `Chain` or a `Graph` of `Node`s, train it with `HypercausalObjective`. The recursion depth is a
control and may change while a program runs. `HostChain` and `HostObjective` are the same in NumPy, as a
black box, to the last bit of the published system.
"""

from ._anticipator import ContrafactualAnticipator as ContrafactualAnticipator
from ._anticipator import Perturbation as Perturbation
from ._anticipator import ShiftChannel as ShiftChannel
from ._cells import AbstractCell as AbstractCell
from ._cells import TanhCell as TanhCell
from ._chain import Chain as Chain
from ._graph import Graph as Graph
from ._host import HostChain as HostChain
from ._host import HostObjective as HostObjective
from ._losses import coherence as coherence
from ._losses import consistency as consistency
from ._losses import cross_entropy as cross_entropy
from ._losses import mae as mae
from ._losses import mse as mse
from ._metrics import delta_lag as delta_lag
from ._metrics import early_auc as early_auc
from ._metrics import mape as mape
from ._metrics import mase as mase
from ._metrics import overshoot as overshoot
from ._metrics import recall_at_lag as recall_at_lag
from ._metrics import rmse as rmse
from ._metrics import robustness as robustness
from ._metrics import settling_time as settling_time
from ._metrics import smape as smape
from ._nodes import Node as Node
from ._nodes import Prediction as Prediction
from ._objective import HypercausalObjective as HypercausalObjective
from ._policies import AbstractPolicy as AbstractPolicy
from ._policies import MeanPolicy as MeanPolicy
from ._policies import MedianPolicy as MedianPolicy
from ._policies import MinRiskPolicy as MinRiskPolicy
from ._policies import l2_risk as l2_risk
from ._projectors import AbstractProjector as AbstractProjector
from ._projectors import LinearProjector as LinearProjector
from ._recursion import recurse as recurse

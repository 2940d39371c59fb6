"""Estimators: ways to turn an objective into a gradient, ordered by the information they use."""

from ._autodiff import Autodiff as Autodiff
from ._blocks import Blocks as Blocks
from ._every import Every as Every
from ._finite_difference import CentralDifference as CentralDifference
from ._finite_difference import ForwardDifference as ForwardDifference
from ._guided import GuidedES as GuidedES
from ._hybrid import Hybrid as Hybrid
from ._random_directions import SPSA as SPSA
from ._random_directions import AntitheticNES as AntitheticNES
from ._with_objective import WithObjective as WithObjective

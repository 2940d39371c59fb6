"""Surrogate spikes: a step forwards, a chosen derivative in both directions of differentiation."""

from ._base import Floats as Floats
from ._base import Surrogate as Surrogate
from ._functions import ArcTan as ArcTan
from ._functions import Boxcar as Boxcar
from ._functions import CustomSurrogate as CustomSurrogate
from ._functions import HardThreshold as HardThreshold
from ._functions import SechSquared as SechSquared
from ._functions import StraightThrough as StraightThrough
from ._functions import SuperSpike as SuperSpike
from ._functions import Triangular as Triangular

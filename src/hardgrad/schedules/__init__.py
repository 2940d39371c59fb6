"""Schedules: functions of progress to a value, and the plan that evaluates them in order."""

from ._curves import Cosine as Cosine
from ._curves import FromOptax as FromOptax
from ._curves import LinearRamp as LinearRamp
from ._curves import Warmup as Warmup
from ._depth import DecayByDepthAndEpoch as DecayByDepthAndEpoch
from ._depth import FreezeAfterChange as FreezeAfterChange
from ._depth import LinearDepth as LinearDepth
from ._depth import ThresholdByDepth as ThresholdByDepth
from ._horizon import Horizon as Horizon
from ._plan import Constant as Constant
from ._plan import Plan as Plan
from ._plan import Schedule as Schedule
from ._plan import Static as Static
from ._random import UniformDraw as UniformDraw

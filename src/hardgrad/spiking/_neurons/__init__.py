"""Neurons as pure cells: one time step at a time, any shape of units, learned decays and thresholds."""

from ._adaptive import AdaptiveLIF as AdaptiveLIF
from ._adaptive import AdaptiveState as AdaptiveState
from ._base import Cell as Cell
from ._base import SpikingCell as SpikingCell
from ._base import VoltageState as VoltageState
from ._current import CurrentLIF as CurrentLIF
from ._current import CurrentState as CurrentState
from ._integrate import IF as IF
from ._integrate import LIF as LIF
from ._integrate import LeakyIntegrator as LeakyIntegrator
from ._integrate import RecurrentLIF as RecurrentLIF

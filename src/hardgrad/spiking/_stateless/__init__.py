"""Layers of one sample at one time that Equinox does not have."""

from ._layers import Flatten as Flatten
from ._layers import Scale as Scale
from ._layers import SpikeThreshold as SpikeThreshold
from ._layers import SumPool2d as SumPool2d

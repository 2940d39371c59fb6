"""Weights of a few bits: trained through their rounding, deployed as integers."""

from ._activations import binary_activation_error as binary_activation_error
from ._grid import WeightGrid as WeightGrid
from ._layers import IntegerLayer as IntegerLayer
from ._layers import IntegerRecurrentLIF as IntegerRecurrentLIF
from ._layers import QuantisedLayer as QuantisedLayer
from ._layers import QuantisedRecurrentLIF as QuantisedRecurrentLIF
from ._quantise import IntegerWeight as IntegerWeight
from ._quantise import freeze as freeze
from ._quantise import integer_weights as integer_weights
from ._quantise import quantise as quantise

"""Phasor layers: networks of unit complex numbers, whose phases can be sent as the times of spikes."""

from ._codes import phase_of as phase_of
from ._codes import phase_to_phasor as phase_to_phasor
from ._codes import phase_to_spikes as phase_to_spikes
from ._codes import phasor_to_real as phasor_to_real
from ._codes import real_to_phasor as real_to_phasor
from ._codes import spikes_to_phase as spikes_to_phase
from ._codes import spikes_to_phasor as spikes_to_phasor
from ._layers import PhasorActivation as PhasorActivation
from ._layers import PhasorLinear as PhasorLinear
from ._layers import PhasorMLP as PhasorMLP
from ._layers import PhasorReadout as PhasorReadout
from ._layers import SpikingPhasor as SpikingPhasor

"""Losses of traces and labels, penalties on spike counts, and the objective that joins them."""

from ._classification import CrossEntropy as CrossEntropy
from ._classification import StepCrossEntropy as StepCrossEntropy
from ._classification import accuracy as accuracy
from ._first_spike import FirstSpikeLoss as FirstSpikeLoss
from ._first_spike import first_spike_times as first_spike_times
from ._objective import SpikingObjective as SpikingObjective
from ._penalties import SilencePenalty as SilencePenalty
from ._penalties import SparsityPenalty as SparsityPenalty
from ._readouts import readout as readout
from ._squared import MembraneError as MembraneError
from ._squared import SpikeCountError as SpikeCountError

"""From a trained ReLU network to a spiking one."""

from ._calibrate import calibrate_biases as calibrate_biases
from ._cells import ConvertedIF as ConvertedIF
from ._cells import ConvertedReadout as ConvertedReadout
from ._convert import convert as convert
from ._latency import accuracy_over_time as accuracy_over_time
from ._latency import latency as latency
from ._latency import logits_over_time as logits_over_time

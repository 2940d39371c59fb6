"""Encoders: from a sound to the drives of an oscillator."""

from ._lowpass import LowpassStream as LowpassStream
from ._lowpass import causal_average as causal_average
from ._lowpass import gaussian_lowpass as gaussian_lowpass
from ._mamba import MambaBlock as MambaBlock
from ._mamba import MambaStack as MambaStack
from ._mamba_encoder import MambaEncoder as MambaEncoder
from ._prior import with_oscillator_prior as with_oscillator_prior
from ._prior import with_zero_force as with_zero_force
from ._prior import zero_heads as zero_heads
from ._protocol import Encoder as Encoder
from ._selective_scan import selective_scan as selective_scan
from ._streaming import encode_stream as encode_stream
from ._streaming import stream_drives as stream_drives

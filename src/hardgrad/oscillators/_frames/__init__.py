"""The lean encoder: drives at a frame rate, from spectra and a pitch estimate."""

from ._encoder import FrameEncoder as FrameEncoder
from ._pitch import pitch_track as pitch_track

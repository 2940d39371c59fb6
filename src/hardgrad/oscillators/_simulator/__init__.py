"""Simulated birds: songs with known controls, so that everything runs without a download."""

from ._songs import SimulatedSong as SimulatedSong
from ._songs import simulate_songs as simulate_songs
from ._songs import true_coefficients as true_coefficients
from ._songs import write_songs as write_songs

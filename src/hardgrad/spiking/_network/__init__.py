"""Layers in a row, and running them over time."""

from ._network import Network as Network
from ._run import Run as Run
from ._run import run as run

"""NIR, the Neuromorphic Intermediate Representation: networks out, networks in, and both tried on random input."""

from ._export import to_nir as to_nir
from ._file import read_nir as read_nir
from ._file import write_nir as write_nir
from ._import import from_nir as from_nir
from ._parity import NIRParity as NIRParity
from ._parity import nir_parity as nir_parity
from ._simulate import NIRSimulation as NIRSimulation
from ._simulate import simulate_nir as simulate_nir

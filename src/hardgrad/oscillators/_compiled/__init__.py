"""C kernels behind JAX's foreign-function interface: compiled, registered, and merged when vmapped."""

from ._calls import OFF, Calls, calls_of, place_problem
from ._merging import merging

__all__ = ["OFF", "Calls", "calls_of", "merging", "place_problem"]

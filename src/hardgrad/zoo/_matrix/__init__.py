"""The matrix: every method on every application's small problem, at equal budgets."""

from ._figure import heat_map as heat_map
from ._run import run_matrix as run_matrix
from ._setup import SMOKE as SMOKE
from ._setup import MatrixFolder as MatrixFolder
from ._setup import Setup as Setup
from ._table import lines as lines

"""Right-hand sides x'' = Σ_j c_j x^p_j v^k_j, and how drives give the coefficients c_j."""

from ._field import AbstractField as AbstractField
from ._limit_cycle import LimitCycleField as LimitCycleField
from ._polynomial import PolynomialField as PolynomialField
from ._sum import Exponents as Exponents
from ._sum import check_exponents as check_exponents
from ._sum import evaluate as evaluate
from ._syrinx import SyrinxField as SyrinxField

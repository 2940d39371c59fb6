"""Diagonal state-space layers: linear recurrences that run step by step or over all time at once."""

from ._block import S5Block as S5Block
from ._diagonal_scan import diagonal_scan as diagonal_scan
from ._layer import DiscreteStateSpace as DiscreteStateSpace
from ._layer import StateSpaceLayer as StateSpaceLayer
from ._lru import LRU as LRU
from ._s5 import S5 as S5

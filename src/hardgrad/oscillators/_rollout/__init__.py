"""Fields integrated from an initial state: classical Runge-Kutta, differentiable, over thousands of samples."""

from ._rollout import rollout as rollout
from ._rollout import rollout_form as rollout_form
from ._saturation import Saturation as Saturation

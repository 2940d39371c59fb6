"""Local learning rules: e-prop, feedback alignment, synthetic gradients.

Each is an objective or a layer whose gradient is the rule's, so that it trains like anything else:
``Trainer(GradientMethod(Autodiff(), optax.adam(1e-3)))``.
"""

from ._direct import DirectFeedback as DirectFeedback
from ._eprop import EProp as EProp
from ._feedback_alignment import FeedbackLinear as FeedbackLinear
from ._synthetic import DecoupledModel as DecoupledModel
from ._synthetic import SyntheticGradients as SyntheticGradients

"""What a rollout is judged by while it trains: spectra, envelopes, the anchor, and the loss before them.

Each is a pure function of arrays ``[batch, time]``. A weight that warms up is a schedule of the plan:
``LinearRamp(0, weight, over)`` is 0 in epoch 0 and the whole weight from epoch `over` on.
"""

from ._anchor import anchor_loss as anchor_loss
from ._anchor import anchor_variance as anchor_variance
from ._envelope import envelope as envelope
from ._envelope import envelope_log_loss as envelope_log_loss
from ._envelope import envelope_loss as envelope_loss
from ._legacy import one_step_loss as one_step_loss
from ._legacy import penalty_values as penalty_values
from ._legacy import weight_penalty as weight_penalty
from ._stft import SpectralLoss as SpectralLoss
from ._stft import stft_magnitude as stft_magnitude

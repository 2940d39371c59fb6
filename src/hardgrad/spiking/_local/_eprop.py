"""e-prop: the gradient of a spiking network, gathered forwards in time from what each synapse and unit can see.

Bellec, Scherr, Subramoney, Hajek, Salaj, Legenstein, Maass 2020, "A solution to the learning dilemma for recurrent
networks of spiking neurons", Nature Communications 11:3625. The gradient of the loss E factorises exactly as (eq. 1)

    dE/dW_ji = Σ_t dE/dz_j^t · e_ji^t

with the eligibility trace e of `_eligibility`. e-prop takes for dE/dz_j^t only the way straight to the readout,
y_k^t = κ_k y_k^{t-1} + Σ_j W_kj z_j^t, and leaves out the ways over other units' later spikes:

    L_j^t = Σ_k B_jk Σ_{t'≥t} κ_k^{t'-t} ∂E/∂y_k^{t'},        B = Wᵀ (symmetric), or random, or adaptive.

So e-prop is ordinary differentiation of the same network with the recurrent spikes detached and B in the place of the
readout's Wᵀ; that is its definition here, and what the tests hold it to. With spikes of several layers, those sent from
layer to layer are detached as well, and each layer has a B of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from ...core import Controls, Metrics, UsageError, whole_number
from ._eprop_passes import Setting, online, reverse
from ._readouts import accuracy, check_readout, cross_entropy
from ._synapses import take_apart


class EProp(eqx.Module):
    """An objective whose gradient is e-prop's.

    For `Network([Linear, cell, Linear, LeakyIntegrator])` with any spiking cell, recurrent or not; the last may be
    missing. Learning signals come through the transpose of the readout's weights; through random or adaptive feedback
    where the readout's linear layer is a `FeedbackLinear`. Several layers of cells: a `DirectFeedback` with blocks
    ``[Linear, cell]``. Batches are ``(inputs, targets)``, inputs float ``[batch, time, features]`` or bits along time.

    All parameters are learned: weights, recurrent weights, biases, decays, thresholds, and the readout's.
    `detach_reset` of a cell decides whether its traces go through the reset; the paper's do not.

    **What is computed online.** One pass over time. A synapse carries its eligibility vector and one number more:

    * a loss at every step ("steps", "sequence") is known when the step is, so the trace is filtered by κ and
      multiplied by L at once;
    * a loss of a sum over time ("sum", "mean", "last") is known at the end, so the traces are summed with the weights
      c^t = Σ_{t'≥t} a_{t'} κ^{t'-t} that the sum's own a_t give them, and multiplied by L at the end.

    Both are exact, and memory is that of the traces, ``batch · units · inputs``, however long the sequence. One κ for
    all classes makes one trace suffice, so by default the traces are filtered by the mean of the readout's decays, and
    each decay is given the mean of the decays' gradients: exact where the decays are equal, and equal they stay. The
    metric "readout_decay_spread" is 0 as long as they are. For decays that differ use ``readout_decays="each"``, at the
    price of a trace for each class.

    Metrics: "accuracy" for integer labels, "spike_rate" (spikes a unit and step), "readout_decay_spread".

    Attributes:
        loss: ``loss(outputs [batch, classes], targets) -> scalar``, a mean over the batch.
        readout: what the loss reads: the outputs' "sum", "mean" or "last", or every step, averaged over time: "steps"
            with one target, "sequence" with targets ``[batch, time, ...]``.
        readout_decays: "shared" or "each", see above; makes no difference to `mode` "reverse".
        mode: "online", or "reverse": the same gradient by reverse mode through the detached network. Memory grows with
            time, but no trace is updated: about ten times as fast on a CPU while the sequence fits in memory.
        steps: time steps of inputs that are bits.

    Raises:
        UsageError: an unknown setting; when called, a model of another architecture or inputs that do not fit.

    Examples:
        >>> from hardgrad.spiking import LeakyIntegrator, Network, RecurrentLIF
        >>> a, b, c = jax.random.split(jax.random.key(0), 3)
        >>> model = Network([eqx.nn.Linear(3, 8, key=a), RecurrentLIF(8, decay=0.9, key=b),
        ...                  eqx.nn.Linear(8, 2, key=c), LeakyIntegrator(2, decay=0.9)])
        >>> batch = (jnp.ones((4, 10, 3)), jnp.array([0, 1, 1, 0]))
        >>> loss, metrics = EProp()(model, batch, {}, jax.random.key(0))
        >>> sorted(metrics)
        ['accuracy', 'readout_decay_spread', 'spike_rate']
    """

    loss: Callable[[Any, Any], Any] = eqx.field(static=True, default=cross_entropy)
    readout: str = eqx.field(static=True, default="sum", kw_only=True)
    readout_decays: str = eqx.field(static=True, default="shared", kw_only=True)
    mode: str = eqx.field(static=True, default="online", kw_only=True)
    steps: int | None = eqx.field(static=True, default=None, kw_only=True)

    def __check_init__(self) -> None:
        check_readout(self.readout)
        if self.readout_decays not in ("shared", "each"):
            raise UsageError(f"readout_decays is 'shared' or 'each', got {self.readout_decays!r}.")
        if self.mode not in ("online", "reverse"):
            raise UsageError(f"mode is 'online' or 'reverse', got {self.mode!r}.")
        if self.steps is not None:
            whole_number("steps", self.steps, least=1)

    def __call__(self, model: Any, batch: Any, controls: Controls, key: Key[Array, ""]) -> tuple[Array, Metrics]:
        """The loss, whose gradient is e-prop's, and metrics."""
        parts = take_apart(model)
        inputs, targets = batch
        inputs, targets = jnp.asarray(inputs), jnp.asarray(targets)
        time = self._time(parts.weights[0].weight, inputs, targets)
        setting = Setting(self.loss, self.readout, self.readout_decays == "each", time, self.steps is not None)
        differentiate = online if self.mode == "online" else reverse
        loss, (read, spike_rate) = differentiate(
            parts.weights, (parts.layers, parts.feedback, inputs, targets, setting)
        )
        metrics = {} if self.readout == "sequence" else accuracy(read, targets)
        metrics["spike_rate"] = spike_rate
        decays = jax.tree.leaves(parts.weights[-1].constants)
        metrics["readout_decay_spread"] = jnp.ptp(decays[0]) if decays else jnp.zeros((), loss.dtype)
        return loss, jax.lax.stop_gradient(metrics)

    def _time(self, weight: Array, inputs: Array, targets: Array) -> int:
        """Time steps of the batch.

        Raises:
            UsageError: shapes or dtypes that do not fit.
        """
        features = weight.shape[1]
        if inputs.ndim != 3 or inputs.shape[2] != features or 0 in inputs.shape:
            raise UsageError(f"inputs must be [batch, time, {features}], got shape {inputs.shape}.")
        if self.steps is None:
            if not jnp.issubdtype(inputs.dtype, jnp.floating):
                raise UsageError(
                    f"inputs must be floating-point, got {inputs.dtype}. Spikes packed as bits: EProp(steps=...)."
                )
            time = inputs.shape[1]
        else:
            time = self.steps
            if inputs.dtype != jnp.uint8 or inputs.shape[1] != -(-time // 8):
                raise UsageError(
                    f"{time} steps of bits are uint8 [batch, {-(-time // 8)}, {features}], got {inputs.dtype} of shape "
                    f"{inputs.shape}."
                )
        expected = (inputs.shape[0], time) if self.readout == "sequence" else inputs.shape[:1]
        if targets.shape[: len(expected)] != expected:
            raise UsageError(f"targets must start with axes {expected}, got shape {targets.shape}.")
        return time

"""Direct feedback alignment as a network: hidden blocks that hear of the output's error and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt

from ...core import UsageError
from .._network import Network
from ._feedback_alignment import check_scale, feed_back, from_bits, random_feedback


class DirectFeedback(eqx.Module):
    """Hidden blocks and a readout; each block learns from the readout's error through its own fixed random matrix.

    Forwards it is the blocks in a row. Backwards no gradient passes from block to block: where e_t is the gradient of
    the loss with respect to the readout's linear output at step t, block l receives B_lᵀ e_t at its output (Nøkland
    2016, section 3). Inside a block and inside the readout, gradients are the usual ones, through time too; with
    `EProp` they are local in time as well.

    It is a sequence layer: alone it is called with ``[batch, time, features]``, and ``Network([DirectFeedback(...)])``
    trains with any objective of networks.

    Attributes:
        hidden: the blocks.
        synapse: the readout's linear layer.
        readout: what follows it, or None.
        fixed: for each block the bits of B_l, uint32 ``[out, units]``.

    Raises:
        UsageError: no hidden block, a block whose size cannot be told, or a readout that does not start with a linear
            layer.

    Examples:
        >>> from hardgrad.spiking import LIF, LeakyIntegrator
        >>> a, b, c, d = jax.random.split(jax.random.key(0), 4)
        >>> linear = eqx.nn.Linear
        >>> model = DirectFeedback(
        ...     [[linear(3, 8, key=a), LIF(8, decay=0.9)], [linear(8, 6, key=b), LIF(6, decay=0.9)]],
        ...     [linear(6, 2, key=c), LeakyIntegrator(2)],
        ...     key=d,
        ... )
        >>> model(jnp.ones((5, 10, 3))).shape
        (5, 10, 2)
    """

    hidden: tuple[Network, ...]
    synapse: Network
    readout: Network | None
    fixed: tuple[UInt[Array, "out _"], ...]

    def __init__(
        self, hidden: Sequence[Sequence[Any]], readout: Sequence[Any], *, scale: float = 1.0, key: Key[Array, ""]
    ) -> None:
        """Build the blocks and draw their feedback.

        Args:
            hidden: the layers of each block, such as ``[[Linear, LIF], [Linear, LIF]]``.
            readout: layers of the readout, an `equinox.nn.Linear` first.
            scale: B_l is drawn from N(0, scale²/units).
            key: of the feedback.
        """
        if not hidden:
            raise UsageError("DirectFeedback needs at least one hidden block: [[Linear(...), LIF(...)]].")
        if not readout or not isinstance(readout[0], eqx.nn.Linear):
            raise UsageError(
                "the readout of DirectFeedback must start with an equinox.nn.Linear, where errors are read."
            )
        self.hidden = tuple(Network(block) for block in hidden)
        self.synapse = Network(readout[:1])
        self.readout = Network(readout[1:]) if len(readout) > 1 else None
        outputs = _linear_size(readout[0])
        keys = jax.random.split(key, len(hidden))
        scale = check_scale(scale)
        self.fixed = tuple(
            random_feedback(key, outputs, _block_size(place, block), scale)
            for place, (key, block) in enumerate(zip(keys, self.hidden, strict=True))
        )

    @property
    def feedback(self) -> tuple[Float[Array, "out _"], ...]:
        """The matrices B_l, float32 ``[out, units]``."""
        return tuple(from_bits(bits, jnp.float32) for bits in self.fixed)

    def init_state(self, batch: int, dtype: Any = None) -> Any:
        """The state before the first step: of each block, and of the readout.

        Args:
            batch: samples.
            dtype: of cells' states; None: that of each cell's parameters.
        """
        blocks = tuple(block.init_state(batch, dtype) for block in self.hidden)
        return blocks, None if self.readout is None else self.readout.init_state(batch, dtype)

    def step(self, state: Any, x: Float[Array, "batch features"]) -> tuple[Any, Float[Array, "batch out"]]:
        """One time step of the whole batch.

        Args:
            state: as `init_state` or the step before returned it.
            x: ``[batch, features]``.

        Returns:
            The new state, and the readout's output.
        """
        (blocks, last), after, sent = state, [], []
        for block, before in zip(self.hidden, blocks, strict=True):
            new, out = block.step(before, x)
            after.append(new)
            sent.append(out)
            x = jax.lax.stop_gradient(out)
        _, y = self.synapse.step((None,), x)
        for out, bits in zip(sent, self.fixed, strict=True):
            y = feed_back(y, out, from_bits(bits, y.dtype))
        if self.readout is not None:
            last, y = self.readout.step(last, y)
        return (tuple(after), last), y

    def sequence(self, inputs: Any) -> Float[Array, "batch time out"]:
        """All time steps, ``[batch, time, features]``, from an empty state."""
        inputs = jnp.asarray(inputs)

        def step(state: Any, x: Array) -> tuple[Any, Array]:
            return self.step(state, x)

        start = self.init_state(inputs.shape[0], inputs.dtype if jnp.issubdtype(inputs.dtype, jnp.floating) else None)
        _, outputs = jax.lax.scan(step, start, jnp.swapaxes(inputs, 0, 1))
        return jnp.swapaxes(outputs, 0, 1)

    def __call__(self, inputs: Any) -> Float[Array, "batch time out"]:
        """All time steps, ``[batch, time, features]``, from an empty state."""
        return self.sequence(inputs)


def _linear_size(layer: eqx.nn.Linear) -> int:
    if not isinstance(layer.out_features, int) or not isinstance(layer.in_features, int):
        raise UsageError("a linear layer of DirectFeedback must have numbers of features, not 'scalar'.")
    return layer.out_features


def _block_size(place: int, block: Network) -> int:
    """How many numbers a block sends on a step: the size of its last layer that has one."""
    for layer in reversed(block.layers):
        if isinstance(layer, eqx.nn.Linear):
            return _linear_size(layer)
        units: tuple[int, ...] = getattr(layer, "units", ())
        if len(units) == 1:
            return int(units[0])
        if units:
            break
    raise UsageError(
        f"hidden block {place} of DirectFeedback must send a row of numbers a step: it needs an equinox.nn.Linear, or "
        "a cell with a number of units."
    )

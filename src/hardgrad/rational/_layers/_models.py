"""The models of the guides: a multilayer perceptron that ends in a tuple (P, Q).

    ProjectiveMLP   x → hidden layers → linear → (P, Q)
    RationalMLP     x → hidden layers → linear → (z_den, z_1 … z_O) → rational head → (P, Q)

Weights are `equinox.nn.Linear`, uniform in ±1/√fan_in at first. Models take whole batches ``[..., features]``, a single
sample ``[features]`` among them.

Source: the published training guides and rational model.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...core import UsageError, whole_number
from .._algebra._projective import Projective
from ._bases import Basis
from ._heads import ProjectiveRationalMultiHead, dense

Outputs: TypeAlias = int | Literal["scalar"]
Activation: TypeAlias = Callable[[Any], Any]


def _layers(in_size: int, hidden: Sequence[int], out_size: int, key: Any, dtype: Any) -> tuple[eqx.nn.Linear, ...]:
    """Linear layers from inputs to outputs."""
    widths = [whole_number("in_size", in_size, least=1)]
    widths += [whole_number("hidden", width, least=1) for width in hidden]
    layers: tuple[eqx.nn.Linear, ...] = _drawn([*widths, out_size], key, dtype)
    return layers


@eqx.filter_jit  # one program for all the draws, not a dozen for each
def _drawn(widths: list[int], key: Any, dtype: Any) -> tuple[eqx.nn.Linear, ...]:
    keys = jax.random.split(key, len(widths) - 1)
    pairs = itertools.pairwise(widths)
    return tuple(eqx.nn.Linear(a, b, dtype=dtype, key=k) for (a, b), k in zip(pairs, keys, strict=True))


def _count(out_size: Outputs) -> int:
    if isinstance(out_size, str):
        if out_size != "scalar":
            raise UsageError(f"out_size is a whole number or 'scalar', not {out_size!r}.")
        return 1
    return whole_number("out_size", out_size, least=1)


class ProjectiveMLP(eqx.Module):
    """A perceptron whose last layer is read as (P, Q).

    Attributes:
        layers: the linear layers, the last one included.
        out_size: ``"scalar"`` gives P and Q of ``[...]``; a number K gives P of ``[..., K]``.
        shared_denominator: one Q, ``[...]``, for all K outputs; else Q is ``[..., K]``.
        activation: between the layers.

    Args:
        start: what is added to the biases of P and of Q at first. Near (0, 0), where a perceptron begins otherwise,
            a tuple stands for nothing and the sign of P varies over the inputs; (1, 0) begins at +∞, on one side of
            all labels but -∞, (0, 1) at the number 0.

    Raises:
        UsageError: a size is no whole number of at least 1, or inputs have another number of features.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import ProjectiveMLP
        >>> model = ProjectiveMLP(2, key=jax.random.key(0))
        >>> P, Q = model(jnp.zeros((256, 2)))
        >>> P.shape, Q.shape
        ((256,), (256,))
    """

    layers: tuple[eqx.nn.Linear, ...]
    out_size: Outputs = eqx.field(static=True)
    shared_denominator: bool = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_size: int,
        out_size: Outputs = "scalar",
        *,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = jax.nn.relu,
        shared_denominator: bool = True,
        start: tuple[float, float] = (0.0, 0.0),
        key: Key[Array, ""],
        dtype: Any = None,
    ):
        outputs = _count(out_size)
        denominators = 1 if shared_denominator else outputs
        layers = _layers(in_size, hidden, outputs + denominators, key, dtype)
        offset = jnp.repeat(jnp.asarray(start, layers[-1].weight.dtype), np.array([outputs, denominators]))
        self.layers = eqx.tree_at(lambda layers: layers[-1].bias, layers, replace_fn=lambda bias: bias + offset)
        self.out_size = out_size if isinstance(out_size, str) else outputs
        self.shared_denominator = shared_denominator
        self.activation = activation

    def __call__(self, x: Array | np.ndarray) -> Projective:
        """P and Q for inputs ``[..., in_size]``, in the parameters' dtype."""
        for layer in self.layers[:-1]:
            x = self.activation(dense(layer, x))
        last = dense(self.layers[-1], x)
        if isinstance(self.out_size, str):
            return Projective(last[..., 0], last[..., 1])
        P, rest = last[..., : self.out_size], last[..., self.out_size :]
        return Projective(P, rest[..., 0] if self.shared_denominator else rest)


class RationalMLP(eqx.Module):
    """A perceptron whose features go through rational functions with one denominator.

    Attributes:
        layers: the linear layers, the last one giving 1 + K features, z_den first.
        head: the rational functions.
        pole_layer: a linear layer from the last hidden features to a pole logit, or None.
        out_size: ``"scalar"`` gives P of ``[...]``, a number K gives P of ``[..., K]``; Q is ``[...]``.
        activation: between the layers.

    Raises:
        UsageError: a number or name out of range, inputs with another number of features, or a pole logit asked of
            a model that has none.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import RationalMLP
        >>> model = RationalMLP(4, 2, pole_logit=True, key=jax.random.key(0))
        >>> P, Q = model(jnp.zeros((256, 4)))
        >>> P.shape, Q.shape
        ((256, 2), (256,))
        >>> outputs, logit = model.with_pole_logit(jnp.zeros((256, 4)))
        >>> logit.shape
        (256,)
    """

    layers: tuple[eqx.nn.Linear, ...]
    head: ProjectiveRationalMultiHead
    pole_layer: eqx.nn.Linear | None
    out_size: Outputs = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_size: int = 4,
        out_size: Outputs = 2,
        *,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = jax.nn.relu,
        numerator_degree: int = 3,
        denominator_degree: int = 2,
        basis: Basis = "monomial",
        q_anchor: str = "ones",
        q_param: str = "none",
        q_min: float = 0.0,
        pole_logit: bool = False,
        key: Key[Array, ""],
        dtype: Any = None,
    ):
        outputs = _count(out_size)
        of_layers, of_head, of_pole = jax.random.split(key, 3)
        self.layers = _layers(in_size, hidden, 1 + outputs, of_layers, dtype)
        self.head = ProjectiveRationalMultiHead(
            outputs,
            numerator_degree,
            denominator_degree,
            basis=basis,
            q_anchor=q_anchor,
            q_param=q_param,
            q_min=q_min,
            key=of_head,
            dtype=dtype,
        )
        width = self.layers[-1].in_features
        self.pole_layer = eqx.nn.Linear(width, "scalar", dtype=dtype, key=of_pole) if pole_logit else None
        self.out_size = out_size if isinstance(out_size, str) else outputs
        self.activation = activation

    def __call__(self, x: Array | np.ndarray) -> Projective:
        """P and Q for inputs ``[..., in_size]``, in the parameters' dtype."""
        return self._rational(self._features(x))

    def with_pole_logit(self, x: Array | np.ndarray) -> tuple[Projective, Float[Array, "*batch"]]:
        """``((P, Q), logit)``: the logit, ``[...]``, is that of an input being a pole, for a loss of your own."""
        if self.pole_layer is None:
            raise UsageError("this RationalMLP has no pole logit; build it with pole_logit=True.")
        features = self._features(x)
        return self._rational(features), dense(self.pole_layer, features)[..., 0]

    def _features(self, x: Any) -> Any:
        for layer in self.layers[:-1]:
            x = self.activation(dense(layer, x))
        return x

    def _rational(self, features: Any) -> Projective:
        last = dense(self.layers[-1], features)
        P, Q = self.head(last[..., 1:], last[..., 0])
        return Projective(P[..., 0] if isinstance(self.out_size, str) else P, Q)

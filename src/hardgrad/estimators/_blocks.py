"""An estimator for each block of parameters: order 1 where there is a gradient, order 0 where it is exactly zero.

Rounded or discrete parameters, hard thresholds and the inside of a black box have no gradient, while the rest of the
same model has a good one. Each block's estimator sees the loss as a function of that block alone, so that probes of
order 0 perturb nothing else and their noise grows with the block, not with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from types import EllipsisType
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Key

from ..core import (
    AbstractEstimator,
    Contract,
    Controls,
    Estimate,
    LossFunction,
    Metrics,
    Params,
    UsageError,
    did_you_mean,
    float_dtype,
    global_norm,
    leaf_names,
    named_key,
)
from ._combine import blind_share, check_estimator, common_order, evaluations_made, restrict, total_evaluations, under
from ._every import Every, contribute

_Filter = str | tuple[str, ...] | EllipsisType


class Blocks(AbstractEstimator):
    """One estimator for each block of parameters.

    A block is named by a pattern on the names of parameters, as `hardgrad.core.leaf_names` gives them
    (``layers.0.weight``): ``"delay"`` is the parameter or part of the model of that name, with all that is in it,
    and ``*``, ``?`` and ``[...]`` match as in file names. Several patterns in a tuple make one block, and ``...`` is
    all that no other block has. Every parameter must belong to exactly one block.

    With `Every`, a block has its turn at the first of every n steps; off it, it costs no evaluation and its gradient
    is 0. An optimiser with a memory still moves such a block: `hardgrad.training.by_block` makes one that doesn't.

    Loss and metrics are those of the first block that has its turn at every step. Diagnostics, for each block:
    ``name/blind``, the share of its coordinates with a gradient of exactly 0, ``name/gradient_norm`` and what its
    estimator says (``name/slope_spread``), where the rest's name is ``rest``; and ``evaluations``, those of the step.

    Attributes:
        filters: the patterns of each block, None for the rest.
        estimators: the estimator of each.

    Raises:
        UsageError: no block works at every step; or, once parameters are known, a parameter in no block or in two, or a
            pattern that matches none.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import hardgrad as hg
        >>> params = {"weight": jnp.ones(3), "delay": jnp.array([1.2, 4.0])}
        >>> loss = lambda p: (jnp.sum(p["weight"] ** 2) + jnp.sum(jnp.round(p["delay"])), {})
        >>> blocks = hg.Blocks({"delay": hg.Every(5, hg.AntitheticNES(sigma=0.5)), ...: hg.Autodiff()})
        >>> key = jax.random.key(0)
        >>> found, _ = blocks.estimate(loss, params, blocks.init(params), controls={}, key=key)
        >>> print(found.gradient["weight"], found.diagnostics["evaluations"])
        [2. 2. 2.] 34
    """

    filters: tuple[tuple[str, ...] | None, ...] = eqx.field(static=True)
    estimators: tuple[AbstractEstimator, ...]

    def __init__(self, blocks: Mapping[_Filter, AbstractEstimator]):
        if not isinstance(blocks, Mapping) or not blocks:
            raise UsageError(
                "blocks must be a mapping from patterns to estimators, such as "
                f"{{'delay': AntitheticNES(), ...: Autodiff()}}; got {blocks!r}."
            )
        self.filters = tuple(_patterns(key) for key in blocks)
        for key, estimator in blocks.items():
            check_estimator(f"the block {key!r}", estimator)
        self.estimators = tuple(blocks.values())
        if all(n > 1 for n in self.every):
            raise UsageError(
                f"the blocks have their turns every {', '.join(map(str, self.every))} steps, so that in some steps "
                "nothing is trained and the loss is not known. Leave `Every` away from one of them."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """What diagnostics call the blocks."""
        return tuple("rest" if patterns is None else "+".join(patterns) for patterns in self.filters)

    @property
    def every(self) -> tuple[int, ...]:
        """Steps from turn to turn of each block."""
        return tuple(e.n if isinstance(e, Every) else 1 for e in self.estimators)

    @property
    def contract(self) -> Contract:
        """The most a step can cost: all blocks on turn, every parameter in the dearest."""
        contracts = [estimator.contract for estimator in self.estimators]
        return Contract(
            common_order(self.estimators),
            needs_key=any(c.needs_key for c in contracts),
            fixed_evaluations=sum(c.fixed_evaluations for c in contracts),
            evaluations_per_parameter=max(c.evaluations_per_parameter for c in contracts),
            backward_passes=sum(c.backward_passes for c in contracts),
            bias="; ".join(f"{name}: {c.bias}" for name, c in zip(self.names, contracts, strict=True)),
        )

    def init(self, params: Params) -> Any:
        """The state of each block's estimator, in order."""
        blocks = self.split(params)
        return tuple(estimator.init(block) for estimator, block in zip(self.estimators, blocks, strict=True))

    def split(self, params: Params) -> tuple[Params, ...]:
        """The parameters of each block, with None in the place of the others; `equinox.combine` undoes it.

        Raises:
            UsageError: a parameter in no block or in two, or a block without any.
        """
        homes, (leaves, structure) = self._homes(params), jax.tree.flatten(params)
        return tuple(
            jax.tree.unflatten(
                structure, [leaf if home == i else None for leaf, home in zip(leaves, homes, strict=True)]
            )
            for i in range(len(self.filters))
        )

    def _homes(self, params: Params) -> list[int]:
        """The block of each parameter."""
        names = leaf_names(params)
        matching = [
            {i for i, patterns in enumerate(self.filters) if any(_matches(name, p) for p in patterns or ())}
            for name in names
        ]
        for name, found in zip(names, matching, strict=True):
            if len(found) > 1:
                both = " and ".join(f"'{self.names[i]}'" for i in sorted(found))
                raise UsageError(f"the parameter '{name}' belongs to two blocks, {both}. Make the patterns narrower.")
        rest = self.filters.index(None) if None in self.filters else None
        if rest is None and (stray := [n for n, found in zip(names, matching, strict=True) if not found]):
            raise UsageError(
                f"the parameter '{stray[0]}'{f' (and {len(stray) - 1} more)' if len(stray) > 1 else ''} belongs to no "
                "block. Add a pattern for it, or `...: Autodiff()` for all that is left."
            )
        homes = [next(iter(found)) if found else rest for found in matching]
        for i, patterns in enumerate(self.filters):
            if patterns is None and names and i not in homes:
                raise UsageError("every parameter belongs to a named block: leave the block `...` out.")
            for pattern in patterns or ():
                if not any(_matches(name, pattern) for name in names):
                    raise UsageError(f"no parameter is called '{pattern}'. {did_you_mean(pattern, names)}")
        return [home for home in homes if home is not None]

    def estimate(
        self, loss_fn: LossFunction, params: Params, state: Any, *, controls: Controls, key: Key[Array, ""]
    ) -> tuple[Estimate, Any]:
        """Each block's estimate, all at the same point."""
        parts, reporter = self.split(params), self.every.index(1)
        gradients, states, counts = [], [], []
        diagnostics: Metrics = {}
        point: Any = None
        for i, (name, estimator, block) in enumerate(zip(self.names, self.estimators, parts, strict=True)):
            loss = restrict(loss_fn, eqx.combine(*parts[:i], *parts[i + 1 :])) if len(parts) > 1 else loss_fn
            own = named_key(key, name)
            if i == reporter:
                point, after = estimator.estimate(loss, block, state[i], controls=controls, key=own)
                gradient, said = point.gradient, point.diagnostics
                made = evaluations_made(estimator, said, block)
            else:
                gradient, said, made, after = contribute(estimator, loss, block, state[i], controls=controls, key=own)
            diagnostics |= {
                f"{name}/blind": blind_share(gradient),
                f"{name}/gradient_norm": global_norm(gradient).astype(float_dtype(block)),
                **under(name, said),
            }
            gradients.append(gradient)
            states.append(after)
            counts.append(jax.numpy.asarray(made, "int32"))
        diagnostics |= total_evaluations(*counts)
        return Estimate(point.loss, eqx.combine(*gradients), point.metrics, diagnostics), tuple(states)


def _patterns(key: Any) -> tuple[str, ...] | None:
    """A block's patterns, None for the rest.

    Raises:
        UsageError: it is neither a string, nor a tuple of some, nor ``...``.
    """
    if key is ...:
        return None
    patterns = (key,) if isinstance(key, str) else key
    if not isinstance(patterns, tuple) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise UsageError(
            f"a block is named by a pattern such as 'layers.0.*', a tuple of some, or `...` for the rest; got {key!r}."
        )
    return patterns


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")

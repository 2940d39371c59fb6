"""Where training starts: outputs of an encoder that begin constant.

A random head damps or pumps by chance: with the published initialisation about half of the seeds cannot oscillate. The
oscillator prior begins with a van der Pol oscillator of a hardening spring,

    x'' = -ω² x + 0.01 v - 0.02 x² v - 0.01 x³  (- 0.001 with `keep_const`)

whose frequency alone follows the sound at first. Its averaged net damping is 0 at an amplitude of 2·√(0.01/0.02).

Source: the published system (``osc_init``).
"""

from __future__ import annotations

from typing import Any, TypeVar, cast

from ...core import UsageError
from ._protocol import Encoder

E = TypeVar("E", bound=Encoder)


def with_oscillator_prior(
    encoder: E,
    field: Any,
    *,
    damping: float = -0.01,
    redamping: float = 0.02,
    hardening: float = 0.01,
    force: float = 0.001,
) -> E:
    """An encoder that begins with an oscillator that can sing.

    Args:
        encoder: for `field`; all outputs that are not named below keep their random start.
        field: a polynomial field of order 3 or more.
        damping: γ; below 0 it feeds energy.
        redamping: ``w[2][1]``, of x²v.
        hardening: ``w[3][0]``, of x³.
        force: ``w[0][0]``, only if the field keeps the constant term: it moves the fixed point away from x = 0.

    Raises:
        UsageError: the field is not polynomial, its order is below 3, or its outputs are not the encoder's.
    """
    order = _order(encoder, field)
    if order < 3:
        raise UsageError(
            f"the oscillator prior needs x³ and x²v, so order 3 or more; the field has order {order}. "
            "Raise the order or leave the prior out."
        )
    values = {1: damping, _row(2, 1, order): redamping, _row(3, 0, order): hardening}
    if field.keep_const:
        values[_row(0, 0, order)] = force
    return _changed(encoder, values)


def with_zero_force(encoder: E, field: Any) -> E:
    """An encoder whose constant force ``w[0][0]`` begins at exactly 0, as it should where the prior is not used.

    Args:
        encoder: for `field`.
        field: a polynomial field; one without `keep_const` has no such force, and the encoder comes back as it is.

    Raises:
        UsageError: the field is not polynomial, or its outputs are not the encoder's.
    """
    order = _order(encoder, field)
    return _changed(encoder, {_row(0, 0, order): 0.0}) if field.keep_const else encoder


def zero_heads(encoder: E) -> E:
    """An encoder all of whose outputs begin at exactly 0, as the syrinx field needs.

    Its parameters behind the heads get a gradient once the heads' weights have moved.
    """
    return _changed(encoder, dict.fromkeys(range(encoder.outputs), 0.0))


def _changed(encoder: E, values: dict[int, float]) -> E:
    return cast(E, encoder.with_constant_outputs(values))


def _order(encoder: Encoder, field: Any) -> int:
    order = getattr(field, "order", None)
    if not isinstance(order, int):
        raise UsageError(f"a PolynomialField has the terms that the prior sets; {type(field).__name__} has not.")
    if field.outputs != encoder.outputs:
        raise UsageError(f"the field reads {field.outputs} outputs, the encoder gives {encoder.outputs}.")
    return order


def _row(p: int, k: int, order: int) -> int:
    """Index of w[p][k] among the outputs [ω, γ, w row by row]."""
    return 2 + p * (order + 1) + k

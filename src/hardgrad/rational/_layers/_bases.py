"""Polynomial bases: the columns b₀(x) … b_n(x) that the numerators and denominators are sums of.

    monomial     b_k = x b_{k-1},              b₀ = 1
    Chebyshev    b_k = 2x b_{k-1} − b_{k-2},   b₀ = 1,  b₁ = x

The second is the usual three-term recurrence of the polynomials of the first kind, stable on [−1, 1]. Neither
raises to a power, so derivatives are polynomials too and exist at 0.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core import UsageError, did_you_mean, whole_number


class AbstractBasis(eqx.Module):
    """Functions b₀ … b_n, each applied to every element.

    A basis of your own defines `columns`; arrays it holds are parameters and are trained with the model.
    """

    @abc.abstractmethod
    def columns(self, x: Float[Array, "*shape"], degree: int) -> tuple[Float[Array, "*shape"], ...]:
        """b₀(x) … b_degree(x), each of x's shape and dtype."""

    @property
    def regular_point(self) -> float:
        """A number at which every function and its derivative are finite; it stands in where x is no good."""
        return 0.0

    def __call__(self, x: Float[Array | np.ndarray, "*shape"], degree: int) -> Float[Array, "*shape column"]:
        """The functions side by side, ``[..., degree + 1]``, in x's dtype.

        Args:
            x: any shape.
            degree: the highest index, at least 0.

        Raises:
            UsageError: `degree` is negative or no whole number.
        """
        degree = whole_number("degree", degree, least=0)
        return jnp.stack(self.columns(jnp.asarray(x), degree), axis=-1)


class MonomialBasis(AbstractBasis):
    """1, x, x², …

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import MonomialBasis
        >>> MonomialBasis()(jnp.array([0.5, -2.0]), 3)
        Array([[ 1.   ,  0.5  ,  0.25 ,  0.125],
               [ 1.   , -2.   ,  4.   , -8.   ]], dtype=float32)
    """

    def columns(self, x: Float[Array, "*shape"], degree: int) -> tuple[Float[Array, "*shape"], ...]:
        """1 … x^degree, each a product of the one before."""
        found = [jnp.ones_like(x), x]
        for _ in range(2, degree + 1):
            found.append(found[-1] * x)
        return tuple(found[: degree + 1])


class ChebyshevBasis(AbstractBasis):
    """Chebyshev polynomials of the first kind, T₀ … T_n: bounded by 1 on [−1, 1], fast growing outside.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import ChebyshevBasis
        >>> ChebyshevBasis()(jnp.array([0.5, -2.0]), 3)
        Array([[  1. ,   0.5,  -0.5,  -1. ],
               [  1. ,  -2. ,   7. , -26. ]], dtype=float32)
    """

    def columns(self, x: Float[Array, "*shape"], degree: int) -> tuple[Float[Array, "*shape"], ...]:
        """T₀ … T_degree by their recurrence."""
        found = [jnp.ones_like(x), x]
        for _ in range(2, degree + 1):
            found.append(2 * x * found[-1] - found[-2])
        return tuple(found[: degree + 1])


class CustomBasis(AbstractBasis):
    """A function of yours as a basis.

    Attributes:
        function: ``function(x, degree)``, an array ``[..., degree + 1]`` for x of any shape, element by element.
            It has no parameters: a basis that has some extends `AbstractBasis`.
        point: a number at which all its columns and their derivatives are finite.

    Raises:
        UsageError: `function` can't be called, or holds arrays; when called, it returned another shape.

    Examples:
        >>> import jax.numpy as jnp
        >>> from hardgrad.rational import CustomBasis
        >>> cosines = CustomBasis(lambda x, degree: jnp.cos(x[..., None] * jnp.arange(degree + 1.0)))
        >>> cosines(jnp.zeros(4), 2).shape
        (4, 3)
    """

    function: Callable[..., Any] = eqx.field(static=True)
    point: float = eqx.field(static=True)

    def __init__(self, function: Callable[..., Any], point: float = 0.0):
        if not callable(function):
            raise UsageError(f"a basis is called with (x, degree); {function!r} can't be called.")
        if jax.tree.leaves(eqx.filter(function, eqx.is_array)):
            raise UsageError(
                f"{type(function).__name__} holds arrays, which a CustomBasis would never train: "
                "let it extend AbstractBasis and define columns(x, degree)."
            )
        self.function = function
        self.point = float(point)

    @property
    def regular_point(self) -> float:
        """The `point` given."""
        return self.point

    def columns(self, x: Float[Array, "*shape"], degree: int) -> tuple[Float[Array, "*shape"], ...]:
        """The function's columns, in x's dtype."""
        found = jnp.asarray(self.function(x, degree))
        expected = (*x.shape, degree + 1)
        if found.shape != expected:
            raise UsageError(
                f"the custom basis returned shape {found.shape} for x of {x.shape} and degree {degree}, not {expected}."
            )
        return tuple(found[..., k].astype(x.dtype) for k in range(degree + 1))


Basis: TypeAlias = str | AbstractBasis | Callable[..., Any]
"""What layers take as a basis: ``"monomial"``, ``"chebyshev"``, an `AbstractBasis`, or a function for `CustomBasis`."""

_BY_NAME: dict[str, type[AbstractBasis]] = {"monomial": MonomialBasis, "chebyshev": ChebyshevBasis}


def as_basis(basis: Basis, degree: int) -> AbstractBasis:
    """A basis from its name, a function or itself, checked up to `degree` where it isn't one of ours.

    Raises:
        UsageError: an unknown name, something that can't be called, or a basis that is not finite (or has no finite
            derivative) at its own regular point.
    """
    if isinstance(basis, str):
        if basis not in _BY_NAME:
            raise UsageError(f"there is no basis {basis!r}. {did_you_mean(basis, _BY_NAME)}")
        return _BY_NAME[basis]()
    found = basis if isinstance(basis, AbstractBasis) else CustomBasis(basis)
    if not isinstance(found, MonomialBasis | ChebyshevBasis):
        _check_regular(found, degree)
    return found


def _check_regular(basis: AbstractBasis, degree: int) -> None:
    point = float(basis.regular_point)
    with jax.ensure_compile_time_eval():  # a model may be built inside jit or vmap
        at = jnp.asarray(point)
        values, slopes = jax.jvp(lambda x: basis.columns(x, degree), (at,), (jnp.ones_like(at),))
        finite = bool(jnp.all(jnp.isfinite(jnp.stack([*values, *slopes]))))
    if not finite:
        raise UsageError(
            f"the basis or its derivative is not finite at {point}, which stands in where x is no good: "
            "give CustomBasis(function, point=...) a number where it is."
        )


def weighted_sum(coefficients: Array, columns: Iterable[Array]) -> Array:
    """Σ_k c_k b_k for coefficients ``[..., column]`` that broadcast against the columns.

    Added one by one: elementwise work that the compiler fuses, without a stacked copy or a matrix unit's rounding.
    """
    terms = [coefficients[..., k] * column for k, column in enumerate(columns)]
    return sum(terms[1:], terms[0])


@partial(jax.jit, static_argnames=("shape", "dtype"))
def small_coefficients(key: Any, shape: tuple[int, ...], dtype: Any = None) -> Array:
    """Coefficients to start from: normal, of deviation 0.01, as published; None takes JAX's default dtype."""
    return 0.01 * jax.random.normal(key, shape, dtype)

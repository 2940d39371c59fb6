"""Interpolated Kneser-Ney models of n characters, of every order up to a largest: the baseline of language recipes.

    p_n(w | h) = (c(hw) - D(c(hw)))₊ / c(h) + (Σ_w D(c(hw)) / c(h)) · p_{n-1}(w | h'),    p_0 = 1/V

h' is h without its oldest character. At the highest order c counts occurrences; below, the different characters seen
before the gram. An order has three discounts, for counts of 1, 2 and 3 or more: from n_k, its number of grams counted k
times, D_k = k - (k+1) · n₁/(n₁ + 2n₂) · n_{k+1}/n_k. Where one of these is missing the discount is n₁/(n₁ + 2n₂).

Source: Chen & Goodman 1999, "An empirical study of smoothing techniques for language modeling", eqs. 24 to 28.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core import UsageError, whole_number


def most_orders(symbols: int) -> int:
    """The highest order whose grams fit 63 bits."""
    order = 1
    while symbols ** (order + 1) < 2**63:
        order += 1
    return order


class _Table(NamedTuple):
    """Counts of one order, sorted by code."""

    grams: NDArray[np.int64]
    counts: NDArray[np.int64]
    contexts: NDArray[np.int64]
    totals: NDArray[np.int64]  # c(h)
    reserved: NDArray[np.float64]  # Σ_w D(c(hw))
    discounts: NDArray[np.float64]  # of counts 0, 1, 2 and 3 or more


class KneserNey:
    """Models of orders 1 to `orders` of one text.

    Args:
        text: symbols ``[time]`` from 0 to `symbols` - 1.
        symbols: V, at least 2.
        orders: the highest order; grams are coded in 63 bits.

    Raises:
        UsageError: text shorter than the highest order, symbols out of range, or grams that need more bits.
    """

    def __init__(self, text: NDArray[Any], symbols: int, orders: int):
        self.symbols = whole_number("symbols", symbols, least=2)
        self.orders = whole_number("orders", orders, least=1)
        if orders > most_orders(symbols):
            raise UsageError(
                f"{orders} of {symbols} symbols need more than 63 bits; take at most {most_orders(symbols)}."
            )
        if len(text) < orders or text.min() < 0 or text.max() >= symbols:
            raise UsageError(f"a text is at least {orders} symbols from 0 to {symbols - 1}; got {len(text)} symbols.")
        codes = {order: _codes(text, order, symbols) for order in range(1, orders + 1)}
        seen = {order: np.unique(found, return_counts=True) for order, found in codes.items()}
        self._whole = {order: self._table(*found) for order, found in seen.items()}
        # A gram's continuation count: how many grams one longer end in it.
        self._lower = {
            order: self._table(*np.unique(seen[order + 1][0] % symbols**order, return_counts=True))
            for order in range(1, orders)
        }

    def _table(self, grams: Any, counts: Any) -> _Table:
        discounts = _discounts(counts)
        contexts, place = np.unique(grams // self.symbols, return_inverse=True)
        totals = np.bincount(place, counts).astype(np.int64)
        reserved = np.bincount(place, discounts[np.minimum(counts, 3)]).astype(np.float64)
        return _Table(grams, counts, contexts, totals, reserved, discounts)

    def bits(self, text: NDArray[Any], order: int) -> NDArray[np.float64]:
        """-log₂ p of each symbol after the first, ``[time - 1]``; the earliest are told from what context there is.

        Args:
            text: symbols ``[time]``.
            order: of the model.
        """
        order = whole_number("order", order, least=1, most=self.orders)
        result: NDArray[np.float64] = -np.log2(self.probabilities(text, order))
        return result

    def probabilities(self, text: NDArray[Any], order: int) -> NDArray[np.float64]:
        """p of each symbol after the first, given those before it; see `bits`."""
        found = np.full(len(text) - 1, 1.0 / self.symbols)
        for n in range(1, order + 1):
            table = self._whole[n] if n == order else self._lower[n]
            # The first n - 2 symbols have too little context for this order.
            start = max(n - 2, 0)
            grams = _codes(text[1:] if n == 1 else text, n, self.symbols)
            count = _look_up(table.grams, table.counts, grams)
            contexts = grams // self.symbols
            total = _look_up(table.contexts, table.totals, contexts)
            reserved = _look_up(table.contexts, table.reserved, contexts)
            known = total > 0
            kept = count - table.discounts[np.minimum(count, 3)]
            mixed = (kept + reserved * found[start:]) / np.where(known, total, 1)
            found[start:] = np.where(known, mixed, found[start:])
        return found


def _codes(text: NDArray[Any], order: int, symbols: int) -> NDArray[np.int64]:
    """Each run of `order` symbols as one number, the oldest first."""
    count = len(text) - order + 1
    codes = np.zeros(max(count, 0), np.int64)
    for i in range(order):
        codes = codes * symbols + text[i : i + len(codes)]
    return codes


def _look_up(keys: Any, values: Any, wanted: Any) -> Any:
    """Values of keys, 0 where there is none."""
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0)


def _discounts(counts: NDArray[Any]) -> NDArray[np.float64]:
    n = np.bincount(np.minimum(counts, 5), minlength=6)
    if n[1] == 0 or n[2] == 0:  # every symbol is common: next to nothing is held back
        return np.array([0.0, 0.5, 0.5, 0.5])
    one = n[1] / (n[1] + 2 * n[2])
    found = [0.0] + [k - (k + 1) * one * n[k + 1] / n[k] if n[k] and n[k + 1] else one for k in (1, 2, 3)]
    # A discount takes no more than the count, and something of every one.
    return np.clip(found, [0.0, 0.05, 0.05, 0.05], [0.0, 1.0, 2.0, 3.0])

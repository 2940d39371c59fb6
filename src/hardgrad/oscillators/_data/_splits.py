"""What is trained on, what is chosen by, and what is only looked at in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, Integer

from ...core import UsageError, whole_number
from ._checks import is_number
from ._recordings import Recording


class Split(NamedTuple):
    """Indices of three parts that have nothing in common and leave nothing out.

    Attributes:
        train: int64 ``[n]``, and so on.
        validation: for choosing between models.
        test: for judging the chosen one.
    """

    train: Int64[np.ndarray, " train"]
    validation: Int64[np.ndarray, " validation"]
    test: Int64[np.ndarray, " test"]


def split_files(
    recordings: Sequence[Recording] | int, *, test: float = 0.1, validation: float = 0.1, seed: int = 1234
) -> Split:
    """Split recordings, each whole, so that no file is in two parts.

    Those are taken by name, shuffled by ``numpy.random.default_rng(seed)``; the first ``max(1, round(test·N))`` are for
    the test, the next for validation, the rest for training. A share of 0 gives an empty part.

    Args:
        recordings: or only how many there are, which are then taken as they come.
        test: share of the test, from 0 to below 1.
        validation: share of validation; the two leave something to train on.
        seed: of the shuffle.

    Raises:
        UsageError: shares out of range, or so few recordings that none is left to train on.

    Examples:
        >>> [part.size for part in split_files(624)]
        [500, 62, 62]
    """
    _check_shares(test, validation)
    seed = whole_number("seed", seed, least=0)
    if isinstance(recordings, Sequence):
        count = len(recordings)
        by_name = np.array(sorted(range(count), key=lambda i: recordings[i].name), np.int64)
    else:
        count = whole_number("recordings", recordings, least=0)
        by_name = np.arange(count)
    tests, validations = (max(1, round(share * count)) if share > 0 else 0 for share in (test, validation))
    if count <= tests + validations:
        raise UsageError(
            f"{count} recordings cannot be split into {tests} for the test, {validations} for validation and at least "
            "1 for training. Record more, or lower the shares."
        )
    order = np.arange(count)
    np.random.default_rng(seed).shuffle(order)
    order = by_name[order]
    return Split(order[tests + validations :], order[tests : tests + validations], order[:tests])


def stratified_split(
    category: Integer[np.ndarray, " segments"], *, test: float = 0.1, validation: float = 0.1, seed: int = 0
) -> Split:
    """Split segments so that every category has its share in every part.

    Of each category of n segments ``max(1, round((test + validation)·n))`` are held out, none of a single one; of those
    the test takes its part by the same rule.

    Args:
        category: one number a segment.
        test: share of the test, from 0 to below 1.
        validation: share of validation.
        seed: of the shuffles.

    Raises:
        UsageError: shares out of range.

    Examples:
        >>> [part.size for part in stratified_split(np.repeat([0, 1, 2], [120, 120, 60]))]
        [240, 30, 30]
    """
    _check_shares(test, validation)
    generator = np.random.default_rng(whole_number("seed", seed, least=0))
    held_out = test + validation
    parts: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]] = ([], [], [])
    for value in np.unique(category):
        members = generator.permutation(np.flatnonzero(category == value))
        held = _share(members.size, held_out)
        tests = held if validation == 0 else _share(held, test / held_out) if held_out else 0
        for part, taken in zip(parts, np.split(members, [members.size - held, members.size - tests]), strict=True):
            part.append(taken)
    return Split(*(generator.permutation(np.concatenate([np.empty(0, np.int64), *part])) for part in parts))


def _share(count: int, share: float) -> int:
    return max(1, round(share * count)) if count > 1 and share > 0 else 0


def _check_shares(test: float, validation: float) -> None:
    if not (is_number(test) and is_number(validation) and min(test, validation) >= 0 and test + validation < 1):
        raise UsageError(
            "test and validation must be shares of at least 0 that leave something to train on; got "
            f"test={test!r}, validation={validation!r}."
        )

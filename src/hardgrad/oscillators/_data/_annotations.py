"""Annotations: text files that say when syllables begin and end.

A line is a syllable: its onset and its offset in seconds, separated by white space; further columns are ignored, and so
are empty lines. A file without lines is a recording without syllables.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import numpy as np
from jaxtyping import Float

from ...core import UsageError

_MOST_BYTES = 2**24  # some 10^6 syllables
_EXPECTED = "A line is an onset and an offset in seconds, such as '0.512 0.634'."


def read_annotations(
    path: str | os.PathLike[str], *, samples: int | None = None, sample_rate: int | None = None
) -> Float[np.ndarray, "syllables 2"]:
    """The syllables of an annotation file, by onset.

    Args:
        path: a text file, UTF-8.
        samples: the length of the sound; given with `sample_rate`, a syllable that ends after it is an error.
        sample_rate: samples a second.

    Returns:
        Onsets and offsets in seconds, float64 ``[syllables, 2]``; no rows for an empty file.

    Raises:
        UsageError: no such file, not text, or a line that is not a syllable; it names the line.
    """
    path = Path(path)
    try:
        information = path.stat()
        if not stat.S_ISREG(information.st_mode):
            raise UsageError(f"{path} is not a file.")
        if information.st_size > _MOST_BYTES:
            raise UsageError(f"{path} has {information.st_size} bytes; an annotation has at most {_MOST_BYTES}.")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not a text file in UTF-8. {_EXPECTED}") from None
    end = None if samples is None or sample_rate is None else samples / sample_rate
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        columns = line.split(maxsplit=2)
        if not columns:
            continue
        onset, offset = _syllable(f"{path}, line {number}", columns)
        # Half a sample of grace: annotations are rounded.
        if end is not None and sample_rate is not None and offset > end + 0.5 / sample_rate:
            raise UsageError(
                f"{path}, line {number}: the syllable ends at {offset:g} s, after the sound does ({end:g} s). "
                "Is it the annotation of this sound?"
            )
        rows.append((onset, offset))
    return np.array(sorted(rows), np.float64).reshape(-1, 2)


def _syllable(where: str, columns: list[str]) -> tuple[float, float]:
    if len(columns) < 2:
        raise UsageError(f"{where}: one column, '{columns[0][:40]}'. {_EXPECTED}")
    times = []
    for column in columns[:2]:
        try:
            time = float(column.replace("_", "?"))  # Python would read 1_0 as 10
        except ValueError:
            raise UsageError(f"{where}: '{column[:40]}' is not a number. {_EXPECTED}") from None
        if not math.isfinite(time) or time < 0:
            raise UsageError(f"{where}: {column[:40]} is not a time of the sound. {_EXPECTED}")
        times.append(time)
    onset, offset = times
    if offset <= onset:
        raise UsageError(f"{where}: the syllable ends at {offset:g} s, not after its onset at {onset:g} s.")
    return onset, offset

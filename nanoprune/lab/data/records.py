"""Records of bits as lines of text: the form of all data sets of https://github.com/privacytrustlab/datasets."""

from collections.abc import Mapping

import numpy as np

from nanoprune.errors import DataError

PART = 1 << 24  # bytes looked through for line ends at once
LINES = 4096  # parsed at once: the working memory is that of so many lines


def parse_records(
    data: bytes | memoryview, heads: Mapping[bytes, int], bits: int, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Bits (N, bits) uint8 and labels (N,) int64 from lines like `13,0,1,...,0`.

    Every line is one of `heads`, which stands for its label, then `bits` times a comma and a bit, and a line feed; the
    last one may do without. Raises DataError, naming `source` and the first line that is not so.
    """
    text, width = np.frombuffer(data, dtype=np.uint8), 2 * bits
    starts, ends = _lines(text, width, source, f"is too short for a label and {bits} bits")

    values = np.empty((len(ends), bits), np.uint8)
    labels = np.empty(len(ends), np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(text, width)
    for first in range(0, len(ends), LINES):
        part = slice(first, first + LINES)
        tails = windows[ends[part] - width].reshape(len(ends[part]), bits, 2)  # (n, bits, 2): ",0" or ",1"
        values[part] = tails[:, :, 1] - np.uint8(ord("0"))  # wraps to more than 1 on anything but a bit
        wrong = (tails[:, :, 0] != ord(",")) | (values[part] > 1)
        _refuse(wrong.any(axis=1), first, source, f"does not end in {bits} times ,0 or ,1")
        spans = zip(starts[part].tolist(), (ends[part] - width).tolist(), strict=True)
        labels[part] = [heads.get(bytes(data[start:end]), -1) for start, end in spans]
        _refuse(labels[part] < 0, first, source, "does not start with a label of the data set")
    return values, labels


def _lines(text: np.ndarray, width: int, source: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Where the lines start and end, (N,) each; DataError if there are none, or one is not longer than `width`.

    Looked for a part of the text at a time, so that line feeds alone take no more memory than lines do.
    """
    found, before = [], -1  # the ends by part, and the last of them
    for first in range(0, len(text), PART):
        ends = first + np.flatnonzero(text[first : first + PART] == ord("\n"))  # (n,)
        if first + PART >= len(text) and text[-1] != ord("\n"):
            ends = np.append(ends, len(text))
        lengths = np.diff(ends, prepend=before) - 1  # (n,)
        _refuse(lengths <= width, sum(map(len, found)), source, what)
        found.append(ends)
        before = ends[-1] if len(ends) else before
    if not found:
        raise DataError(f"{source}: holds no lines; expected label,bit,...,bit in each")
    ends = np.concatenate(found)  # (N,)
    return np.concatenate([[0], ends[:-1] + 1]), ends


def _refuse(wrong: np.ndarray, first: int, source: str, what: str) -> None:
    """DataError if any line is `wrong` (n,), naming the earliest; the lines before these are `first`."""
    if wrong.any():
        raise DataError(f"{source}: line {first + wrong.argmax() + 1} {what}; expected label,bit,...,bit")


def check_count(found: int, expected: int, source: str) -> None:
    """DataError, naming `source`, unless there are as many records as the data set has."""
    if found != expected:
        raise DataError(f"{source}: holds {found} records, expected {expected}")

"""Compact weights: gaps between nonzero entries, and int8 values with a scale per output channel."""

from __future__ import annotations

import dataclasses

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.export.lower import lower_layers
from nanoprune.lab.export.steps import Conv, Embed, Linear, Program, TokenLinear, check_finite, folded
from nanoprune.nn import Network

LARGEST_GAP = 255  # of a uint8
LEVELS = 127  # int8 without -128, so that the range is symmetric
SCALE_BITS = 17  # 17 bits of a scale times 7 of an integer are the 24 of a float32: products are exact
TINY = 2.0**-100  # a channel below counts as zero: its scale would be too close to the subnormal numbers to be exact
FORMS = ("dense", "packed", "int8")


def gaps_and_values(flat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nonzero entries of `flat` (n,): distances from the previous one, uint8, and their values.

    The first distance is from index -1, so that indices = cumsum(gaps) - 1. A distance above 255 is bridged by entries
    with value 0. Both outputs (m,).
    """
    places = np.flatnonzero(flat)
    distances = np.diff(places, prepend=-1)
    bridges = (distances - 1) // LARGEST_GAP
    ends = np.cumsum(bridges + 1) - 1  # the position of each nonzero entry
    gaps = np.full(len(places) + bridges.sum(), LARGEST_GAP, np.uint8)
    values = np.zeros(len(gaps), flat.dtype)
    gaps[ends] = distances - LARGEST_GAP * bridges
    values[ends] = flat[places]
    return gaps, values


def unpacked(gaps: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    """The inverse of `gaps_and_values`: (size,)."""
    flat = np.zeros(size, values.dtype)
    flat[np.cumsum(gaps, dtype=np.int64) - 1] = values
    return flat


def channel_scales(weight: np.ndarray) -> np.ndarray:
    """Scale of each output channel of weight (O, ...), (O,): largest magnitude / 127, to 17 bits; 1 if all are zero.

    Channels below 2^-100 count as zero.
    """
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1, initial=0)
    mantissa, exponent = np.frexp(largest / LEVELS)
    rounded = np.ldexp(np.rint(np.ldexp(mantissa, SCALE_BITS)), exponent - SCALE_BITS)
    return np.where(largest > TINY, rounded, 1.0)


def integers(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """weight (O, ...) / scale (O,), rounded to int8."""
    return np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)


def quantised(program: Program) -> Program:
    """The program with int8 weights in every step that has weights, one scale per output channel.

    It is applied before BatchNorm is folded, whose factors then go into the scales: so the integers are those of the
    network's own weights (`quantise.quantised_network`). Biases and activations stay float32.
    """
    made = Program(program.input_shape)
    for step in program.steps:
        operation = step.operation
        if isinstance(operation, Conv | Linear | TokenLinear | Embed):
            scale = channel_scales(operation.weight)
            weight = integers(operation.weight, scale) * scale.reshape(-1, *[1] * (operation.weight.ndim - 1))
            operation = dataclasses.replace(operation, weight=weight, scale=scale)
        made.steps.append(dataclasses.replace(step, operation=operation))
    return made


def program_of(net: Network, form: str) -> Program:
    """The program of replica 0 of `net`, BatchNorm folded; its weights int8 where `form` is "int8".

    Raises ArgumentError on an unknown form, on a layer without a rule, and on numbers that float32 cannot hold.
    """
    if form not in FORMS:
        raise ArgumentError(f"weights must be one of {', '.join(FORMS)}, got {form!r}")
    program = lower_layers(net.body, net.input_shape)
    program = folded(quantised(program) if form == "int8" else program)
    check_finite(program)
    return program

r"""Moments of shadow models' outputs for each record, which can be added up: no output of a model need be kept.

    $\mu = \frac1K \sum_k v_k, \quad S = \sum_k (v_k - \mu)(v_k - \mu)^T$

Models A and B together have, with $\delta = \mu_B - \mu_A$ (Chan, Golub & LeVeque 1983, doi 10.2307/2683386),

    $K = K_A + K_B, \quad \mu = \mu_A + \frac{K_B}{K} \delta, \quad S = S_A + S_B + \frac{K_A K_B}{K} \delta \delta^T$
"""

from __future__ import annotations

import dataclasses

import numpy as np

from nanoprune.errors import ArgumentError


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """count (n,), mean (n, d) and scatter (n, d, d) of the models that were chosen for each of n records."""

    count: np.ndarray
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, chosen: np.ndarray) -> Moments:
        """Of values (K, n) or (K, n, d) of K models; chosen (K, n) bool. A record without models has zeros."""
        values, count = values if values.ndim == 3 else values[..., None], chosen.sum(axis=0)
        weights = chosen[..., None].astype(np.float64)  # (K, n, 1)
        mean = (weights * values).sum(axis=0) / np.maximum(count, 1)[:, None]  # (n, d)
        centred = weights * (values - mean)  # (K, n, d)
        return cls(count, mean, np.einsum("kni,knj->nij", centred, centred))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        share = (other.count / np.maximum(count, 1))[:, None]  # (n, 1)
        delta = other.mean - self.mean
        between = (self.count[:, None] * share * delta)[..., None] * delta[:, None]  # (n, d, d)
        return Moments(count, self.mean + share * delta, self.scatter + other.scatter + between)

    def part(self, columns: list[int]) -> Moments:
        """Of some of the d values."""
        return Moments(self.count, self.mean[:, columns], self.scatter[:, columns][:, :, columns])

    def checked(self) -> Moments:
        """These; ArgumentError where a record has no model."""
        if (self.count == 0).any():
            record = np.argmin(self.count)
            raise ArgumentError(f"shadows: record {record} has no IN or no OUT model; use more shadows")
        return self


def in_and_out(values: np.ndarray, inside: np.ndarray) -> tuple[Moments, Moments]:
    """The moments over each record's IN models and over its OUT models: values (K, n) or (K, n, d), inside (K, n)."""
    return Moments.of(values, inside), Moments.of(values, ~inside)

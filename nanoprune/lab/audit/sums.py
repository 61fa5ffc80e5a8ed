"""Sums over many shadow models, record by record, which are stored in place of the outputs.

The attacks on single records need of a shadow model the log odds phi of each record's label alone, and of all shadow
models the moments. So the outputs of the first ones are kept, for thresholds and for attacks that learn from them, and
the others are added up as they come from their tasks: memory does not grow with their number.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from nanoprune.attack.shadow.base import log_sum
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.moments import Moments, in_and_out
from nanoprune.lab.audit.shadows import Shadows


def log_odds_alone(shadows: Shadows, y: np.ndarray, population_y: np.ndarray) -> Shadows:
    """The same shadows with phi (K, n, 1) and (K, m, 1) in place of the logits, in float32, without sensitivity."""
    logits, population = (
        {stage: _single(values, of) for stage, values in outputs.items()}
        for outputs, of in ((shadows.logits, y), (shadows.population, population_y))
    )
    return Shadows(shadows.inside, logits, population, shadows.paths)


def _single(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    return margin(logits, y).astype(np.float32)[..., None]


@dataclasses.dataclass(frozen=True, eq=False)
class Sums:
    """Sums over K shadows: inner and outer, the moments (n, d) over IN and over OUT models of phi after each stage, of
    p_y and log p_y after the last and, of pruned networks, of the masks' statistic; log_sums: log of the sum of p_y
    over all models and over the OUT models, (n,) each; population: the moments of p_y (m, 1). stages: of the recipe.
    """

    stages: int
    shadows: int
    inner: Moments
    outer: Moments
    log_sums: tuple[np.ndarray, np.ndarray]
    population: Moments

    @classmethod
    def of(cls, shadows: Shadows) -> Sums:
        """Of shadows as `log_odds_alone` makes them."""
        phi = [values[..., 0].astype(np.float64) for values in shadows.logits.values()]  # stages of (K, n)
        log_p = _log_p(phi[-1])
        paths = [] if shadows.paths is None else [shadows.paths]
        columns = np.stack([*phi, np.exp(log_p), log_p, *paths], axis=-1)  # (K, n, d)
        inner, outer = in_and_out(columns, shadows.inside)
        log_sums = (log_sum(log_p, np.ones_like(shadows.inside)), log_sum(log_p, ~shadows.inside))
        of_population = np.exp(_log_p(list(shadows.population.values())[-1][..., 0].astype(np.float64)))  # (K, m)
        population = Moments.of(of_population, np.ones(of_population.shape, bool))
        return cls(len(phi), len(shadows.inside), inner, outer, log_sums, population)

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.stages,
            self.shadows + other.shadows,
            self.inner + other.inner,
            self.outer + other.outer,
            (np.logaddexp(self.log_sums[0], other.log_sums[0]), np.logaddexp(self.log_sums[1], other.log_sums[1])),
            self.population + other.population,
        )

    def moments(self, name: str) -> tuple[Moments, Moments]:
        """The moments over IN and OUT models of what the views call so; those of the population are all OUT."""
        if name == "population_p":
            none = np.zeros((0, len(self.population.count)))
            return Moments.of(none, none.astype(bool)), self.population
        columns = self._columns[name]
        return self.inner.part(columns), self.outer.part(columns)

    @functools.cached_property
    def _columns(self) -> dict[str, list[int]]:
        s = self.stages
        return {"phi_by_stage": list(range(s)), "phi": [s - 1], "p": [s], "log_p": [s + 1], "paths": [s + 2]}


def _log_p(phi: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -phi)

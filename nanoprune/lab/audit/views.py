"""The data of attacks on single records: outputs of the target and of shadow models, and one model against others."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from operator import add
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.attack.shadow.base import log_sum
from nanoprune.attack.shadow.lira import margin
from nanoprune.attack.shadow.moments import Moments, in_and_out
from nanoprune.attack.shadow.samia import samia_features
from nanoprune.lab.audit.features import Features
from nanoprune.lab.audit.sums import Sums


class Need(enum.Enum):
    """What an attack needs of the attacker."""

    IN = "IN"  # shadow models trained on the record
    OUT = "OUT"  # shadow models not trained on it
    POPULATION = "known non-members"
    FEATURES = "features of the records"
    DENSE = "the dense network"
    MASKS = "the masks of pruned networks"
    VERSIONS = "other released versions"
    NOISY = "outputs for noisy copies"


@dataclasses.dataclass(frozen=True, eq=False)
class Views:
    """Outputs of K shadows and, as row K, of the target: inside (K, n) bool; by stage, the last one the target's own,
    logits (K + 1, n, classes); population (K + 1, m, classes) of that stage; paths (K + 1, n) or None; y (n,) and
    population_y (m,); group (n,), of records of which all or none are inside, or None; features: of the n records and
    the m of the population, or None where they cannot be had; versions (K + 1, n, d): the log odds of the label under
    the model itself and d - 1 other versions of it, or None; sensitivity (K + 1, n, classes) of the last stage's
    outputs, or None; rest: sums over shadows whose outputs are not here, or None."""

    inside: np.ndarray
    logits: dict[str, np.ndarray]
    population: np.ndarray
    paths: np.ndarray | None
    y: np.ndarray
    population_y: np.ndarray
    group: np.ndarray | None = None
    features: Features | None = None
    versions: np.ndarray | None = None
    sensitivity: np.ndarray | None = None
    rest: Sums | None = None
    known: dict[tuple[str, bytes], Any] = dataclasses.field(default_factory=dict, init=False)  # sums, by whose

    @functools.cached_property
    def phi(self) -> np.ndarray:
        """The log odds of the label, (K + 1, n)."""
        return margin(self.logits[list(self.logits)[-1]], self.y)

    @functools.cached_property
    def phi_by_stage(self) -> np.ndarray:
        """The log odds of the label after each stage, (K + 1, n, stages)."""
        return np.stack([margin(logits, self.y) for logits in self.logits.values()], axis=-1)

    @functools.cached_property
    def log_p(self) -> np.ndarray:
        """log p_y (K + 1, n), from the log odds: it does not round to 0."""
        return -np.logaddexp(0, -self.phi)

    @functools.cached_property
    def p(self) -> np.ndarray:
        """p_y (K + 1, n)."""
        p = softmax(self.logits[list(self.logits)[-1]].astype(np.float64), axis=2)
        return np.take_along_axis(p, np.broadcast_to(self.y, p.shape[:2])[..., None], axis=2)[..., 0]

    @functools.cached_property
    def population_phi(self) -> np.ndarray:
        """The log odds of the label of population records, (K + 1, m)."""
        return margin(self.population, self.population_y)

    @functools.cached_property
    def population_p(self) -> np.ndarray:
        """p_y of population records, (K + 1, m)."""
        p = softmax(self.population.astype(np.float64), axis=2)
        return p[:, np.arange(len(self.population_y)), self.population_y]

    @functools.cached_property
    def samia_features(self) -> np.ndarray:
        """The outputs, their sensitivity and the label as SAMIA takes them, (K + 1, n, 3 classes)."""
        return samia_features(self.logits[list(self.logits)[-1]], self.sensitivity, self.y)

    def part(self, of: np.ndarray) -> Views:
        """The views of an attacker who has the shadows `of` alone of those that are here, and the same target."""
        rows = np.append(of, len(self.inside))
        names = ("population", "paths", "versions", "sensitivity")
        arrays = {name: None if (a := getattr(self, name)) is None else a[rows] for name in names}
        logits = {stage: values[rows] for stage, values in self.logits.items()}
        return dataclasses.replace(self, inside=self.inside[of], logits=logits, rest=None, **arrays)

    @property
    def available(self) -> set[Need]:
        """What the attacker has."""
        has = {
            Need.POPULATION: len(self.population_y) > 0,
            Need.FEATURES: self.features is not None,
            Need.DENSE: len(self.logits) > 1,
            Need.MASKS: self.paths is not None,
            Need.VERSIONS: self.versions is not None,
            Need.NOISY: self.sensitivity is not None,
        }
        return {Need.IN, Need.OUT, *(need for need, there in has.items() if there)}


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """Model k of some views beside the models `of` (K',), all of them shadows, and those of whom only sums are kept."""

    views: Views
    k: int
    of: np.ndarray

    def moments(self, name: str) -> tuple[np.ndarray, Moments, Moments]:
        """A value of the model's records (n,) or (n, d), and its moments over the IN and the OUT models. name: an
        array (K + 1, ...) of the views; no shadow was trained on a record of the population, so all are OUT."""
        values, rest = getattr(self.views, name), self.views.rest

        def found() -> tuple[Moments, Moments]:
            own = values[self.of]
            inside = self.views.inside[self.of] if name != "population_p" else np.zeros(own.shape, bool)
            sums = in_and_out(own, inside)
            return sums if rest is None or name == "versions" else tuple(map(add, sums, rest.moments(name)))

        return values[self.k], *self._kept(name, found)

    def outside(self, name: str) -> tuple[np.ndarray, Moments]:
        """The same without the moments over the IN models."""
        value, _, outer = self.moments(name)
        return value, outer

    def mean_outside(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A value of the model's records and its mean over the OUT models, (n,) each."""
        value, outer = self.outside(name)
        return value, outer.mean[:, 0]

    @property
    def log_means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log p_y of the model, and the log of the mean p_y over all other models and over the OUT models, (n,)."""
        log_p, inside, rest = self.views.log_p, self.views.inside[self.of], self.views.rest

        def found() -> tuple[np.ndarray, np.ndarray]:
            every, outer = (log_sum(log_p[self.of], chosen) for chosen in (np.ones_like(inside), ~inside))
            counts = [np.full(inside.shape[1], len(self.of)), (~inside).sum(axis=0)]
            if rest is not None:
                every, outer = np.logaddexp(every, rest.log_sums[0]), np.logaddexp(outer, rest.log_sums[1])
                counts = [counts[0] + rest.shadows, counts[1] + rest.outer.count]
            return every - np.log(counts[0]), outer - np.log(counts[1])

        return log_p[self.k], *self._kept("log_means", found)

    def _kept(self, name: str, found: Callable[[], tuple]) -> tuple:
        """What `found` returns, which several attacks want of the same models: of all, or all but a pair."""
        if len(self.of) < len(self.views.inside) - 2:
            return found()
        key = (name, self.of.tobytes())
        if key not in self.views.known:
            self.views.known[key] = found()
        return self.views.known[key]


def others(k: int, shadows: int) -> np.ndarray:
    """The shadows to compare shadow k with: all but k and its twin, the one with the other half; (K - 2,)."""
    return without_pair(np.arange(shadows), k)


def without_pair(of: np.ndarray, k: int) -> np.ndarray:
    """The shadows `of` (K',) but k and its twin."""
    return of[of // 2 != k // 2]

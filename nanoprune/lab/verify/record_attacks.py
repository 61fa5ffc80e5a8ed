"""Checks of the attacks on single records against loops, closed forms and integrals."""

from __future__ import annotations

import math

import numpy as np
from scipy.integrate import dblquad
from scipy.stats import rankdata

from nanoprune.attack.shadow.base import base_score, log_sum
from nanoprune.attack.shadow.bavaria import Prior, predictive
from nanoprune.attack.shadow.moments import in_and_out
from nanoprune.attack.shadow.population import population_attack
from nanoprune.attack.shadow.quantile import pinball
from nanoprune.attack.shadow.rmia import prior_online, rmia
from nanoprune.backend import to_device, to_host
from nanoprune.lab.verify.gradient import difference, direction, normal
from nanoprune.lab.verify.layers import Pair, R, rng

RECORDS, SHADOWS = 40, 6


def probabilities() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p_y of a target (n,) and of shadows (K, n), half of which were trained on each record: inside (K, n)."""
    generator = rng()
    inside = np.stack([generator.permutation(SHADOWS) < SHADOWS // 2 for _ in range(RECORDS)], axis=1)
    return generator.uniform(0.05, 1, RECORDS), generator.uniform(0.05, 1, (SHADOWS, RECORDS)), inside


def base() -> Pair:
    """Online and offline, mean by mean."""
    p, of, inside = probabilities()
    ours = [
        base_score(np.log(p), _log_mean(of, np.ones_like(inside))),
        base_score(np.log(p), _log_mean(of, ~inside), 0.4),
    ]
    rows = range(RECORDS)
    online = [math.log(p[i]) - math.log(math.fsum(of[:, i]) / SHADOWS) for i in rows]
    outside = [[of[k, i] for k in range(SHADOWS) if not inside[k, i]] for i in rows]
    offline = [math.log(p[i]) - 0.4 * math.log(math.fsum(outside[i]) / len(outside[i])) for i in rows]
    return ours, [online, offline]


def _log_mean(p: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    return log_sum(np.log(p), chosen) - np.log(chosen.sum(axis=0))


def base_as_rmia() -> Pair:
    """The ranks of BASE, and of RMIA by a population whose ratios lie between those of any two records."""
    p, of, inside = probabilities()
    prior = prior_online(*(moments.mean[:, 0] for moments in in_and_out(of, inside)))
    ratios = np.sort(p / prior)
    between = np.concatenate([[ratios[0] / 2], (ratios[1:] + ratios[:-1]) / 2])
    ours = base_score(np.log(p), _log_mean(of, np.ones_like(inside)))
    return rankdata(ours), rankdata(rmia(p, prior, between, np.ones(RECORDS), 1.0))


def bavaria_predictive() -> Pair:
    """The t density for three models, and the normal one integrated over the posterior of mean and variance."""
    prior, seen = Prior(0.5, 0.7, 2.5, 1.8), np.array([0.2, 1.4, 0.9])
    m, S, K = np.array([seen.mean()]), np.array([((seen - seen.mean()) ** 2).sum()]), np.array([3])
    freedom, location, scale = (float(part[0]) for part in predictive(prior, m, S, K))
    points = [-1.0, 0.7, 3.0]
    norm = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    ours = [norm / scale * (1 + ((x - location) / scale) ** 2 / freedom) ** (-(freedom + 1) / 2) for x in points]

    def joint(mu: float, log_v: float, values: list[float]) -> float:
        """Density of the values and of (mu, log v) under the prior, but for a constant."""
        v = math.exp(log_v)
        off = prior.kappa0 * (mu - prior.m0) ** 2 + sum((x - mu) ** 2 for x in values)
        return math.exp(-(prior.a0 + 0.5 + len(values) / 2) * log_v - (prior.b0 + off / 2) / v)

    def total(values: list[float]) -> float:
        return dblquad(joint, -5, 5, -12, 12, args=(values,), epsabs=1e-13, epsrel=1e-10)[0]

    evidence = math.sqrt(2 * math.pi) * total(list(seen))
    return ours, [total([*seen, x]) / evidence for x in points]


def pinball_gradient() -> Pair:
    generator = rng()
    q, s, c = normal(generator, (R, 1, 6)), normal(generator, (R, 1, 6)), normal(generator, (R,))
    v = direction(generator, (R, 1, 6))
    ours = float((c[:, None, None] * v * pinball(q, s, 0.9)[1]).sum())
    return ours, difference(lambda: float((c * pinball(q, s, 0.9)[0]).sum()), q, v)


def pinball_minimum() -> Pair:
    """Of all scores, the constant of least mean loss is the quantile: of 11 scores and level 0.77 the ninth."""
    s = rng().standard_normal(11)
    every = np.tile(s, (11, 1))[:, None]  # a replica for each constant
    losses = to_host(pinball(to_device(every.transpose(2, 1, 0).copy()), to_device(every), 0.77)[0])
    return s[int(np.argmin(losses))], np.sort(s)[math.ceil(0.77 * 11) - 1]


def population() -> Pair:
    """Counted, with ties."""
    generator = rng()
    x, z = generator.integers(0, 9, RECORDS), generator.integers(0, 9, 25)
    return population_attack(x, z), [sum(value <= one for value in z) / 25 for one in x]

"""Attacks with parameters that are fitted on shadow models or known non-members before they score records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nanoprune.attack.metrics import auc
from nanoprune.attack.shadow.base import base_score
from nanoprune.attack.shadow.fit import MemberNetwork
from nanoprune.attack.shadow.quantile import fit_quantiles
from nanoprune.attack.shadow.rapid import both_scores, fit_rapid
from nanoprune.attack.shadow.rmia import A_GRID, prior_offline, prior_online, rmia
from nanoprune.attack.shadow.samia import fit_samia
from nanoprune.lab.audit.samia_attention import fit_samia_attention, tokens_of
from nanoprune.lab.audit.views import Compared, Views, others, without_pair
from nanoprune.records import predict

Formula = Callable[[Compared], np.ndarray]  # scores (n,) of a model's records
Tuned = Callable[[Compared, float], np.ndarray]


def tuned(formula: Tuned) -> Callable[[Views], Formula]:
    """The formula with the a of A_GRID whose mean AUC over the shadows is best."""

    def prepared(views: Views) -> Formula:
        K = len(views.inside)

        def quality(a: float) -> float:
            scores = [formula(Compared(views, k, others(k, K)), a) for k in range(K)]
            return float(np.mean([auc(s[row], s[~row]) for s, row in zip(scores, views.inside, strict=True)]))

        a = max(A_GRID, key=quality)
        return lambda of: formula(of, a)

    return prepared


def rmia_online(of: Compared, a: float) -> np.ndarray:
    """No shadow was trained on a population record, so its p(z) is the offline one here too."""
    target, inner, outer = of.moments("p")
    return _rmia(of, target, prior_online(inner.mean[:, 0], outer.mean[:, 0]), a)


def rmia_offline(of: Compared, a: float) -> np.ndarray:
    """RMIA by OUT models alone."""
    target, _, outer = of.moments("p")
    return _rmia(of, target, prior_offline(outer.mean[:, 0], a), a)


def _rmia(of: Compared, target: np.ndarray, prior: np.ndarray, a: float) -> np.ndarray:
    z, _, every = of.moments("population_p")
    return rmia(target, prior, z, prior_offline(every.mean[:, 0], a))


def scaled_base(of: Compared, a: float) -> np.ndarray:
    """BASE by OUT models alone."""
    target, _, outer = of.log_means
    return base_score(target, outer, a)


def learned(features: Formula, fit: Callable[[np.ndarray, np.ndarray], MemberNetwork]) -> Callable[[Views], Formula]:
    """The logits of a network that learns from the models that a model is compared with, each of which is compared with
    the others but its twin. features: of a model's records, (n, ...). Twins share a network, as the others are the
    same."""

    def prepared(views: Views) -> Formula:
        networks: dict[tuple[int, ...], MemberNetwork] = {}

        def scores(of: Compared) -> np.ndarray:
            key = tuple(of.of)
            if key not in networks:
                each = [features(Compared(views, k, without_pair(of.of, k))) for k in of.of]
                networks[key] = fit(np.concatenate(each), views.inside[of.of].ravel())
            return networks[key].scores(features(of))

        return scores

    return prepared


rapid = learned(lambda of: both_scores(*of.mean_outside("phi")), lambda *known: fit_rapid(*known))
samia = learned(lambda of: of.views.samia_features[of.k], lambda *known: fit_samia(*known))
samia_attention = learned(
    lambda of: tokens_of(of.views.samia_features[of.k]), lambda *known: fit_samia_attention(*known)
)


def quantile(views: Views) -> Formula:
    """Quantile regression on what each model says of the population, one fleet for all models."""
    features, known = views.features, views.population_phi
    center, scale = known.mean(axis=1, keepdims=True), np.maximum(known.std(axis=1, keepdims=True), 1e-9)  # (K + 1, 1)
    records = features.records()
    net = fit_quantiles(records, features.count, (known - center) / scale)
    rows = np.tile(np.arange(features.known, len(features.rows)), (len(known), 1))  # (K + 1, n)
    expected = center + scale * predict(net, records, rows)[..., 0]  # (K + 1, n)
    return lambda of: (of.views.phi - expected)[of.k]

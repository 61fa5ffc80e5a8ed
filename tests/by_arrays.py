"""The attacks on single records, as functions of what each of K shadow models says: target (n,) or (n, d), values
(K, n) or (K, n, d), inside (K, n) bool."""

import numpy as np

from nanoprune.attack.shadow import base, bavaria, difficulty, lira, rapid, rmia, versions
from nanoprune.attack.shadow.moments import Moments, in_and_out


def lira_online(target, phi, inside, *variance):
    return lira.lira_online(target, *in_and_out(phi, inside), *variance)


def lira_offline(target, phi, inside, *variance):
    return lira.lira_offline(target, Moments.of(phi, ~inside), *variance)


def lira_versions(target, phi, inside, *variance):
    return versions.lira_versions(target, *in_and_out(phi, inside), *variance)


def bavaria_online(target, phi, inside):
    return bavaria.bavaria_online(target, *in_and_out(phi, inside))


def bavaria_offline(target, phi, inside):
    return bavaria.bavaria_offline(target, Moments.of(phi, ~inside))


def base_online(target, log_p):
    every = np.ones(log_p.shape, bool)
    return base.base_score(target, base.log_sum(log_p, every) - np.log(len(log_p)))


def base_offline(target, log_p, inside, a=1.0):
    outside = ~inside
    return base.base_score(target, base.log_sum(log_p, outside) - np.log(outside.sum(axis=0)), a)


def prior_online(p, inside):
    return rmia.prior_online(*(of.mean[:, 0] for of in in_and_out(p, inside)))


def prior_offline(p, inside, a):
    return rmia.prior_offline(Moments.of(p, ~inside).mean[:, 0], a)


def calibrated(target, scores, inside):
    return difficulty.calibrated(target, Moments.of(scores, ~inside).mean[:, 0])


def both_scores(target, scores, inside):
    return rapid.both_scores(target, Moments.of(scores, ~inside).mean[:, 0])

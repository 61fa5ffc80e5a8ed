"""SELENA (Tang, Mahloujifar, Song, Shejwalkar, Nasr, Houmansadr & Mittal 2022, arXiv 2110.08324): Split-AI, and a
network that is distilled from it."""

from __future__ import annotations

import functools

import numpy as np
from scipy.special import softmax

from nanoprune.backend import to_host
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.evaluation import predict_fleet
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.columns import fit_columns
from nanoprune.lab.experiment.distil import on_targets, scratch_step
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.memory import check_memory, resident
from nanoprune.lab.experiment.shard import generators
from nanoprune.lab.zoo import build


def absences(n: int, K: int, L: int, rng: np.random.Generator) -> np.ndarray:
    """absent (K, n) bool: record i is kept from the L of K sub-models that absent[:, i] says.

    In random order, each K records that follow each other share out their absences evenly: the i-th is kept from L
    neighbours in a random circle of the sub-models, so that each sub-model misses L of the K. Where the last records
    are fewer than K, sub-models differ by at most L. (The paper draws each record's L sub-models alone.)
    """
    absent, order = np.zeros((K, n), bool), rng.permutation(n)
    for start in range(0, n, K):
        circle = rng.permutation(K)
        for i, record in enumerate(order[start : start + K]):
            absent[circle[(i + np.arange(L)) % K], record] = True
    return absent


def training_sets(absent: np.ndarray, members: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The records (K, m) that each sub-model is trained on, of members (n,): those that are not kept from it. Where it
    has fewer than another, some of them, drawn at random, are there twice: a fleet trains on as many in each."""
    sets = [members[~row] for row in absent]
    most = max(map(len, sets))
    return np.stack([np.concatenate([of, rng.choice(of, most - len(of), replace=False)]) for of in sets])


def split_ai(experiment: Experiment, method: str, K: int, L: int) -> np.ndarray:
    r"""Split-AI's outputs for its own members, (seeds, n, classes) float64: for each record x the mean of those of
    the L sub-models that were not trained on it, $\tfrac1L \sum_{k: x \notin D_k} f_k(x)$."""
    S, members = len(experiment.seeds), experiment.indices("members")  # (S, n)
    draws = generators(experiment.seeds, "split-ai")
    absent = [absences(members.shape[1], K, L, rng) for rng in draws]  # S of (K, n)
    sets = np.stack([training_sets(*of) for of in zip(absent, members, draws, strict=True)], axis=1)  # (K, S, m)
    sets = sets.reshape(K * S, -1)  # replica k S + s
    net = build(experiment.description, K * S)
    net.initialise([of for k in range(K) for of in generators(experiment.seeds, f"split-ai {k}")])
    fit_columns(net, experiment.dataset.x, sets)
    size = resident(experiment.dataset.x, experiment.threads)
    check_memory(net.shard(slice(1)), K * S, experiment.recipe, experiment.threads, size)
    plan, step = experiment.recipe.dense, {"models": K, "absent": L} | scratch_step(experiment.recipe)
    made = experiment.fleet(
        method, net, [[step]] * (K * S), plan.epochs, lambda shard, rows: shard.train(plan, members=sets[rows])
    )
    with single_threaded_blas():
        index = np.tile(members, (K, 1))
        logits = predict_fleet(made.net, experiment.records, index, experiment.threads)  # (K S, n, classes)
    outputs = softmax(to_host(logits).astype(np.float64), axis=2).reshape(K, S, *logits.shape[1:])
    weights = np.stack(absent, axis=1)[..., None] / L  # (K, S, n, 1)
    return (weights * outputs).sum(axis=0)


def selena(experiment: Experiment, method: str, K: int, L: int) -> Trained:
    """Networks that are trained on their members with Split-AI's outputs in place of the labels: no output comes
    from a network that was trained on the record. Raises ArgumentError unless 0 < L < K and there are K members.

    The networks and schedules of the sub-models and of the distilled network are the baseline's, so that K + 1 times as
    many epochs are computed.
    """
    if not 0 < L < K <= experiment.indices("members").shape[1]:
        raise ArgumentError(f"absent must lie in 1..models - 1, and models be at most the members, got {L} and {K}")
    targets = split_ai(experiment, f"{method}-split-ai", K, L)
    own = {"step": "selena", "models": K, "absent": L} | scratch_step(experiment.recipe)
    run = functools.partial(on_targets, part="members", targets=targets)
    steps = [[own]] * len(experiment.seeds)
    return experiment.fleet(method, experiment.initial(), steps, experiment.recipe.dense.epochs, run)

"""The classroom: a few replicas of one small network on the embedded digits, and what an attacker sees of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from nanoprune.attack import scores
from nanoprune.attack.metrics import balanced_accuracy
from nanoprune.attack.threshold import best_threshold
from nanoprune.lab.data import load, make_split
from nanoprune.lab.zoo import mlp
from nanoprune.nn import Network
from nanoprune.records import Records, predict

CLASSES, PIXELS, WIDTHS = 10, 64, [256, 128]


@dataclasses.dataclass(frozen=True)
class Classroom:
    """R splits of the digits: members, reference and nonmembers are indices (R, n) into `records`; seeds 0 to R - 1."""

    records: Records
    labels: np.ndarray  # (1797,)
    members: np.ndarray
    reference: np.ndarray
    nonmembers: np.ndarray

    @property
    def replicas(self) -> int:
        return len(self.members)

    def generators(self, purpose: int) -> list[np.random.Generator]:
        """One a replica. purpose: any number, another one for each thing that is drawn."""
        return [np.random.default_rng([seed, purpose]) for seed in range(self.replicas)]

    def network(self, widths: list[int] | None = None) -> Network:
        """R freshly initialised classifiers, 64 - 256 - 128 - 10 by default."""
        body = mlp((PIXELS,), CLASSES, WIDTHS if widths is None else widths)
        return Network(body, (PIXELS,), self.replicas).initialise(self.generators(0))


def classroom(replicas: int = 4, members: int = 200, nonmembers: int = 1000) -> Classroom:
    """The digits, split once for each replica into members, as many reference records, and non-members."""
    data = load("digits")
    splits = [make_split(data, members, members, nonmembers, seed) for seed in range(replicas)]
    parts = [np.stack([getattr(s, name) for s in splits]) for name in ("members", "reference", "nonmembers")]
    return Classroom(Records(data.x, data.y), data.y, *parts)


def probabilities(room: Classroom, net: Network, index: np.ndarray) -> np.ndarray:
    """softmax(f_W(x)) of the records index (R, n), in float64: (R, n, classes)."""
    z = predict(net, room.records, index).astype(np.float64)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def losses(room: Classroom, net: Network, index: np.ndarray) -> np.ndarray:
    """-log p_y of the records index (R, n), float64, finite for any logits: (R, n)."""
    z = predict(net, room.records, index).astype(np.float64)
    z -= z.max(axis=-1, keepdims=True)
    of_label = np.take_along_axis(z, room.labels[index][..., None], axis=-1)[..., 0]
    return np.log(np.exp(z).sum(axis=-1)) - of_label


def accuracies(room: Classroom, net: Network, index: np.ndarray) -> np.ndarray:
    """Share of the records index (R, n) whose class is predicted, (R,)."""
    return (probabilities(room, net, index).argmax(axis=-1) == room.labels[index]).mean(axis=1)


def attack(
    room: Classroom,
    net: Network,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray] = scores.modified_entropy,
) -> np.ndarray:
    """Balanced accuracy of the best threshold of `score`, (R,): fitted on the first half of the members and as many
    non-members, measured on the rest of both. Guessing scores 1/2."""
    known = room.members.shape[1] // 2
    sides = [
        score(probabilities(room, net, index), room.labels[index]) for index in (room.members, room.nonmembers)
    ]  # (R, n) each
    found = []
    for members, others in zip(*sides, strict=True):
        t = best_threshold(members[:known], others[:known])
        found.append(balanced_accuracy(members[known:] >= t, others[known:] >= t))
    return np.array(found)

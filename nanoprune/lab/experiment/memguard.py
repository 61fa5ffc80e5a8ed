"""MemGuard: noise on the outputs that misleads an attack network (Jia, Salem, Backes, Zhang & Gong 2019, 1909.10594).

The defender trains an attack network h on the classifier's outputs for its members and its reference records. An output
$p = softmax(z)$ is then replaced, with some probability, by $q = softmax(z + e)$, where e is such that h is undecided
about q and that q predicts the same class. The probability keeps the expected distortion $|q - p|_1$ within a budget.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.attack.attack_network import attack_input, attacker
from nanoprune.attack.network import fit_attack_network, held_out_share
from nanoprune.backend import to_device, to_host, xp
from nanoprune.lab.engine.shards import Advance, map_shards, train_shards
from nanoprune.nn import Network, Workspace
from nanoprune.nn import softmax as device_softmax
from nanoprune.nn.loss import one_hot

C2 = 10.0  # weight of the penalty on another predicted class, as in the authors' code
C3 = (0.0, 0.1, 1.0)  # weights of the distortion, tried in turn; theirs are 0.1, 1, ... until one fails
RATE = 0.3  # length of a step in the logits; theirs is 0.1
STEPS = 100  # for each weight; theirs are up to 300
BLOCK = 1024  # records at a time
DIGITS = 4  # decimals of a probability from which a record's random number is derived


@dataclasses.dataclass
class MemGuard:
    """h: the defender's attack network, one replica per classifier. budget: upper bound on $E |q - p|_1$; 2 is none.

    secrets: one per replica. The random numbers are derived from the secret and the output, so that the same query
    always gets the same output.
    """

    h: Network
    budget: float
    secrets: list[bytes]
    threads: int = 1

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """The defended outputs (R, n, classes), float64, for logits (R, n, classes)."""
        p, q, odds = self.perturbed(logits)
        coins = np.stack([_coins(row, secret) for row, secret in zip(p, self.secrets, strict=True)])  # (R, n)
        return np.where((coins < odds)[..., None], q, p)

    def perturbed(self, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """p, q (R, n, classes) and the probability of q, (R, n): $min(1, budget / |q - p|_1)$, the paper's phase II.

        Where no noise was found that keeps the predicted class, q is p.
        """
        blocks = [logits[:, i : i + BLOCK] for i in range(0, logits.shape[1], BLOCK)] or [logits]
        e = np.concatenate([self._noise(block) for block in blocks], axis=1)  # (R, n, classes)
        p, q = (softmax(z.astype(np.float64), axis=2) for z in (logits, logits + e))
        kept = q.argmax(axis=2) == p.argmax(axis=2)  # (R, n); probabilities can tie where logits do not
        q = np.where(kept[..., None], q, p)
        distortion = np.abs(q - p).sum(axis=2)  # (R, n)
        return p, q, np.minimum(1.0, self.budget / np.maximum(distortion, np.finfo(float).tiny))

    def _noise(self, logits: np.ndarray) -> np.ndarray:
        """`find_noise` for logits (R, n, classes), the replicas divided among the threads."""
        z = np.ascontiguousarray(logits.swapaxes(1, 2))  # (R, classes, n)
        parts = map_shards(lambda r: to_host(find_noise(self.h.shard(r), to_device(z[r]))), len(z), self.threads)
        return np.concatenate(parts).swapaxes(1, 2)


def memguard(
    budget: float,
    members: np.ndarray,
    reference: np.ndarray,
    generators: list[np.random.Generator],
    threads: int = 1,
    advance: Advance = lambda fitted: None,
) -> MemGuard:
    """The defence of R classifiers with logits (R, n, classes) of members and (R, m, classes) of reference records.

    h gets the predicted class, since the defender does not know the true label of a query. advance(1) is called when
    one more attack network is fitted. Raises ArgumentError on fewer than four members or reference records.
    """
    p = softmax(np.concatenate([members, reference], axis=1).astype(np.float64), axis=2)  # (R, n + m, classes)
    member = np.repeat([True, False], [members.shape[1], reference.shape[1]])
    held_out = held_out_share(member)

    def fit(shard: slice, advance: Advance) -> np.ndarray:
        r = shard.start
        h, _ = fit_attack_network(p[r], p[r].argmax(axis=1), member, held_out, generators[r])
        advance(1)
        return to_host(h.theta)

    h = attacker(p.shape[2], len(p))
    h.theta[...] = to_device(np.concatenate(train_shards(fit, len(p), threads, 1, advance)))
    return MemGuard(h, budget, [generator.bytes(16) for generator in generators], threads)


def find_noise(h: Network, z: Any) -> Any:
    """e (R, classes, N) for logits z (R, classes, N): 0, or noise that changes h's decision and no predicted class.

    With $u = z + e$, $p = softmax(z)$, $q = softmax(u)$, c the predicted class and h(q) the logit of membership, it
    takes gradient steps of a fixed length on

        |h(q)|  +  C2 max(0, max_{j != c} u_j - u_c)  +  C3 |q - p|_1                      (the paper's phase I)

    from e = 0, for each C3. Of all iterates for which h(q) has the opposite sign of h(p) and is nearer to 0, and class
    c is still predicted, it returns the one with the least $|q - p|_1$.
    """
    ws, p = Workspace(training=False), device_softmax(z)
    named = z.argmax(axis=1)  # (R, N)
    before = h.forward(attack_input(p, named), ws)[:, 0].copy()  # (R, N)
    best, least = xp.zeros_like(z), xp.ones_like(before) * np.inf  # (R, classes, N), (R, N)
    for c3 in C3:
        e = xp.zeros_like(z)
        for _ in range(STEPS):
            u = z + e
            q = device_softmax(u)
            now = h.forward(attack_input(q, named), ws)  # (R, 1, N)
            distortion = xp.abs(q - p).sum(axis=1)  # (R, N)
            fooled = (now[:, 0] * before < 0) & (xp.abs(now[:, 0]) < xp.abs(before))
            better = fooled & (u.argmax(axis=1) == named) & (distortion < least)  # (R, N)
            best, least = xp.where(better[:, None], e, best), xp.where(better, distortion, least)
            gradient = noise_gradient(h, now, u, q, p, named, c3, ws)  # (R, classes, N)
            norm = xp.sqrt((gradient * gradient).sum(axis=1, keepdims=True))
            e = e - RATE * gradient / xp.maximum(norm, np.float32(1e-30))
    return best


def noise_gradient(h: Network, now: Any, u: Any, q: Any, p: Any, named: Any, c3: float, ws: Workspace) -> Any:
    """Gradient of `find_noise`'s objective in e, (R, classes, N), after h's forward pass with `ws` gave `now`.

    g = d/dq (|h(q)| + C3 |q - p|_1) = sign(h(q)) dh/dq + C3 sign(q - p) becomes q (g - sum_j q_j g_j) by the softmax's
    Jacobian; the penalty adds C2 to the largest other class and takes C2 from c where that one is larger.
    """
    classes = q.shape[1]
    g = h.backward(xp.sign(now), ws, need_dX=True, need_dW=False)[:, :classes] + c3 * xp.sign(q - p)
    ours = one_hot(named, classes, u.dtype)  # (R, classes, N)
    others = xp.where(ours > 0.5, -np.inf, u)
    largest = others.argmax(axis=1)  # (R, N)
    violated = (others.max(axis=1) > (u * ours).sum(axis=1))[:, None]  # (R, 1, N)
    penalty = violated * (one_hot(largest, classes, u.dtype) - ours)
    return q * (g - (q * g).sum(axis=1, keepdims=True)) + C2 * penalty


def _coins(p: np.ndarray, secret: bytes) -> np.ndarray:
    """A pseudo-random number in [0, 1) for each output p (n, classes), which depends on it and the secret alone."""
    rows = np.round(p, DIGITS)
    hashes = (hashlib.sha256(secret + row.tobytes()).digest() for row in rows)
    return np.array([int.from_bytes(digest[:6], "big") / 2**48 for digest in hashes])

"""The attack network as the final adversary: trained on the attacker's own records until it stops improving."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from nanoprune.attack.attacker import attacker
from nanoprune.batch import Records, predict, shuffled
from nanoprune.errors import DivergenceError
from nanoprune.lab.engine.passes import Passes
from nanoprune.lab.engine.process_group import Team
from nanoprune.nn import Adam, Network, Workspace, log_loss

RATES = (1e-3, 3e-4, 1e-4)  # the stages of the training
PATIENCE = 100  # steps without a lower held-out loss that end a stage, but at least MIN_PATIENCE epochs
MIN_PATIENCE = 3
ENOUGH = 1e-3  # held-out loss, in nats, at which training ends: less than that is left to gain, and no decision changes
GAIN = 1e-3  # share of its loss that a stage must gain within its patience


def fit_attack_network(
    p: np.ndarray,
    y: np.ndarray,
    member: np.ndarray,
    held_out: np.ndarray,
    generator: np.random.Generator,
    batch: int = 64,
    threads: int = 1,
) -> tuple[Network, np.ndarray]:
    """Train h on what the attacker knows of one classifier and does not hold out; stop by what is held out.

    p (n, classes): predictions; y (n,): labels; member, held_out (n,) bool. Each stage starts from the best network so
    far, with a lower learning rate, and ends when the held-out log-loss, measured after each epoch, has not fallen by a
    share GAIN within PATIENCE steps. All training ends once that loss is at most ENOUGH. So there is a largest number
    of epochs, log(log(2) / ENOUGH) / GAIN + 3 times the patience; without it a network that separates the records goes
    on as long as floating point lets its loss fall. Members and non-members weigh the same: of the fewer, records are
    taken again until both are as many. threads: processes that share the samples of a batch. Returns the network of the
    lowest held-out loss, and that loss at the start and after each epoch, (1 + epochs,). Raises DivergenceError where
    it stops being finite.
    """
    records = Records(attack_rows(p, y), member.astype(np.float32))
    training, testing = (np.flatnonzero(of)[None] for of in (~held_out, held_out))  # (1, records)
    training = np.concatenate([training, again(training, member)], axis=1)
    h = attacker(p.shape[1]).initialise([generator])
    ws, best = Workspace(), h.theta.copy()

    def loss_now() -> float:
        return held_out_loss(predict(h, records, testing, ws.evaluation)[0, :, 0], member[held_out])

    history = [loss_now()]
    steps = math.ceil(training.size / batch)  # an epoch
    patience = max(MIN_PATIENCE, math.ceil(PATIENCE / steps))  # in epochs

    def objective(h: Network, ws: Workspace, index: Any, count: int) -> Any:
        x, t = records.batch(index, ws)  # (1, 2 classes, B), (1, B)
        loss, dz = log_loss(h.forward(x, ws), t[:, None], count)
        h.backward(dz, ws)
        return loss

    passes, optimizers = Passes(h, Team(threads)), [Adam() for _ in RATES]
    for optimizer in optimizers:
        optimizer.begin(h, passes.team.zeros)
    with passes, np.errstate(over="ignore", invalid="ignore"):  # the loss tells
        for rate, optimizer in zip(RATES, optimizers, strict=True):
            passes.team.meet()  # nobody needs the last stage's theta any more
            h.theta[...] = best
            stale, mark = 0, min(history)
            while stale < patience and min(history) > ENOUGH:
                for index in shuffled(training, batch, [generator]):  # (1, B)
                    passes.run(objective, index)
                    optimizer.step(h, rate, passes.mine)
                loss = passes.team.once(loss_now)
                if not np.isfinite(loss):
                    raise DivergenceError(f"attack network: held-out loss {loss} in epoch {len(history)}")
                better = loss < min(history)
                history.append(loss)
                if better:
                    best[...] = h.theta
                stale = 0 if loss <= (1 - GAIN) * mark else stale + 1
                mark = mark if stale else loss
    h.theta[...] = best
    return h, np.array(history)


def again(training: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Indices (1, difference) of the side with fewer records in `training` (1, records), each as often as any other or
    once more: without them the network learns which side has more records, and not who is a member."""
    sides = sorted((training[:, member[training[0]] == of] for of in (True, False)), key=np.size)
    return np.resize(sides[0], (1, sides[1].size - sides[0].size))


def held_out_loss(z: np.ndarray, member: np.ndarray) -> float:
    """Log-loss of the logits z (n,) in float64, members and non-members weighing the same."""
    z = z.astype(np.float64)
    return float(0.5 * (np.logaddexp(0, -z[member]).mean() + np.logaddexp(0, z[~member]).mean()))


def attack_rows(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions p (n, classes) beside the labels y (n,) as unit vectors: (n, 2 classes) float32."""
    return np.concatenate([p, np.arange(p.shape[1]) == y[:, None]], axis=1).astype(np.float32)


def attack_scores(h: Network, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits of membership (n,), float64, for predictions p (n, classes) and labels y (n,)."""
    records = Records(attack_rows(p, y), np.zeros(len(y)))
    return predict(h, records, np.arange(len(y))[None])[0, :, 0].astype(np.float64)

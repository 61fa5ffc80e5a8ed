"""Training of the attack network on the attacker's records, with early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from nanoprune.attack.attack_network import attacker
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.nn import Adam, Network, Passes, Workspace, log_loss
from nanoprune.records import Records, predict, shuffled

RATES = (1e-3, 3e-4, 1e-4)  # learning rates of the stages of the training
PATIENCE, MIN_PATIENCE = 100, 3  # steps, and epochs at least, without a lower held-out loss that end a stage
HELD_OUT = 0.25  # share of the attacker's records held out for early stopping and for choosing the attack


def fit_attack_network(
    p: np.ndarray,
    y: np.ndarray,
    member: np.ndarray,
    held_out: np.ndarray,
    generator: np.random.Generator,
    batch: int = 64,
    passes: Callable[[Network], Passes] = Passes,
    order: Callable[..., Iterable[np.ndarray]] = shuffled,
    target_loss: float = 0.0,
    min_improvement: float = 0.0,
) -> tuple[Network, np.ndarray]:
    """Train h on predictions p (n, classes), labels y (n,) and member (n,) bool; what is held_out, (n,) bool, ends it.

    Each stage starts from the best network so far, at a lower rate, and ends when the held-out log-loss has not fallen
    by a share `min_improvement` for PATIENCE steps, or is at most `target_loss`. passes: see `Passes`. order: the
    batches of an epoch. Returns the best network and the losses (1 + epochs,). Raises DivergenceError if not finite.
    """
    records = Records(attack_features(p, y), member.astype(np.float32))
    training, testing = balanced(np.flatnonzero(~held_out), member)[None], np.flatnonzero(held_out)[None]
    h = attacker(p.shape[1]).initialise([generator])
    ws, best = Workspace(training=False), h.theta.copy()

    def loss_now() -> float:
        return held_out_loss(predict(h, records, testing, ws)[0, :, 0], member[held_out])

    def objective(h: Network, ws: Workspace, index: Any, count: int) -> Any:
        x, t = records.batch(index, ws)  # (1, 2 classes, B), (1, B)
        loss, dz = log_loss(h.forward(x, ws), t[:, None], count)
        h.backward(dz, ws)
        return loss

    history, patience = [loss_now()], max(MIN_PATIENCE, math.ceil(PATIENCE / math.ceil(training.size / batch)))
    with passes(h) as run, np.errstate(over="ignore", invalid="ignore"):  # the loss shows it
        for rate in RATES:
            run.assign(best)
            adam, stale, mark = Adam(), 0, min(history)
            while stale < patience and min(history) > target_loss:
                for index in order(training, batch, [generator]):  # (1, B)
                    run.run(objective, index)
                    adam.step(run.local, rate)
                loss = run.evaluate(loss_now)
                if not np.isfinite(loss):
                    raise DivergenceError(f"attack network: held-out loss {loss} in epoch {len(history)}")
                if loss < min(history):
                    best[...] = h.theta
                history.append(loss)
                stale, mark = (0, loss) if loss < (1 - min_improvement) * mark else (stale + 1, mark)
    h.theta[...] = best
    return h, np.array(history)


def held_out_share(member: np.ndarray, most: int | None = None) -> np.ndarray:
    """The last share HELD_OUT, one to `most`, of the members and of the non-members; (n,) bool. Raises ArgumentError
    where there are fewer than four of either."""
    held_out = np.zeros(len(member), bool)
    for rows in (np.flatnonzero(member), np.flatnonzero(~member)):
        if len(rows) < 4:
            raise ArgumentError(f"the attacker must know at least 4 members and 4 non-members, got {len(rows)}")
        held_out[rows[-round(HELD_OUT * len(rows)) :][-(most or len(rows)) :]] = True
    return held_out


def balanced(training: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The indices (n,) with the smaller class (members or non-members) oversampled evenly to the size of the larger:
    otherwise the network learns the ratio of the classes, not membership."""
    fewer, more = sorted((training[member[training] == of] for of in (True, False)), key=np.size)
    return np.concatenate([training, np.resize(fewer, more.size - fewer.size)])


def held_out_loss(z: np.ndarray, member: np.ndarray) -> float:
    """Log-loss of the logits z (n,) in float64, members and non-members weighing the same."""
    z = z.astype(np.float64)
    return float(0.5 * (np.logaddexp(0, -z[member]).mean() + np.logaddexp(0, z[~member]).mean()))


def attack_features(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions p (n, classes) beside the one-hot labels y (n,): (n, 2 classes) float32."""
    return np.concatenate([p, np.arange(p.shape[1]) == y[:, None]], axis=1).astype(np.float32)


def attack_scores(h: Network, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits of membership (n,), float64, for predictions p (n, classes) and labels y (n,)."""
    records = Records(attack_features(p, y), np.zeros(len(y)))
    return predict(h, records, np.arange(len(y))[None])[0, :, 0].astype(np.float64)

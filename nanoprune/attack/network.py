"""The attack network as the final adversary: trained on the attacker's own records until it stops improving."""

from __future__ import annotations

import numpy as np

from nanoprune.backend import to_device
from nanoprune.batch import Records, predict, shuffled
from nanoprune.errors import DivergenceError
from nanoprune.nn import Adam, Network, Workspace, log_loss
from nanoprune.zoo import attacker

PATIENCE = 20  # epochs without a lower held-out loss before the training ends
MAX_EPOCHS = 1000  # a bound on the time, not a rule: training ends long before


def fit_attack_network(
    p: np.ndarray,
    y: np.ndarray,
    member: np.ndarray,
    held_out: np.ndarray,
    generators: list[np.random.Generator],
    batch: int = 64,
    lr: float = 3e-4,
) -> tuple[Network, np.ndarray]:
    """Train one attack network for each replica on the records that are not held out; stop by those that are.

    p (R, n, classes): predictions for the attacker's records; y (R, n): their labels; member, held_out (n,) bool: the
    same for every replica. A replica keeps its network as it was at its lowest held-out log-loss, and its training
    ends when that has not fallen for PATIENCE epochs. Returns the networks and the held-out loss (R, epochs).
    Raises DivergenceError where that loss stops being finite.
    """
    R, n, classes = p.shape
    records = Records(attack_rows(p, y), np.tile(member, R).astype(np.float32))
    first = n * np.arange(R)[:, None]  # (R, 1): replica r's records are the rows n r to n (r + 1)
    training, testing = (first + np.flatnonzero(of) for of in (~held_out, held_out))  # (R, records)
    h = attacker(classes, R).initialise(generators)
    optimizer, ws = Adam(), Workspace()
    best, best_loss, stale, history = h.theta.copy(), np.full(R, np.inf), np.zeros(R, int), []
    while len(history) < MAX_EPOCHS and (stale < PATIENCE).any():
        for index in shuffled(training, batch, generators):  # (R, B)
            x, t = records.batch(to_device(index), ws)  # (R, 2 classes, B), (R, B)
            _, dz = log_loss(h.forward(x, ws), t[:, None])
            h.backward(dz, ws)
            optimizer.step(h, lr)
        z = predict(h, records, testing, ws.evaluation).swapaxes(1, 2)  # (R, 1, held out)
        loss = held_out_loss(z, member[held_out])
        if not np.isfinite(loss).all():
            raise DivergenceError(f"attack network: held-out loss {loss} in epoch {len(history) + 1}; lower its rate")
        history.append(loss)
        better = (loss < best_loss) & (stale < PATIENCE)
        for r in np.flatnonzero(better):
            best[r] = h.theta[r]
        best_loss, stale = np.where(better, loss, best_loss), np.where(better, 0, stale + 1)
    h.theta[...] = best
    return h, np.stack(history, axis=1)


def held_out_loss(z: np.ndarray, member: np.ndarray) -> np.ndarray:
    """Log-loss of the logits z (R, 1, n) in float64, members and non-members weighing the same; (R,)."""
    z = z[:, 0].astype(np.float64)
    return 0.5 * (np.logaddexp(0, -z[:, member]).mean(axis=1) + np.logaddexp(0, z[:, ~member]).mean(axis=1))


def attack_rows(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Predictions p (R, n, classes) beside the labels y (R, n) as unit vectors: (R n, 2 classes) float32."""
    onehot = np.arange(p.shape[2]) == y[..., None]
    return np.concatenate([p, onehot], axis=2).reshape(-1, 2 * p.shape[2]).astype(np.float32)


def attack_scores(h: Network, p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Logits of membership (R, n), float64: network r on the predictions p[r] (n, classes) and labels y[r] (n,)."""
    R, n, _ = p.shape
    index = np.arange(R * n).reshape(R, n)
    return predict(h, Records(attack_rows(p, y), np.zeros(R * n)), index)[..., 0].astype(np.float64)

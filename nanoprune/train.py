"""Algorithm 1: training with a game, a sparsity constraint, both, or neither.

    min_W  L_D(W) + lambda max_h G_W(h)    subject to    ||W_i||_0 <= k_i

ADMM splits the constraint off: the loop below is the W-step by stochastic gradient descent on

    L_D(W)  +  lambda max_h G_W(h)  +  rho/2 ||W - Z + U||^2

and at the end of each round of epochs come the Z-step and the U-step. Without a constraint it is ordinary training;
with a mask it retrains the survivors of a pruned network. A weight decay d adds d/2 ||theta||^2 (in the optimiser).
Where it is to be private, the gradient of L_D is that of DP-SGD, and what follows sees no record but through it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.backend import to_host, xp
from nanoprune.batch import Records, shuffled
from nanoprune.defend import DPSGD, MinMax
from nanoprune.defend.losses import CROSS_ENTROPY, loss_function
from nanoprune.errors import ArgumentError, DivergenceError
from nanoprune.lab.data.augment import augmentation
from nanoprune.lab.engine.passes import Passes
from nanoprune.lab.engine.process_group import Team
from nanoprune.nn import SGD, Network, Workspace, cross_entropy, schedule
from nanoprune.nn.layer import positive
from nanoprune.prune import ADMM, Mask


@dataclasses.dataclass(frozen=True)
class Schedule:
    """epochs of SGD in batches of `batch`, the last one smaller; learning rate `lr` over the epochs as `decay` says.

    lr: a number, or a tuple of one a replica.
    augment: what images of training batches pass through, see `augmentation`. loss: L_D by name, see `loss_function`.
    """

    epochs: int
    batch: int = 64
    lr: float | tuple[float, ...] = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: str = "constant"
    augment: str = "none"
    loss: str = CROSS_ENTROPY

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            positive(name, getattr(self, name))
        if not (0 <= self.momentum < 1 and 0 <= self.weight_decay < float("inf")):
            found = f"{self.momentum} and {self.weight_decay}"
            raise ArgumentError(f"momentum must lie in [0, 1) and weight_decay be at least 0, got {found}")
        self.rate(len(self.lr) if isinstance(self.lr, tuple) else 1)
        augmentation(self.augment)
        loss_function(self.loss)

    def rate(self, replicas: int) -> Callable[[float], Any]:
        """The learning rate by epoch: a number, or (R,). Raises ArgumentError unless there is one for each replica."""
        if isinstance(self.lr, tuple) and len(self.lr) != replicas:
            raise ArgumentError(f"lr must be one number or one for each of {replicas} replicas, got {len(self.lr)}")
        return schedule(self.decay, np.array(self.lr) if isinstance(self.lr, tuple) else self.lr, self.epochs)


def train(
    net: Network,
    records: Records,
    members: np.ndarray,
    plan: Schedule,
    generators: list[np.random.Generator],
    game: MinMax | None = None,
    admm: ADMM | None = None,
    mask: Mask | None = None,
    private: DPSGD | None = None,
    team: Team | None = None,
    on_epoch: Callable[[int, np.ndarray], None] | None = None,
    method: str = "training",
    stop_after: int | None = None,
    begin: Callable[[SGD, np.ndarray], int] | None = None,
) -> np.ndarray:
    """Train `net` in place on its members (R, M), indices into `records`; return the mean loss L_D, (R, epochs).

    Replica r draws the order of its batches from generators[r]. With `admm`, its iterations are spread evenly over the
    epochs. With `private`, batches are Poisson samples, and its own generators draw all that is drawn; the losses are
    then sums over a sample divided by its expected size. With a `team` of processes, all of them go through what stands
    here, each for its part of the samples of every batch, and for its columns of theta. on_epoch(epoch, losses so far)
    is called after each epoch, in all of them; stop_after: end early, after so many. begin(optimizer, losses) is called
    before the first epoch and says which one that is: where an earlier run was interrupted, it fills both with what
    they were (`lab.engine.training_state`). Raises DivergenceError, naming method, replica and iteration, at the end of an
    epoch in which a loss was not finite, ArgumentError where `DPSGD` does, and WorkerError, with its words, for
    whatever else ends another process of the team.
    """
    optimizer = SGD(plan.momentum, plan.weight_decay)
    rate, augment, L_D = plan.rate(net.replicas), augmentation(plan.augment), loss_function(plan.loss)
    updates = _update_epochs(plan.epochs, admm.settings.iterations) if admm else set()
    epochs = plan.epochs if stop_after is None else min(stop_after, plan.epochs)
    losses = np.empty((net.replicas, epochs))
    if private and plan.loss != CROSS_ENTROPY:
        raise ArgumentError(f"loss must be {CROSS_ENTROPY} with DP-SGD, got {plan.loss}")
    if private:
        generators = private.begin(net, members, plan.batch, mask, game)
    passes = Passes(net, team or Team(), generators, private is not None)
    optimizer.begin(net, passes.team.zeros)
    if game:
        game.begin(passes.team)
    first = begin(optimizer, losses) if begin else 0

    def objective(net: Network, ws: Workspace, index: Any, drawn: Any, count: int) -> Any:
        x, y = records.batch(index, ws)  # (R, ..., N), (R, N)
        logits = net.forward(augment(x, drawn, ws), ws)  # (R, classes, N)
        if private:
            loss, dlogits = cross_entropy(logits, y, private.batch, index >= 0)  # L_D(W)
        else:
            loss, dlogits = L_D(logits, y, count, ws, epoch)  # L_D(W)
        if game:
            dlogits += game.lam * game.gain_gradient(logits, y, ws, count)  # + lambda max_h G_W(h)
        net.backward(dlogits, ws)
        if private:
            private.clip(net, ws)  # sum_i of each record's gradient, at most C long
        return loss  # (R,)

    with passes, np.errstate(over="ignore", invalid="ignore"):
        mine = passes.mine  # all columns of theta, or those that this process updates
        for epoch in range(first, epochs):
            step_losses, sizes = [], []
            batches = private.batches() if private else shuffled(members, plan.batch, generators, records.block)
            for index in batches:  # (R, B)
                if game:
                    game.strengthen(net)  # h <- argmax_h G_W(h), some steps towards it
                step_losses.append(passes.run(objective, index, augment.draw(generators, index.shape[1])))
                sizes.append(private.batch if private else index.shape[1])
                if private:
                    private.add_noise(net, mine)  # + N(0, sigma^2 C^2)
                if admm:
                    admm.add_penalty_gradient(net, mine)  # + rho (W - Z + U)
                if mask:
                    mask.apply(net, mine)  # pruned weights stay zero
                optimizer.step(net, rate(epoch), mine)  # W-step
            passes.team.meet()  # from here to the next batch theta is whole
            losses[:, epoch] = _mean_loss(step_losses, sizes, epoch, method)
            _check_finite(net, epoch, method)
            if game:
                game.end_epoch()
            if epoch in updates:
                admm.update(net, losses[:, epoch])  # Z-step, U-step, residuals
            if on_epoch:
                on_epoch(epoch, losses[:, : epoch + 1])
    return losses


def _update_epochs(epochs: int, iterations: int) -> set[int]:
    """The epochs after which the Z- and U-steps come: `iterations` of them, evenly spread, the last after the last."""
    if iterations > epochs:
        raise ArgumentError(f"epochs must be at least the {iterations} ADMM iterations, got {epochs}")
    return {(i + 1) * epochs // iterations - 1 for i in range(iterations)}


def _mean_loss(step_losses: list, sizes: list[int], epoch: int, method: str) -> np.ndarray:
    """Mean over the records of an epoch, (R,); DivergenceError names the first step whose loss is not finite."""
    steps = to_host(xp.stack(step_losses))  # (steps, R)
    if not np.isfinite(steps).all():
        step, replica = np.argwhere(~np.isfinite(steps))[0]
        iteration = epoch * len(steps) + step + 1
        raise _diverged(
            ~np.isfinite(steps).all(axis=0),
            f"{method}: the loss of replica {replica} is {steps[step, replica]} at iteration {iteration} "
            f"(epoch {epoch + 1}); lower the learning rate, lambda or rho",
        )
    return np.average(steps, axis=0, weights=sizes)


def _check_finite(net: Network, epoch: int, method: str) -> None:
    """DivergenceError if the last step of the epoch left a parameter that is not finite: no loss has seen it yet."""
    finite = to_host(xp.isfinite(net.theta).all(axis=1))  # (R,)
    if not finite.all():
        raise _diverged(
            ~finite, f"{method}: a parameter is not finite after epoch {epoch + 1}; lower the learning rate"
        )


def _diverged(replicas: np.ndarray, message: str) -> DivergenceError:
    error = DivergenceError(message)
    error.replicas = tuple(np.flatnonzero(replicas).tolist())
    return error

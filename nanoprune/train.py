r"""Algorithm 1: training with the Min-Max game, a sparsity constraint, both, or neither.

$$\min_W\ L_D(W) + \lambda \max_h G_W(h) \quad \text{subject to} \quad \|W_i\|_0 \le k_i$$

ADMM splits the constraint off: the loop below is the W-step by stochastic gradient descent on
$$L_D(W) + \lambda \max_h G_W(h) + \tfrac{\rho}{2} \|W - Z + U\|^2,$$
and after each round of epochs come the Z-step and the U-step. Without a constraint it is ordinary training; with a mask
it retrains the survivors of a pruned network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nanoprune.defend import MinMax
from nanoprune.nn import SGD, Network, Workspace
from nanoprune.prune import ADMM, Mask
from nanoprune.records import Records
from nanoprune.run import Run
from nanoprune.schedule import Schedule


def train(
    net: Network,
    records: Records,
    members: np.ndarray,
    plan: Schedule,
    generators: list[np.random.Generator],
    game: MinMax | None = None,
    admm: ADMM | None = None,
    mask: Mask | None = None,
    run: Callable[..., Run] = Run,
) -> np.ndarray:
    """Train `net` in place on its members (R, M), indices into `records`; return the mean loss L_D, (R, epochs).

    Replica r draws the order of its batches from generators[r]. ADMM's iterations are spread evenly over the epochs.
    run: makes the `Run`, which handles batches, DP-SGD's sampling and noise, processes and resuming. Raises
    DivergenceError at the end of an epoch in which a loss was not finite, ArgumentError where arguments do not fit.
    """
    sgd = SGD(plan.momentum, plan.weight_decay)
    run = run(net, records, members, plan, generators, sgd, game, admm, mask)

    def objective(net: Network, ws: Workspace, index: Any, count: int) -> Any:
        x, y = run.batch(index, ws)  # (R, ..., N), (R, N)
        logits = net.forward(x, ws)  # (R, classes, N)
        loss, dlogits = run.loss(logits, y, index, ws, count)  # L_D(W)
        if game:
            dlogits += game.lam * game.gain_gradient(logits, y, ws, count)  # + lambda max_h G_W(h)
        net.backward(dlogits, ws)
        return loss  # (R,)

    with run:
        local = run.passes.local  # the network, or the part of it that this process updates
        for epoch in run.epochs():
            for index in run.batches():  # (R, B)
                if game:
                    game.maximise(net)  # h <- argmax_h G_W(h), some steps towards it
                run.gradient(objective, index)  # dW of L_D(W) + lambda max_h G_W(h)
                if admm:
                    admm.add_penalty_gradient(local)  # + rho (W - Z + U)
                if mask:
                    mask.apply(local)  # pruned weights stay zero
                sgd.step(local, run.rate(epoch))  # W-step
            loss = run.end_epoch()  # (R,)
            if epoch in run.updates:
                admm.update(net, loss)  # Z-step, U-step, residuals
    return run.losses

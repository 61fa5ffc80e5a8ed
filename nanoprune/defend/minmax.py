"""The Min-Max game of Nasr, Shokri & Houmansadr 2018 (arXiv 1807.05852)."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack.attacker import attacker
from nanoprune.backend import to_device, to_host, xp
from nanoprune.batch import Records
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.passes import Passes
from nanoprune.lab.engine.process_group import Team
from nanoprune.lab.storage.checkpoint import generators_state, restore_generators
from nanoprune.nn import Adam, Network, Workspace, log_loss, softmax
from nanoprune.nn.loss import one_hot


class MinMax:
    """The adversary h and its gain against the classifier,

        G_W(h) = 1/2 E_D[log h(p, y)] + 1/2 E_D'[log(1 - h(p, y))],    p = softmax(f_W(x)),

    D the members, D' the reference set. h maximises G: over a batch of as many members as reference records, -G is its
    log-loss. The classifier descends on lambda G. As in the authors' algorithm 1, its step takes the members' term of
    G: the reference records measure what h may know, and a gradient through them would make D' training data.

    members (R, M), reference (R, M'): indices into `records`. lam: lambda, a number or (R, 1, 1). inner_steps: steps of
    h before each step of the classifier. batch: records of each set in a step of h. generators: one a replica.
    history: for each epoch the mean log-loss and accuracy of h on its batches, (R,) each; a loss of log 2 = 0.693 and
    an accuracy of 1/2 are those of a dead adversary.
    """

    def __init__(
        self,
        records: Records,
        classes: int,
        members: np.ndarray,
        reference: np.ndarray,
        generators: list[np.random.Generator],
        lam: Any = 1.0,
        inner_steps: int = 1,
        batch: int = 64,
        lr: float = 1e-3,
    ) -> None:
        if not np.all((np.asarray(lam) >= 0) & np.isfinite(lam)):
            raise ArgumentError(f"lam must be finite and not negative, got {lam}")
        if inner_steps < 1:
            raise ArgumentError(f"inner_steps must be at least 1, got {inner_steps}; an idle adversary defends nothing")
        if reference.shape[-1] < 2:
            raise ArgumentError(f"reference must be at least 2 records, got {reference.shape[-1]}; the game needs D'")
        self.records, self.classes = records, classes
        self.lam = to_device(lam.astype(np.float32)) if isinstance(lam, np.ndarray) else lam
        self.members, self.reference, self.generators = members, reference, generators
        self.inner_steps, self.batch, self.lr = inner_steps, batch, lr
        self.h = attacker(classes, len(members)).initialise(generators)
        self.optimizer = Adam()
        self.passes = Passes(self.h, Team())
        self.history: list[tuple[np.ndarray, np.ndarray]] = []
        self.updates = 0  # steps that h has taken
        self._steps: list[Any] = []

    def begin(self, team: Team) -> None:
        """Make ready for a training whose batches the processes of `team` share out among themselves."""
        self.passes = Passes(self.h, team)
        self.optimizer.begin(self.h, team.zeros)

    def strengthen(self, f: Network) -> None:
        """`inner_steps` steps of h towards argmax_h G_W(h), against the classifier f as it stands."""

        def objective(h: Network, ws: Workspace, index: Any, member: Any, count: int) -> Any:
            x, y = self.records.batch(index, ws)
            p = softmax(f.forward(x, ws.evaluation))  # (R, classes, N)
            z = h.forward(attack_input(p, y), ws)  # (R, 1, N)
            loss, dz = log_loss(z, member[:, None], count)  # -G_W(h)
            h.backward(dz, ws)
            right = ((z[:, 0] > 0) == (member > 0.5)).sum(axis=-1) / count
            return xp.stack([loss, right])  # (2, R)

        for _ in range(self.inner_steps):
            members, reference = (self._draw(records) for records in (self.members, self.reference))  # (R, B) each
            index = np.stack([members, reference], axis=-1).reshape(len(members), -1)  # (R, 2 B), in turn
            member = np.tile(np.float32([1, 0]), members.shape)  # (R, 2 B)
            self._steps.append(self.passes.run(objective, index, member))
            self.optimizer.step(self.h, self.lr, self.passes.mine)
            self.updates += 1

    def gain_gradient(self, logits: Any, y: Any, ws: Workspace, count: int) -> Any:
        """d/dlogits of 1/2 E_D[log h(softmax(logits), y)] for members: logits (R, classes, N), y (R, N).

        With g = dG/dp from h's backward pass, dG/dlogits = p (g - sum_c p_c g_c): the softmax's Jacobian.
        """
        p = softmax(logits)
        z = self.h.forward(attack_input(p, y), ws)  # (R, 1, N)
        _, dz = log_loss(z, xp.ones_like(z), count)  # of -E_D[log h]
        dz *= -0.5
        g = self.h.backward(dz, ws, need_dX=True, need_dW=False)[:, : self.classes]  # (R, classes, N)
        return p * (g - (p * g).sum(axis=1, keepdims=True))

    def end_epoch(self) -> None:
        """Move the losses and accuracies of the epoch's steps into the history."""
        loss, right = to_host(xp.stack(self._steps)).mean(axis=0)
        self.history.append((loss, right))
        self._steps.clear()

    def state(self) -> dict[str, Any]:
        """h's parameters and optimiser, the generators, and the history (R, epochs) of loss and accuracy."""
        names = ("loss", "accuracy") if self.history else ()
        history = {name: np.stack([row[i] for row in self.history], axis=1) for i, name in enumerate(names)}
        state = {"theta": to_host(self.h.theta), "optimizer": self.optimizer.state(), "updates": self.updates}
        return state | {"generators": generators_state(self.generators), "history": history}

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back, at the end of an epoch."""
        self.h.theta[...] = to_device(saved.array("theta", self.h.theta.shape, self.h.theta.dtype))
        self.optimizer.restore(saved.part("optimizer"), self.h)
        self.updates = saved.value("updates", int, 0)
        restore_generators(self.generators, saved, "generators")
        history = saved.part("history")
        names = ("loss", "accuracy") if self.updates else ()
        self.history = list(zip(*(history.rows(name).T for name in names), strict=True))
        self._steps.clear()

    def _draw(self, records: np.ndarray) -> np.ndarray:
        """A batch (R, B) of records (R, M), drawn with replacement by each replica's generator."""
        rows = [g.integers(records.shape[1], size=self.batch) for g in self.generators]
        return np.take_along_axis(records, np.stack(rows), axis=1)


def attack_input(p: Any, y: Any) -> Any:
    """What the attack network sees: predictions p (R, classes, N) above the labels y (R, N) as unit vectors."""
    return xp.concatenate([p, one_hot(y, p.shape[1], p.dtype)], axis=1)  # (R, 2 classes, N)

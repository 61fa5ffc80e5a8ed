"""The Min-Max game of Nasr, Shokri & Houmansadr 2018 (arXiv 1807.05852)."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.attack.attack_network import attack_input, attacker
from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn import Adam, Network, Passes, Workspace, log_loss, softmax
from nanoprune.records import Records


class MinMax:
    r"""The adversary h and its gain against the classifier f_W,
    $$G_W(h) = \tfrac12 E_D[\log h(p, y)] + \tfrac12 E_{D'}[\log(1 - h(p, y))], \quad p = \mathrm{softmax}(f_W(x)),$$
    D the members, D' the reference set. h maximises G: over a batch of as many members as reference records, -G is its
    log-loss. The classifier descends on lambda G. As in the authors' algorithm 1, its step takes the members' term of
    G: the reference records measure what h may know, and a gradient through them would make D' training data.

    members (R, M), reference (R, M'): indices into `records`. lam: lambda, a number or (R, 1, 1). inner_steps: steps of
    h before each step of the classifier. batch: records of each set in a step of h. generators: one per replica.
    history: for each epoch the mean log-loss and accuracy of h on its batches, (R,) each; an adversary at chance has a
    loss of log 2 = 0.693 and an accuracy of 1/2.
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
            raise ArgumentError(f"inner_steps must be at least 1, got {inner_steps}: the adversary must be trained")
        if reference.shape[1] < 2:
            raise ArgumentError(f"reference must be at least 2 records, got {reference.shape[1]}; the game needs D'")
        self.records, self.classes = records, classes
        self.lam = to_device(lam.astype(np.float32)) if isinstance(lam, np.ndarray) else lam
        self.members, self.reference, self.generators = members, reference, generators
        self.inner_steps, self.batch, self.lr = inner_steps, batch, lr
        self.h = attacker(classes, len(members)).initialise(generators)
        self.passes, self.adam = Passes(self.h), Adam()
        self.history: list[tuple[np.ndarray, np.ndarray]] = []
        self.steps: list[Any] = []  # loss and accuracy of each step in this epoch, (2, R)

    def maximise(self, f: Network) -> None:
        r"""`inner_steps` steps of h towards $\max_h G_W(h)$, against the current classifier f."""

        def objective(h: Network, ws: Workspace, index: Any, member: Any, count: int) -> Any:
            x, y = self.records.batch(index, ws)
            p = softmax(f.forward(x, ws.evaluation))  # (R, classes, N)
            z = h.forward(attack_input(p, y), ws)  # (R, 1, N)
            loss, dz = log_loss(z, member[:, None], count)  # -G_W(h)
            h.backward(dz, ws)
            right = ((z[:, 0] > 0) == (member > 0)).sum(axis=1) / count
            return xp.stack([loss, right])  # (2, R)

        for _ in range(self.inner_steps):
            members, reference = self._draw(self.members), self._draw(self.reference)  # (R, B) each
            index = np.stack([members, reference], axis=-1).reshape(len(members), -1)  # (R, 2 B), alternating
            member = np.tile(np.float32([1, 0]), members.shape)  # (R, 2 B)
            self.steps.append(self.passes.run(objective, index, member))
            self.adam.step(self.passes.local, self.lr)

    def gain_gradient(self, logits: Any, y: Any, ws: Workspace, count: int) -> Any:
        r"""$\partial/\partial z$ of $\tfrac12 E_D[\log h(\mathrm{softmax}(z), y)]$ for members; like the logits z.

        logits z (R, classes, N), y (R, N). With $g = \partial G/\partial p$ from h's backward pass, the Jacobian of the
        softmax gives $\partial G/\partial z = p\,(g - \sum_c p_c g_c)$.
        """
        p = softmax(logits)
        z = self.h.forward(attack_input(p, y), ws)  # (R, 1, N)
        _, dz = log_loss(z, xp.ones_like(z), count)  # of -E_D[log h]
        dz *= -0.5
        g = self.h.backward(dz, ws, need_dX=True, need_dW=False)[:, : self.classes]  # (R, classes, N)
        return p * (g - (p * g).sum(axis=1, keepdims=True))

    def end_epoch(self) -> None:
        """Move the losses and accuracies of the epoch's steps into the history."""
        loss, right = to_host(xp.stack(self.steps)).mean(axis=0)
        self.history.append((loss, right))
        self.steps.clear()

    def _draw(self, records: np.ndarray) -> np.ndarray:
        """A batch (R, B) of records (R, M), drawn with replacement by each replica's generator."""
        rows = [g.integers(records.shape[1], size=self.batch) for g in self.generators]
        return np.take_along_axis(records, np.stack(rows), axis=1)

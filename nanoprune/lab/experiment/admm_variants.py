"""Two variants of ADMM that the one of `nanoprune.prune` is compared with: another order, and momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.lab.engine.states import restore, solver_history, state_of
from nanoprune.lab.storage.checkpoint import Saved, State
from nanoprune.nn import Network
from nanoprune.prune import ADMM
from nanoprune.prune.admm import Iteration, norm


class OrderZWU(ADMM):
    r"""ADMM in the order Z, W, U: the first Z is $\Pi(W)$, and after each W-step $U \leftarrow U + W - Z$, then
    $Z \leftarrow \Pi(W + U)$.

    U is updated with the Z that W was pulled to, so that $\rho U = -\nabla L(W)$ after an exact W-step. For that order
    and step the augmented Lagrangian decreases where $\rho > 2 l$, l the Lipschitz constant of the gradient
    (`nanoprune.lab.verify.theory` checks it).
    """

    def update(self, net: Network, loss: Any) -> Iteration:
        """The U-step with the Z of this round, the next round's Z-step, and the residuals."""
        self.U += net.W
        self.U -= self.Z
        return self._end_round(net.W, self.budget.project(net.W + self.U), loss)


class FastADMM(OrderZWU):
    r"""ADMM (order W, Z, U) with Nesterov's momentum and restarts (Goldstein, O'Donoghue, Setzer & Baraniuk 2014, "Fast
    alternating direction optimization methods", algorithm 8), with the scaled U.

    The W-step is pulled to $\hat Z - \hat U$. After it

        $Z_k = \Pi(W_k + \hat U_k), \quad U_k = \hat U_k + W_k - Z_k$
        $c_k = \rho\, (\|U_k - \hat U_k\|^2 + \|Z_k - \hat Z_k\|^2)$
        if $c_k < \eta c_{k-1}$:  $\alpha' = (1 + \sqrt{1 + 4 \alpha^2}) / 2, \quad \beta = (\alpha - 1) / \alpha'$
        otherwise:           $\alpha' = 1, \quad \beta = -1, \quad c_k = c_{k-1} / \eta$
        $\hat Z = Z_k + \beta (Z_k - Z_{k-1}), \quad \hat U = U_k + \beta (U_k - U_{k-1})$

    with $\eta = 0.999$ and $\alpha = 1$ at first, replica by replica. The proofs are for convex problems, which this
    one is not. Z is sparse, $\hat Z$ need not be. Raises ArgumentError where rho is to be adapted.
    """

    ETA = 0.999

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.settings.adaptive:
            raise ArgumentError("adaptive must be False for ADMM with momentum, whose rho is constant, got True")
        self.Z_hat, self.U_hat = self.Z.copy(), self.U.copy()  # (R, n)
        self.alpha, self.c = np.ones(len(self.rho)), np.full(len(self.rho), 1e300)  # (R,)

    def update(self, net: Network, loss: Any) -> Iteration:
        """Z-step, U-step, momentum or restart, and the residuals."""
        Z_previous, U_previous = self.Z, self.U
        Z = self.budget.project(net.W + self.U_hat)
        self.U = self.U_hat + net.W - Z
        c = self.rho * (norm(self.U - self.U_hat) ** 2 + norm(Z - self.Z_hat) ** 2)  # (R,)
        fell = c < self.ETA * self.c  # (R,)
        alpha = np.where(fell, (1 + np.sqrt(1 + 4 * self.alpha**2)) / 2, 1.0)
        beta = xp.asarray(np.where(fell, (self.alpha - 1) / alpha, -1.0)[:, None], dtype=Z.dtype)  # (R, 1)
        self.alpha, self.c = alpha, np.where(fell, c, self.c / self.ETA)
        self.Z_hat, self.U_hat = Z + beta * (Z - Z_previous), self.U + beta * (self.U - U_previous)
        row = self._end_round(net.W, Z, loss)
        self.target = self.Z_hat - self.U_hat
        return row


@state_of.register
def _(admm: FastADMM) -> State:
    """As of ADMM, and Z_hat, U_hat (R, n), alpha, c (R,)."""
    arrays = {name: to_host(getattr(admm, name)) for name in ("Z", "U", "Z_hat", "U_hat")}
    return solver_history(admm) | arrays | {"alpha": admm.alpha, "c": admm.c}


@restore.register
def _(admm: FastADMM, saved: Saved, net: Network) -> None:
    restore.dispatch(ADMM)(admm, saved, net)
    if "Z_hat" in saved:
        admm.Z_hat, admm.U_hat = (to_device(saved.array(of, net.W.shape, net.W.dtype)) for of in ("Z_hat", "U_hat"))
        admm.alpha, admm.c = (saved.array(of, admm.rho.shape, admm.rho.dtype) for of in ("alpha", "c"))
        admm.target = admm.Z_hat - admm.U_hat

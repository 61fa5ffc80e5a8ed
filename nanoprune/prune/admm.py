"""ADMM for training under a cardinality constraint (Boyd et al. 2011, sections 3.1.1 and 9.1; Zhang et al. 2018)."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np

from nanoprune.backend import to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.formula import Formula
from nanoprune.nn.layer import positive
from nanoprune.nn.network import Network
from nanoprune.prune.budget import Budget


class Status(enum.Enum):
    """How a run of the solver ended. The constraint set is not convex: no status means that a minimum was found."""

    RUNNING = "running"
    CONVERGED = "converged"  # both residuals are within their tolerances
    MAX_ITERATIONS = "max_iterations"


@dataclasses.dataclass(frozen=True)
class ADMMSettings:
    """rho: penalty. iterations: number of Z-steps. eps_abs, eps_rel: tolerances (Boyd et al., section 3.3.1).

    adaptive: rescale rho by `factor` whenever one residual is more than `ratio` times the other (section 3.4.1).
    """

    rho: float = 1e-2
    iterations: int = 10
    eps_abs: float = 1e-4
    eps_rel: float = 1e-2
    adaptive: bool = False
    ratio: float = 10.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        positive("iterations", self.iterations)
        if not (np.isfinite(self.rho) and self.rho > 0):
            raise ArgumentError(f"rho must be positive and finite, got {self.rho!r}")
        for name, least in (("ratio", 1), ("factor", 1), ("eps_abs", 0), ("eps_rel", 0)):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= least):
                raise ArgumentError(f"{name} must be at least {least} and finite, got {getattr(self, name)!r}")


@dataclasses.dataclass
class Iteration:
    """One line of the solver's history; arrays are (R,), one entry per replica."""

    iteration: int
    loss: np.ndarray  # mean training loss of the W-step
    primal: np.ndarray  # ||W - Z||
    dual: np.ndarray  # rho ||Z - Z_previous||
    eps_primal: np.ndarray
    eps_dual: np.ndarray
    rho: np.ndarray
    nonzero: np.ndarray  # of Z
    changed: np.ndarray  # entries that entered or left the support


@Formula
def penalty_gradient(dW, W, target, *, rho):
    dW += rho * (W - target)


class ADMM:
    r"""Scaled ADMM for $\min L(W)$ subject to $W \in S$, where S is the constraint set of a `Budget`:

        W-step   $W \leftarrow \mathrm{argmin}\ L(W) + \tfrac{\rho}{2} \|W - Z + U\|^2$     (epochs of SGD)
        Z-step   $Z \leftarrow \Pi(W + U)$
        U-step   $U \leftarrow U + W - Z$, the dual update

    W, Z, U are (R, n), rho and the residuals (R,): every replica is an independent problem.
    """

    def __init__(self, net: Network, budget: Budget, settings: ADMMSettings | None = None) -> None:
        self.budget, self.settings = budget, settings or ADMMSettings()
        self.rho = np.full(net.replicas, self.settings.rho)
        self.Z = budget.project(net.W)
        self.U = xp.zeros_like(self.Z)
        self.target = self.Z  # Z - U, towards which the penalty pulls W
        self.history: list[Iteration] = []
        self.status = [Status.RUNNING] * net.replicas

    def add_penalty_gradient(self, net: Network) -> None:
        r"""$dW \mathrel{+}= \rho (W - Z + U)$, the gradient of $\tfrac{\rho}{2} \|W - Z + U\|^2$."""
        net.apply(penalty_gradient, net.dW, net.W, self.target, rho=self.rho)

    def update(self, net: Network, loss: Any) -> Iteration:
        """Z-step, U-step and residuals after a W-step whose mean training loss was `loss` (R,)."""
        Z = self.budget.project(net.W + self.U)
        self.U += net.W
        self.U -= Z
        return self._end_round(net.W, Z, loss)

    def _end_round(self, W: Any, Z: Any, loss: Any) -> Iteration:
        """self.Z <- Z: residuals, statuses, rho, and the target of the next W-step."""
        Z_previous, self.Z = self.Z, Z
        row = self._residuals(W, Z_previous, np.asarray(loss))
        self.history.append(row)
        within = (row.primal <= row.eps_primal) & (row.dual <= row.eps_dual)
        ended = Status.MAX_ITERATIONS if row.iteration >= self.settings.iterations else Status.RUNNING
        self.status = [Status.CONVERGED if ok else ended for ok in within]
        if self.settings.adaptive:
            self._balance(row)
        self.target = self.Z - self.U
        return row

    def _residuals(self, W: Any, Z_previous: Any, loss: np.ndarray) -> Iteration:
        """Residuals and their tolerances (Boyd et al., section 3.3.1)."""
        rho, s, root_n = self.rho, self.settings, np.sqrt(W.shape[1])
        return Iteration(
            iteration=len(self.history) + 1,
            loss=loss,
            primal=norm(W - self.Z),
            dual=rho * norm(self.Z - Z_previous),
            eps_primal=root_n * s.eps_abs + s.eps_rel * np.maximum(norm(W), norm(self.Z)),
            eps_dual=root_n * s.eps_abs + s.eps_rel * rho * norm(self.U),
            rho=rho.copy(),
            nonzero=to_host((self.Z != 0).sum(axis=1)),
            changed=to_host(((self.Z != 0) != (Z_previous != 0)).sum(axis=1)),
        )

    def _balance(self, row: Iteration) -> None:
        """rho *= c where the primal residual is much larger, /= c where the dual is; the scaled dual: U /= c."""
        ratio, factor = self.settings.ratio, self.settings.factor
        c = np.where(row.primal > ratio * row.dual, factor, np.where(row.dual > ratio * row.primal, 1 / factor, 1.0))
        self.rho *= c
        self.U /= xp.asarray(c[:, None])


def norm(A: Any) -> np.ndarray:
    """Euclidean norm of each row of A (R, n), in float64 on the host; (R,)."""
    return np.sqrt(np.array([float(xp.dot(row, row)) for row in A.astype(np.float64)]))

"""ADMM for training under a cardinality constraint (Boyd et al. 2011, section 3.1.1 and 9.1; Zhang et al. 2018)."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.errors import ArgumentError
from nanoprune.nn.network import ALL, Network
from nanoprune.prune.budget import Budget


class Status(enum.Enum):
    """How the solver stands. The constraint set is not convex: none of these says that a minimum was found."""

    RUNNING = "running"
    CONVERGED = "converged"  # both residuals are within their tolerances
    MAX_ITERATIONS = "max_iterations"


@dataclasses.dataclass(frozen=True)
class ADMMSettings:
    """rho: penalty. iterations: number of Z-steps; all are made, and the status says how things stand after each.

    eps_abs, eps_rel: tolerances of the residuals (Boyd et al., section 3.3.1).
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
        if not (np.isfinite(self.rho) and self.rho > 0):
            raise ArgumentError(f"rho must be positive and finite, got {self.rho!r}")
        for name in ("ratio", "factor"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 1):
                raise ArgumentError(f"{name} must be at least 1 and finite, got {getattr(self, name)!r}")
        for name in ("eps_abs", "eps_rel"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ArgumentError(f"{name} must not be negative, got {getattr(self, name)!r}")
        if not isinstance(self.iterations, int) or self.iterations < 1:
            raise ArgumentError(f"iterations must be an integer of at least 1, got {self.iterations!r}")


@dataclasses.dataclass
class Iteration:
    """One line of the solver's history; arrays are (R,), one entry a replica."""

    iteration: int
    loss: np.ndarray  # mean training loss of the W-step
    primal: np.ndarray  # ||W - Z||
    dual: np.ndarray  # rho ||Z - Z_previous||
    eps_primal: np.ndarray
    eps_dual: np.ndarray
    rho: np.ndarray
    nonzero: np.ndarray  # of Z
    changed: np.ndarray  # entries of the support that came or went

    HEADER = f"{'iter':>4} {'loss':>10} {'primal':>10} {'eps_pri':>10} {'dual':>10} {'eps_dual':>10} {'rho':>9} " + (
        f"{'nonzero':>9} {'changed':>8}"
    )

    def line(self) -> str:
        """The iteration in one line, as means over the replicas."""
        reals = (self.loss, self.primal, self.eps_primal, self.dual, self.eps_dual)
        return (
            f"{self.iteration:4d} "
            + " ".join(f"{np.mean(value):10.4g}" for value in reals)
            + f" {np.mean(self.rho):9.3g} {np.mean(self.nonzero):9.0f} {np.mean(self.changed):8.0f}"
        )


class ADMM:
    """Scaled ADMM for   min L(W)  subject to  W in S,   S the set of a `Budget`:

        W-step   W <- argmin L(W) + rho/2 ||W - Z + U||^2     (the caller's epochs of SGD, with add_penalty_gradient)
        Z-step   Z <- Pi(W + U)
        U-step   U <- U + W - Z

    All of W, Z, U are (R, n), rho and the residuals (R,): every replica is a problem of its own.
    """

    def __init__(self, net: Network, budget: Budget, settings: ADMMSettings | None = None) -> None:
        self.budget, self.settings = budget, settings or ADMMSettings()
        self.rho = np.full(net.replicas, self.settings.rho)
        self.Z = budget.project(net.W)
        self.U = xp.zeros_like(self.Z)
        self.history: list[Iteration] = []
        self.status = [Status.RUNNING] * net.replicas
        self._prepare()

    def add_penalty_gradient(self, net: Network, columns: slice = ALL) -> None:
        """dW += rho (W - Z + U), the gradient of rho/2 ||W - Z + U||^2; or some columns of it."""
        W, dW, target, penalty = (of[:, columns] for of in (net.W, net.dW, self._target, self._penalty))
        xp.subtract(W, target, out=penalty)  # W - (Z - U)
        penalty *= self._rho
        dW += penalty

    def update(self, net: Network, loss: Any) -> Iteration:
        """Z-step, U-step and residuals after a W-step whose mean training loss was `loss` (R,)."""
        W, Z_previous = net.W, self.Z
        self.Z = self.budget.project(W + self.U)
        self.U += W
        self.U -= self.Z
        primal, dual = norm(W - self.Z), self.rho * norm(self.Z - Z_previous)
        root_n, abs_, rel = np.sqrt(W.shape[1]), self.settings.eps_abs, self.settings.eps_rel
        row = Iteration(
            iteration=len(self.history) + 1,
            loss=np.asarray(loss),
            primal=primal,
            dual=dual,
            eps_primal=root_n * abs_ + rel * np.maximum(norm(W), norm(self.Z)),
            eps_dual=root_n * abs_ + rel * self.rho * norm(self.U),
            rho=self.rho.copy(),
            nonzero=to_host((self.Z != 0).sum(axis=1)),
            changed=to_host(((self.Z != 0) != (Z_previous != 0)).sum(axis=1)),
        )
        self.history.append(row)
        self._set_status(row)
        if self.settings.adaptive:
            self._balance(primal, dual)
        self._prepare()
        return row

    def state(self, whole: bool = True) -> dict[str, Any]:
        """rho (R,), status, history: name -> (R, iterations); with `whole` also Z and U (R, n)."""
        history = {name: np.stack([getattr(row, name) for row in self.history], axis=1) for name in self._recorded()}
        record = {"rho": self.rho, "status": [status.value for status in self.status], "history": history}
        return record | ({"Z": to_host(self.Z), "U": to_host(self.U)} if whole else {})

    def restore(self, saved: Any, net: Network) -> None:
        """Take a state back. Where it is none of this solver's, raises DataError, KeyError or ValueError, which
        `run.course.Course` puts into one line."""
        self.rho = saved.array("rho", self.rho.shape, self.rho.dtype)
        self.status = [Status(value) for value in saved.each("status", str)]
        rows = saved.part("history")
        columns = {name: rows.rows(name, most=self.settings.iterations).T for name in rows.values}
        made = len(columns["loss"]) if columns else 0
        self.history = [Iteration(i + 1, **{name: of[i].copy() for name, of in columns.items()}) for i in range(made)]
        if "Z" in saved:
            self.Z, self.U = (to_device(saved.array(name, net.W.shape, net.W.dtype)) for name in "ZU")
            self._prepare()

    def _recorded(self) -> list[str]:
        return [field.name for field in dataclasses.fields(Iteration)[1:]] if self.history else []

    def _set_status(self, row: Iteration) -> None:
        within = (row.primal <= row.eps_primal) & (row.dual <= row.eps_dual)
        last = row.iteration >= self.settings.iterations
        self.status = [Status.CONVERGED if ok else Status.MAX_ITERATIONS if last else Status.RUNNING for ok in within]

    def _balance(self, primal: np.ndarray, dual: np.ndarray) -> None:
        """rho *= c where the primal residual is much larger, /= c where the dual is; the scaled dual: U /= c."""
        ratio, factor = self.settings.ratio, self.settings.factor
        c = np.where(primal > ratio * dual, factor, np.where(dual > ratio * primal, 1 / factor, 1.0))
        self.rho *= c
        self.U /= _column(c, self.U)

    def _prepare(self) -> None:
        """What the W-step needs at each of its many steps, once: Z - U, and rho on the device."""
        self._target = self.Z - self.U
        self._rho = _column(self.rho, self.Z)
        self._penalty = xp.empty_like(self.Z)


def norm(A: Any) -> np.ndarray:
    """Euclidean norm of each row of A (R, n), in float64 on the host; (R,)."""
    return np.sqrt(np.array([float(xp.dot(row, row)) for row in A.astype(np.float64)]))


def _column(values: np.ndarray, like: Any) -> Any:
    """(R,) on the host as (R, 1) on the device, in the dtype of `like`."""
    return xp.asarray(values[:, None], dtype=like.dtype)

"""Hyperparameters of the defences that are compared with pruning: the simple ones, and DP-SGD."""

from __future__ import annotations

import dataclasses

from nanoprune.errors import ArgumentError
from nanoprune.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class DefenceSettings:
    """Hyperparameters of the simple defences in `defences.py`; docs/results.md reports their results.

    l2: weight decay of the dense training. dropout: rate. smoothing: the probability mass that is spread over all
    classes. relaxloss: alpha, the target loss on the members. relaxloss_upper: None for the paper's algorithm, or the
    bound on the soft label for the loss of the authors' code (`defend.relaxloss`). temperature: T > 1, by which logits
    are divided. memguard: the budget, an upper bound on the expected L1 distance between the returned output and the
    network's own; 2 or more is no bound. ppb: lambda of pair-based posterior balancing (`defend.ppb`); its authors'
    code has 4. distil: T, the temperature of distillation (`distil`). selena: K, how many sub-models Split-AI has, and
    L, how many of them a record is kept from (`selena`); its authors' numbers.
    past: lambda of the penalty on weights that the loss gap depends on (`past`).
    """

    l2: float = 5e-3
    dropout: float = 0.5
    smoothing: float = 0.1
    relaxloss: float = 0.5
    relaxloss_upper: float | None = None
    temperature: float = 4.0
    memguard: float = 1.0
    ppb: float = 4.0
    distil: float = 1.0
    selena: tuple[int, int] = (25, 10)
    past: float = 3e-4

    def __post_init__(self) -> None:
        if not 1.0 < self.temperature < float("inf"):
            raise ArgumentError(f"temperature must be above 1, got {self.temperature}")
        if self.relaxloss_upper is not None and not 0.0 < self.relaxloss_upper <= 1.0:
            raise ArgumentError(f"relaxloss_upper must lie in (0, 1] or be None, got {self.relaxloss_upper}")
        if not 0.0 <= self.memguard < float("inf"):
            raise ArgumentError(f"memguard must be a budget of at least 0, got {self.memguard}")
        if not 0.0 <= self.ppb < float("inf"):
            raise ArgumentError(f"ppb must be a lambda of at least 0, got {self.ppb}")
        if not 0.0 < self.distil < float("inf"):
            raise ArgumentError(f"distil must be a positive temperature, got {self.distil}")
        if not 0.0 <= self.past < float("inf"):
            raise ArgumentError(f"past must be a lambda of at least 0, got {self.past}")
        K, L = self.selena
        if not 0 < L < K:
            raise ArgumentError(f"selena must be K models and 0 < L < K of them without a record, got {K} and {L}")


@dataclasses.dataclass(frozen=True)
class Private:
    """Hyperparameters of the methods with DP-SGD (`defend.DPSGD`), which run at each of the `epsilons`.

    epochs: the same for every method, so that all take the same number of steps and, at equal epsilon, have the same
    noise. Where a network is pruned during training, dense training, the W-steps of ADMM and retraining have a third
    each. batch: expected size of a Poisson sample. rho: penalty of ADMM, whose loss gradient is clipped.
    """

    epsilons: tuple[float, ...] = (8.0,)
    delta: float = 1e-5
    clip: float = 1.0
    clipping: str = "flat"
    epochs: int = 30
    batch: int = 128
    lr: float = 0.5
    momentum: float = 0.0
    rho: float = 0.01

    def __post_init__(self) -> None:
        if not all(0 < epsilon < float("inf") for epsilon in self.epsilons):
            raise ArgumentError(f"epsilon must be positive and finite, got {' '.join(map(str, self.epsilons))}")
        if not 0 < self.clip < float("inf"):
            raise ArgumentError(f"clip must be positive and finite, got {self.clip}")
        if not 0 < self.delta < 1:
            raise ArgumentError(f"delta must lie in (0, 1), got {self.delta}")
        if not isinstance(self.epochs, int) or self.epochs < 3:
            raise ArgumentError(f"epochs of DP-SGD must be at least 3, got {self.epochs}")

    @property
    def thirds(self) -> tuple[int, int, int]:
        """Epochs of dense training, of ADMM and of retraining."""
        third = self.epochs // 3
        return self.epochs - 2 * third, third, third

    def plan(self, epochs: int) -> Schedule:
        """The schedule of a phase."""
        return Schedule(epochs, self.batch, self.lr, self.momentum)

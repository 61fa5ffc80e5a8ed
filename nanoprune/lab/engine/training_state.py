"""The progress of a shard's training: saved in checkpoints and resumed with the same bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.errors import DataError
from nanoprune.lab.engine import interrupt
from nanoprune.lab.engine.states import restore, solver_history, state_of
from nanoprune.lab.storage.checkpoint import Saved, Slot, State, generators_state, restore_generators


class TrainingState:
    """The phases of a shard's training, each a call of `train`, and the epochs of each.

    A shard that resumes makes the same calls as one that starts. Finished phases are skipped; the unfinished one begins
    at the epoch that was reached, with the parameters, optimiser, generators and other participants restored. `saved`:
    the state of an earlier run, until it is restored.
    """

    def __init__(self, shard: Any, slot: Slot | None, saved: Saved | None) -> None:
        self.shard, self.slot, self.saved = shard, slot, saved
        self.phase = -1
        self.solvers: list[Any] = []  # the ADMM of each phase that has one
        self.participants: dict[str, Any] = {}  # by name: everything with a state in the current phase
        self.losses: Any = None  # of the current phase, (R, epochs)

    def skips(self, epochs: int, admm: Any) -> bool:
        """Begin a new phase of `epochs` epochs. Returns whether an earlier run has finished it; then the history of its
        solver is restored."""
        self.phase += 1
        if admm:
            self.solvers.append(admm)
        if self.saved is None or self.saved.value("phase", int, 0) <= self.phase:
            return False
        if admm:
            with _one_line(self.saved):
                self._restore_solver(admm, self.saved)
        self.shard.advance(epochs * self.shard.net.replicas)
        return True

    def begin(self, sgd: Any, losses: np.ndarray, **participants: Any) -> int:
        """The epoch at which the phase begins: 0, or the one that an earlier run had reached, with its state restored.

        participants: further objects with a state in this phase, such as the game, or None.
        """
        self.participants = {name: of for name, of in {"optimizer": sgd, **participants}.items() if of is not None}
        self.losses = losses
        if self.saved is None:
            return 0
        saved, self.saved = self.saved, None
        with _one_line(saved):
            return self._restore(saved)

    def end_epoch(self, epoch: int) -> None:
        """Write a checkpoint where one is due, or a signal asked to stop; in that case raise Stopped afterwards."""
        if self.slot and (self.slot.due() or interrupt.stop_requested()):
            self.slot.save(self.state(epoch + 1))
        interrupt.raise_if_stopping()

    def state(self, epoch: int) -> State:
        """Everything that the next epochs depend on after the first `epoch` of this phase, and the records so far."""
        shard, current = self.shard, self.participants.get("admm")
        solvers = [state_of(solver) if solver is current else solver_history(solver) for solver in self.solvers]
        return {
            "phase": self.phase,
            "epoch": epoch,
            "net": state_of(shard.net),
            **({"kept": state_of(shard.kept)} if shard.kept else {}),
            "generators": generators_state(shard.generators),
            "losses": self.losses[:, :epoch],
            "curves": shard.recorded(),
            "solvers": {str(i): state for i, state in enumerate(solvers)},
            "parts": {name: state_of(of) for name, of in self.participants.items() if name != "admm"},
        }

    def _restore(self, saved: Saved) -> int:
        """Restore everything; return the number of finished epochs of this phase."""
        shard = self.shard
        epoch = saved.value("epoch", int, 1, self.losses.shape[1])
        restore(shard.net, saved.part("net"), shard.net)
        if shard.kept:
            restore(shard.kept, saved.part("kept"), shard.net)
        restore_generators(shard.generators, saved, "generators")
        self.losses[:, :epoch] = saved.array("losses", (shard.net.replicas, epoch), np.float64)
        shard.curves = {name: list(rows.T) for name, rows in curves_of(saved).items()}
        for name, participant in self.participants.items():
            if name == "admm":
                self._restore_solver(participant, saved)
            else:
                restore(participant, saved.part("parts").part(name), shard.net)
        shard.advance(epoch * shard.net.replicas)
        return epoch

    def _restore_solver(self, admm: Any, saved: Saved) -> None:
        place = next(i for i, solver in enumerate(self.solvers) if solver is admm)
        restore(admm, saved.part("solvers").part(str(place)), self.shard.net)
        for iteration in admm.history:
            self.shard.solved(iteration)


@contextlib.contextmanager
def _one_line(saved: Saved) -> Iterator[None]:
    """Turn the errors of a state that does not fit into one line that names the file."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{saved.where}: cannot be resumed from ({error}); delete it") from error


def curves_of(saved: Saved) -> dict[str, np.ndarray]:
    """The curves that were recorded, name -> (R, n)."""
    curves = saved.part("curves")
    return {name: curves.rows(name) for name in curves.values}

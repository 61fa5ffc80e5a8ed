"""How far a shard's training has come, kept in checkpoints, and taken up there with the same bits."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host
from nanoprune.errors import DataError
from nanoprune.lab.engine import interrupt
from nanoprune.lab.storage.checkpoint import Saved, Slot, State, generators_state, restore_generators
from nanoprune.nn import Network


def network_state(net: Network) -> State:
    """theta (R, P) and state (R, S) of a network."""
    return {"theta": to_host(net.theta), "state": to_host(net.state)}


def restore_network(net: Network, saved: Saved) -> None:
    """Write them into a network of the same architecture."""
    for name in ("theta", "state"):
        values = getattr(net, name)
        values[...] = to_device(saved.array(name, values.shape, values.dtype))


class Course:
    """The phases of a shard's training, each a call of `train`, and the epochs of each.

    A shard that goes on runs through the same calls as one that begins: phases that were finished are passed over, and
    the one that was not begins at the epoch that was reached, with everything as it was then: parameters, optimiser,
    generators, and the states of what else takes part in it. `saved`: the state of an earlier run, until it is reached.
    """

    def __init__(self, shard: Any, slot: Slot | None, saved: Saved | None) -> None:
        self.shard, self.slot, self.saved = shard, slot, saved
        self.phase = -1
        self.solvers: list[Any] = []  # the ADMM of each phase that has one
        self.parts: dict[str, Any] = {}  # of the phase at work, by name: what has a state beside the shard
        self.losses: Any = None  # of the phase at work, (R, epochs)

    def passes_over(self, epochs: int, admm: Any) -> bool:
        """A new phase of so many epochs begins: has an earlier run finished it? Its solver then has its history."""
        self.phase += 1
        if admm:
            self.solvers.append(admm)
        if self.saved is None or self.saved.value("phase", int, 0) <= self.phase:
            return False
        if admm:
            with _refused(self.saved):
                self._restore_solver(admm, self.saved)
        self.shard.advance(epochs * self.shard.net.replicas)
        return True

    def begin(self, optimizer: Any, losses: np.ndarray, **parts: Any) -> int:
        """The epoch to begin the phase with: 0, or where an earlier run was, with all that it had then.

        parts: what else has a state in this phase, such as the game, or None.
        """
        self.parts = {name: part for name, part in {"optimizer": optimizer, **parts}.items() if part is not None}
        self.losses = losses
        if self.saved is None:
            return 0
        saved, self.saved = self.saved, None
        with _refused(saved):
            return self._restore(saved)

    def end_epoch(self, epoch: int) -> None:
        """Write a checkpoint where it is time for one. Raises Stopped, after that, where a signal asked for it."""
        if self.slot and (interrupt.asked() or self.slot.due()):
            self.slot.save(self.state(epoch + 1))
        interrupt.refuse_if_asked()

    def state(self, epoch: int) -> State:
        """Everything that the epochs after the first `epoch` of this phase depend on, and what was recorded before."""
        shard = self.shard
        solvers = [solver.state(whole=solver is self.parts.get("admm")) for solver in self.solvers]
        return {
            "phase": self.phase,
            "epoch": epoch,
            "net": network_state(shard.net),
            **({"kept": network_state(shard.kept)} if shard.kept else {}),
            "generators": generators_state(shard.generators),
            "losses": self.losses[:, :epoch],
            "curves": shard.recorded(),
            "solvers": {str(i): state for i, state in enumerate(solvers)},
            "parts": {name: part.state() for name, part in self.parts.items() if name != "admm"},
        }

    def _restore(self, saved: Saved) -> int:
        """Everything as it was; the number of epochs of this phase that are done."""
        shard = self.shard
        epoch = saved.value("epoch", int, 1, self.losses.shape[1])
        restore_network(shard.net, saved.part("net"))
        if shard.kept:
            restore_network(shard.kept, saved.part("kept"))
        restore_generators(shard.generators, saved, "generators")
        self.losses[:, :epoch] = saved.array("losses", (shard.net.replicas, epoch), np.float64)
        shard.curves = {name: list(rows.T) for name, rows in curves_of(saved).items()}
        for name, part in self.parts.items():
            if name == "admm":
                self._restore_solver(part, saved)
            else:
                part.restore(saved.part("parts").part(name), shard.net)
        shard.advance(epoch * shard.net.replicas)
        return epoch

    def _restore_solver(self, admm: Any, saved: Saved) -> None:
        place = next(i for i, solver in enumerate(self.solvers) if solver is admm)
        admm.restore(saved.part("solvers").part(str(place)), self.shard.net)
        for iteration in admm.history:
            self.shard.solved(iteration)


@contextlib.contextmanager
def _refused(saved: Saved) -> Iterator[None]:
    """Whatever does not fit in what was saved is one line that names it."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{saved.where}: cannot be gone on from ({error}); delete it") from error


def curves_of(saved: Saved) -> dict[str, np.ndarray]:
    """The curves that were recorded, name -> (R, n)."""
    curves = saved.part("curves")
    return {name: curves.rows(name) for name in curves.values}

"""The states of the participants in a training (network, optimiser, solver, ...) for checkpoints, by their types.

A state is plain data, see `nanoprune.lab.storage.checkpoint`: everything that the following steps depend on.
"""

from __future__ import annotations

import dataclasses
from functools import singledispatch
from typing import Any

import numpy as np

from nanoprune.backend import to_device, to_host, xp
from nanoprune.defend import DPSGD, MinMax
from nanoprune.lab.storage.checkpoint import Saved, State, generators_state, restore_generators
from nanoprune.nn import SGD, Adam, Network
from nanoprune.prune import ADMM, Mask, Status
from nanoprune.prune.admm import Iteration


@singledispatch
def state_of(participant: Any) -> State:
    """The state. Raises TypeError where the type is not registered."""
    raise TypeError(f"{participant!r} has no state; register it in nanoprune/lab/engine/states.py")


@singledispatch
def restore(participant: Any, saved: Saved, net: Network) -> None:
    """Restore a state, for parameters like those of `net`, at the end of an epoch. Where the state does not fit, raises
    DataError, KeyError, TypeError or ValueError, which `TrainingState` turns into one line."""
    raise TypeError(f"{participant!r} has no state; register it in nanoprune/lab/engine/states.py")


@state_of.register
def _(network: Network) -> State:
    """theta (R, P) and state (R, S)."""
    return {"theta": to_host(network.theta), "state": to_host(network.state)}


@restore.register
def _(network: Network, saved: Saved, net: Network) -> None:
    for name in ("theta", "state"):
        values = getattr(network, name)
        values[...] = to_device(saved.array(name, values.shape, values.dtype))


@state_of.register
def _(sgd: SGD) -> State:
    """V (R, P)."""
    return {} if sgd.V is None else {"V": to_host(sgd.V)}


@restore.register
def _(sgd: SGD, saved: Saved, net: Network) -> None:
    sgd.V = xp.zeros_like(net.theta) if sgd.V is None else sgd.V
    sgd.V[...] = to_device(saved.array("V", net.theta.shape, net.theta.dtype)) if "V" in saved else 0


@state_of.register
def _(adam: Adam) -> State:
    """t, and after the first step M and S (R, P)."""
    return {"t": adam.t} | ({"M": to_host(adam.M), "S": to_host(adam.S)} if adam.t else {})


@restore.register
def _(adam: Adam, saved: Saved, net: Network) -> None:
    adam.t = saved.value("t", int, 0)
    for name in ("M", "S"):
        values = xp.zeros_like(net.theta) if getattr(adam, name) is None else getattr(adam, name)
        values[...] = to_device(saved.array(name, values.shape, values.dtype)) if adam.t else 0
        setattr(adam, name, values)


@state_of.register
def _(admm: ADMM) -> State:
    """Z and U (R, n), and `solver_history`."""
    return solver_history(admm) | {"Z": to_host(admm.Z), "U": to_host(admm.U)}


def solver_history(admm: ADMM) -> State:
    """rho (R,), status, history: name -> (R, iterations): the record of a solver whose phase has ended."""
    names = [field.name for field in dataclasses.fields(Iteration)[1:]] if admm.history else []
    history = {name: np.stack([getattr(row, name) for row in admm.history], axis=1) for name in names}
    return {"rho": admm.rho, "status": [status.value for status in admm.status], "history": history}


@restore.register
def _(admm: ADMM, saved: Saved, net: Network) -> None:
    admm.rho = saved.array("rho", admm.rho.shape, admm.rho.dtype)
    admm.status = [Status(value) for value in saved.each("status", str)]
    rows = saved.part("history")
    columns = {name: rows.rows(name, most=admm.settings.iterations).T for name in rows.values}
    count = len(columns["loss"]) if columns else 0
    admm.history = [Iteration(i + 1, **{name: of[i].copy() for name, of in columns.items()}) for i in range(count)]
    if "Z" in saved:
        admm.Z, admm.U = (to_device(saved.array(name, net.W.shape, net.W.dtype)) for name in "ZU")
        admm.target = admm.Z - admm.U


@state_of.register
def _(mask: Mask) -> State:
    """M (R, n) bool."""
    return {"M": to_host(mask.M) != 0}


@restore.register
def _(mask: Mask, saved: Saved, net: Network) -> None:
    """The mask is saved, since a surviving weight may have become zero in the meantime."""
    mask.M[...] = to_device(saved.array("M", mask.M.shape, bool))


@state_of.register
def _(game: MinMax) -> State:
    """h's parameters and optimiser, the generators, and the history (R, epochs) of loss and accuracy."""
    names = ("loss", "accuracy") if game.history else ()
    history = {name: np.stack([row[i] for row in game.history], axis=1) for i, name in enumerate(names)}
    state = {"theta": to_host(game.h.theta), "optimizer": state_of(game.adam), "updates": game.adam.t}
    return state | {"generators": generators_state(game.generators), "history": history}


@restore.register
def _(game: MinMax, saved: Saved, net: Network) -> None:
    game.h.theta[...] = to_device(saved.array("theta", game.h.theta.shape, game.h.theta.dtype))
    restore(game.adam, saved.part("optimizer"), game.h)
    restore_generators(game.generators, saved, "generators")
    history = saved.part("history")
    names = ("loss", "accuracy") if saved.value("updates", int, 0) else ()
    game.history = list(zip(*(history.rows(name).T for name in names), strict=True))
    game.steps.clear()


@state_of.register
def _(private: DPSGD) -> State:
    """The generators. They are secret: whoever has them can recover the noise of all steps of this training."""
    return {"generators": generators_state(private.generators), "steps": private.steps}


@restore.register
def _(private: DPSGD, saved: Saved, net: Network) -> None:
    restore_generators(private.generators, saved, "generators")
    private.steps = saved.value("steps", int, 0)

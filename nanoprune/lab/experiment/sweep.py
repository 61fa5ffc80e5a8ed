"""Sweeps: each method at several settings of its hyperparameter, for the comparison at equal accuracy (`pareto`)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.experiment import defences
from nanoprune.lab.experiment.distil import distilled
from nanoprune.lab.experiment.evaluate import strongest
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.masks import MASKS
from nanoprune.lab.experiment.methods import RIVALS, small_network
from nanoprune.lab.experiment.past import past
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.experiment.selena import selena
from nanoprune.lab.experiment.solvers import WITHOUT_TRAINING
from nanoprune.lab.layerwise import supports
from nanoprune.lab.zoo import mixes_records, narrowed
from nanoprune.lab.zoo.build import weight_count

KEEPS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01)
LAMBDAS = (0.5, 1.0, 2.0, 4.0, 8.0)
EPSILONS = (2.0, 4.0, 8.0, 16.0, 32.0)
EPOCHS = (0.02, 0.04, 0.06, 0.1, 0.16, 0.24, 0.36, 0.5, 0.7, 1.0)  # shares of the dense epochs
PENALTIES = (3e-5, 1e-4, 3e-4, 1e-3, 3e-3)  # lambda of PAST
MODELS, ABSENT = 25, (5, 10, 15)  # sub-models of SELENA, and how many a record is kept from
MASKED = 0.05  # keep ratio of the private methods with a mask
DIGITS = 7  # of an accuracy
STRENGTHS, BALANCED = (1.0, 4.0, 16.0, 64.0), 0.1  # lambda and keep ratio of PPB


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A family: train(experiment, baseline, setting) -> the networks at one setting of the hyperparameter. private: by
    DP-SGD. scratch: whether they are made from initial weights; the others begin with the trained baseline."""

    name: str
    hyperparameter: str
    settings: tuple[Any, ...]
    train: Callable[[Experiment, Trained, Any], Trained]
    private: bool = False
    scratch: bool = False


def sweeps(recipe: Recipe, keeps: Sequence[float] = KEEPS, lambdas: Sequence[float] = LAMBDAS) -> list[Sweep]:
    """All families for a recipe: those of the game, of public records and of DP-SGD only where the recipe has them."""
    keeps, lams = tuple(keeps), tuple(lambdas) if recipe.minmax else ()
    epochs = tuple(sorted({max(1, round(share * recipe.dense.epochs)) for share in EPOCHS}))
    layerwise = recipe.reference and recipe.scheme == "unstructured" and supports(recipe.network)
    found = [
        Sweep("early-stop", "epochs", epochs, _stopped, scratch=True),
        Sweep("small-dense", "weights of prune-K", keeps, _small, scratch=True),
        Sweep("prune", "keep", keeps, lambda e, base, keep: e.pruned(base, [keep])[0]),
        Sweep("magnitude", "keep", keeps, _solved("magnitude")),
        *(Sweep(solver, "keep", keeps, _solved(solver)) for solver in RIVALS),
        *(Sweep(solver, "keep", keeps, _solved(solver)) for solver in (WITHOUT_TRAINING if layerwise else ())),
        *(Sweep(variant, "keep", keeps, _masked(variant), scratch=True) for variant in MASKS),
        Sweep("rewind", "keep", keeps, lambda e, base, keep: e.rewound("rewind", keep), scratch=True),
        Sweep(f"ppb-{BALANCED:g}", "lambda", STRENGTHS, _balanced),
        Sweep("prune-1", "keep", (1.0,), lambda e, base, keep: e.pruned(base, [keep])[0]),
    ]
    if lams:
        found += [
            Sweep("minmax", "lambda", lams, lambda e, base, lam: _game(e, lam).dense("minmax", lam=lam), scratch=True),
            Sweep("prune-1+minmax", "lambda", lams, lambda e, base, lam: _game(e, lam).pruned(base, [1.0], lam)[0]),
            Sweep("prune+minmax", "keep", keeps, lambda e, base, keep: e.pruned(base, [keep], e.recipe.minmax)[0]),
        ]
    found += [
        _simple("l2", defences.l2, "l2", (1e-3, 5e-3, 1e-2, 2e-2, 4e-2)),
        _simple("dropout", defences.dropout, "dropout", (0.2, 0.4, 0.6, 0.8)),
        _simple("label-smoothing", defences.label_smoothing, "smoothing", (0.05, 0.1, 0.3)),
        _simple("relaxloss", defences.relaxloss, "relaxloss", (0.2, 0.5, 1.0, 1.5, 2.0)),
        Sweep("selena", "absent", ABSENT, lambda e, base, absent: selena(e, "selena", MODELS, absent), scratch=True),
        _simple("temperature", defences.temperature, "temperature", (2.0, 4.0, 10.0), scratch=False),
    ]
    if recipe.reference:
        every = (recipe.dense.epochs,)
        found += [
            Sweep(
                "validation-stop", "best epoch of", every, lambda e, *_: e.validated("validation-stop"), scratch=True
            ),
            Sweep("past", "lambda", PENALTIES, lambda e, base, strength: past(e, "past", strength), scratch=True),
        ]
        found.append(Sweep("distil", "weights of prune-K", keeps, _distilled))
    if recipe.reference >= defences.REFERENCE["memguard"]:
        found.append(_simple("memguard", defences.memguard, "memguard", (0.25, 0.5, 1.0, 2.0), scratch=False))
    return found + list(_private(recipe))


def _private(recipe: Recipe) -> Iterator[Sweep]:
    """DP-SGD without a mask, and with the masks that cost no budget."""
    if mixes_records(recipe.network):
        return
    yield Sweep("dp", "epsilon", EPSILONS, lambda e, base, epsilon: e.private("dp", epsilon), True, True)
    for variant in ("mask", "synflow", "random") if recipe.reference else ("synflow", "random"):

        def train(e: Experiment, base: Trained, epsilon: float, variant: str = variant) -> Trained:
            return e.private(f"dp+{variant}", epsilon, variant, MASKED)

        yield Sweep(f"dp+{variant}-{MASKED:g}", "epsilon", EPSILONS, train, True, True)


def _stopped(experiment: Experiment, baseline: Trained, epochs: int) -> Trained:
    return experiment.stopped_after("early-stop", np.full(len(experiment.seeds), epochs))


def _small(experiment: Experiment, baseline: Trained, keep: float) -> Trained:
    """A dense network of at most the weights that `keep` leaves."""
    description = experiment.description
    weights = max(1, int(keep * weight_count(description)))
    return experiment.dense("small-dense", narrowed(description, weights))


def _distilled(experiment: Experiment, baseline: Trained, keep: float) -> Trained:
    return distilled(experiment, "distil", small_network(experiment, keep), baseline)


def _solved(solver: str) -> Callable[[Experiment, Trained, Any], Trained]:
    """Another way of pruning in place of ADMM; `solvers`."""

    def train(experiment: Experiment, baseline: Trained, keep: float) -> Trained:
        recipe = dataclasses.replace(experiment.recipe, solver=solver)
        return experiment.with_recipe(recipe).pruned(baseline, [keep])[0]

    return train


def _masked(variant: str) -> Callable[[Experiment, Trained, Any], Trained]:
    """A mask that is chosen before training; `masks`."""

    def train(experiment: Experiment, baseline: Trained, keep: float) -> Trained:
        return experiment.masked(variant, variant, keep)

    return train


def _balanced(experiment: Experiment, baseline: Trained, strength: float) -> Trained:
    recipe = defences.with_ppb(experiment.recipe, strength)
    return experiment.with_recipe(recipe).pruned(baseline, [BALANCED], method="ppb")[0]


def _game(experiment: Experiment, lam: float) -> Experiment:
    return experiment.with_recipe(dataclasses.replace(experiment.recipe, minmax=lam))


def _simple(
    name: str,
    defence: Callable[[Experiment, Trained], Trained],
    field: str,
    strengths: tuple,
    scratch: bool = True,
) -> Sweep:
    """A simple defence at several values of its field of `DefenceSettings`."""

    def train(experiment: Experiment, baseline: Trained, strength: float) -> Trained:
        changed = dataclasses.replace(experiment.recipe.defences, **{field: strength})
        return defence(experiment.with_recipe(dataclasses.replace(experiment.recipe, defences=changed)), baseline)

    return Sweep(name, field, strengths, train, scratch=scratch)


def chosen_sweeps(
    recipe: Recipe, names: Sequence[str] | None, keeps: Sequence[float], lambdas: Sequence[float] = LAMBDAS
) -> list[Sweep]:
    """The families of these names, or all. Raises ArgumentError, with the known names, on an unknown one."""
    known = {sweep.name: sweep for sweep in sweeps(recipe, keeps, lambdas)}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        raise ArgumentError(f"families must be of {', '.join(known)}, got {unknown[0]!r}")
    return [sweep for name, sweep in known.items() if names is None or name in names]


def measured(experiment: Experiment, trained: Trained) -> dict[str, Any]:
    """One point as plain data: accuracies (seeds,) on members and non-members and of the attack that is strongest on
    the attacker's own records, the accuracies of all attacks, and the number of remaining weights."""
    outcomes = experiment.attack({"point": trained})["point"]
    name = strongest(outcomes)
    train, test = (_plain(experiment.accuracies(trained.net, part)) for part in ("members", "nonmembers"))
    return {
        "train_accuracy": train,
        "test_accuracy": test,
        "attack_accuracy": _plain(outcomes[name].accuracy),
        "attack": name,
        "attacks": {attack: _plain(of.accuracy) for attack, of in outcomes.items()},
        "nonzero": float(trained.net.nonzero().mean()),
    }


def _plain(accuracies: np.ndarray) -> list[float]:
    """As many digits as counts of fewer than a million records can have."""
    return accuracies.round(DIGITS).tolist()

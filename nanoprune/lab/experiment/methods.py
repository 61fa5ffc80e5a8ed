"""The methods that `reproduce` compares, one record each, in the order of the results.

A method's `train` makes its networks from the experiment and from the methods that it needs. To add one, add a record
to `comparison`: its name is then known to --methods, and what it needs is trained before it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.experiment import defences
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.recipes import Keep, Recipe, keep_name
from nanoprune.lab.zoo import mixes_records, narrowed

BASELINE = "baseline"  # every change is measured against it, so it always runs
PRIVATE = "dp-"  # how the names of rows with DP-SGD begin


@dataclasses.dataclass(frozen=True)
class Method:
    """A row of the results.

    train(experiment, done, [of, ...]) -> [Trained, ...]: methods that have the same `train` may be trained together, as
    one fleet; `of` says what tells them apart, done[name] has the methods that were trained before. needs: which of
    those it takes. default: whether it runs where no methods are named. repeatable: whether shadow models can repeat
    it; they cannot where it acts on the answers.
    """

    name: str
    train: Callable[[Experiment, dict[str, Trained], list[Any]], list[Trained]]
    of: Any = None
    needs: tuple[str, ...] = ()
    default: bool = True
    repeatable: bool = True


def comparison(recipe: Recipe) -> list[Method]:
    """Every method that there is for a recipe; without the game where its lambda is 0, and without those that take
    reference records where there are too few."""
    prunes = [f"prune-{keep_name(keep)}" for keep in recipe.keep]
    suffixes = ["", *(f"-{keep_name(keep)}" for keep in recipe.keep[1:])]  # the first ratio's controls have bare names
    controls = list(zip(suffixes, prunes, strict=True))
    methods = [Method(BASELINE, _dense)]
    methods += [Method(name := f"early-stop{s}", _early_stop, (name, of), (BASELINE, of)) for s, of in controls]
    methods += [Method(name := f"small-dense{s}", _small_dense, (name, of), (of,)) for s, of in controls]
    if recipe.minmax:
        methods.append(Method("minmax", _minmax))
    for name, keep in zip(prunes, recipe.keep, strict=True):
        methods.append(Method(name, _prune, keep, (BASELINE,)))
        if recipe.minmax:
            methods.append(Method(f"{name}+minmax", _prune_minmax, keep, (BASELINE,)))
    for name, make in (defences.TRAINING | defences.ANSWERS).items():
        if recipe.reference >= defences.REFERENCE.get(name, 0):
            methods.append(Method(name, _simple, make, (BASELINE,), False, name in defences.TRAINING))
    for name, *of in () if mixes_records(recipe.network) else _private_rows(recipe):
        methods.append(Method(name, _private, (name, *of), default=False))
        control = f"early-stop-{name}"
        methods.append(Method(control, _early_stop, (control, name), (BASELINE, name), default=False))
    return methods


def _private_rows(recipe: Recipe) -> Iterator[tuple[str, float, str, Keep | None]]:
    """Name, epsilon, way and ratio of each row with DP-SGD."""
    ways = ("mask", "admm", "magnitude") if recipe.reference else ("admm", "magnitude")
    for epsilon in recipe.private.epsilons:
        yield (f"{PRIVATE}{epsilon:g}", epsilon, "dense", None)
        for keep in recipe.keep:
            for way in ways:
                yield (f"{PRIVATE}{epsilon:g}+{way}-{keep_name(keep)}", epsilon, way, keep)


def chosen(recipe: Recipe, names: str = "default") -> list[Method]:
    """The methods of a list such as "baseline,minmax", with those that they need, in their order.

    "default" and "all" stand for several, "simple" for the simple defences, "private" for the rows with DP-SGD and
    their controls. Raises ArgumentError, with the names that there are, on one that there is not.
    """
    methods = {method.name: method for method in comparison(recipe)}
    groups = {"default": [name for name, method in methods.items() if method.default], "all": list(methods)}
    groups["simple"] = [name for name in methods if name in defences.TRAINING | defences.ANSWERS]
    groups["private"] = [name for name in methods if name.removeprefix("early-stop-").startswith(PRIVATE)]
    wanted = {BASELINE}
    words = names.split(",")
    while words:  # a name may have commas itself: prune-0.2,0.08,0.009,0.07
        n = next((n for n in range(len(words), 0, -1) if ",".join(words[:n]) in methods | groups), 0)
        name = ",".join(words[:n])
        if not n:
            raise ArgumentError(f"methods must be of {', '.join([*groups, *methods])}, got {words[0]!r}")
        wanted.update(groups.get(name, [name]))
        words = words[n:]
    waiting = list(wanted)
    while waiting:
        more = set(methods[waiting.pop()].needs) - wanted
        wanted |= more
        waiting += more
    return [method for name, method in methods.items() if name in wanted]


def check_repeatable(methods: list[Method]) -> None:
    """ArgumentError, with their names, where there are methods that shadow models cannot repeat."""
    names = [method.name for method in methods if not method.repeatable]
    if names:
        raise ArgumentError(
            f"attacks full cannot repeat {' and '.join(names)} with shadow models; name the --methods without it, or "
            "leave the attacks at standard"
        )


def check_private(recipe: Recipe, names: str) -> None:
    """ArgumentError where settings of DP-SGD are given and none of the methods is trained with it."""
    if not any(method.train is _private for method in chosen(recipe, names)):
        why = (
            f"{recipe.network} has BatchNorm, which mixes records" if mixes_records(recipe.network) else "see --methods"
        )
        raise ArgumentError(f"epsilon, delta and clip are for methods with DP-SGD, of which there are none: {why}")


def find_noise(experiment: Experiment, methods: list[Method]) -> None:
    """Find the noise of every method with DP-SGD: what cannot be had is refused now, not after the other methods."""
    members = experiment.indices("members").shape[1]
    for _, epsilon, *_ in (method.of for method in methods if method.train is _private):
        experiment.recipe.private_noise(members, epsilon)


def train_methods(experiment: Experiment, names: str = "default") -> dict[str, Trained]:
    """The networks of the methods that `chosen` finds, in the order of the results."""
    methods = chosen(experiment.recipe, names)
    done: dict[str, Trained] = {}
    while waiting := [method for method in methods if method.name not in done]:
        ready = [method for method in waiting if set(method.needs) <= set(done)]
        fleet = [method for method in ready if method.train is ready[0].train]
        trained = fleet[0].train(experiment, done, [method.of for method in fleet])
        done |= {method.name: of for method, of in zip(fleet, trained, strict=True)}
    return {method.name: done[method.name] for method in methods}


def _dense(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [experiment.dense(BASELINE)]


def _early_stop(experiment: Experiment, done: dict[str, Trained], of: list[tuple[str, str]]) -> list[Trained]:
    """The control of equal accuracy: the baseline stopped at the test accuracy of another row, seed by seed."""
    return [
        experiment.stopped(name, experiment.accuracies(done[other].net, "nonmembers"), done[BASELINE])
        for name, other in of
    ]


def _small_dense(experiment: Experiment, done: dict[str, Trained], of: list[tuple[str, str]]) -> list[Trained]:
    """The control of equal size: a dense network of at most as many weights as the pruned one keeps."""
    return [
        experiment.dense(name, narrowed(experiment.description, int(done[pruned].net.nonzero().max())))
        for name, pruned in of
    ]


def _minmax(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [experiment.dense("minmax", lam=experiment.recipe.minmax)]


def _simple(experiment: Experiment, done: dict[str, Trained], of: list[Callable]) -> list[Trained]:
    return [make(experiment, done[BASELINE]) for make in of]


def _prune(experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    return experiment.pruned(done[BASELINE], of)


def _prune_minmax(experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    return experiment.pruned(done[BASELINE], of, experiment.recipe.minmax)


def _private(experiment: Experiment, done: dict[str, Trained], of: list[tuple]) -> list[Trained]:
    return [experiment.private(*row) for row in of]

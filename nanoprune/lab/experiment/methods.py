"""The methods that `reproduce` compares, one record each, in the order of the results.

A method's `train` makes its networks from the experiment and from the methods that it needs. To add a method, add a
record to `comparison`: --methods then accepts its name, and the methods that it needs are trained first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.experiment import defences
from nanoprune.lab.experiment.distil import distilled
from nanoprune.lab.experiment.experiment import Experiment, Trained
from nanoprune.lab.experiment.masks import MASKS
from nanoprune.lab.experiment.past import past
from nanoprune.lab.experiment.recipes import Keep, Recipe, keep_name
from nanoprune.lab.experiment.selena import selena
from nanoprune.lab.experiment.solvers import WITHOUT_TRAINING
from nanoprune.lab.layerwise import supports
from nanoprune.lab.zoo import build, mixes_records, narrowed

BASELINE = "baseline"  # changes are measured against it, so it always runs
PRIVATE = "dp-"  # prefix of the methods with DP-SGD
SCHEDULE, GAME, PRUNING = "the longer schedule and its weight decay", "the game", "pruning"
ACCURACY, SIZE = "matched: test accuracy, approximately", "matched: number of weights"
ADMM, STEPS = "ADMM against one-shot magnitude pruning", "pruning in steps"
SUPPORT = "which weights are kept"
RIVALS = {  # other solvers (`solvers`), and what they are compared in with ADMM and with one-shot magnitude pruning
    "gradual": STEPS,
    "ste": "the straight-through estimator",
    "admm-zwu": "the order of ADMM's steps",
    "admm-momentum": "momentum in ADMM",
}
DATA_FREE = ("synflow", "random")  # variants of DP-SGD with a data-free mask


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the comparison.

    train(experiment, done, [of, ...]) -> [Trained, ...]: methods with the same `train` may be trained together, as one
    fleet; `of` tells them apart, done[name] has the methods that were trained before. needs: the methods that it takes
    from `done`. default: whether it runs where no methods are named. repeatable: whether shadow models can repeat it,
    which they cannot where it acts on the outputs. controls: (name, difference) of other methods that it is to be
    compared with, and what the two differ in or, for early-stop and small-dense, have in common.
    """

    name: str
    train: Callable[[Experiment, dict[str, Trained], list[Any]], list[Trained]]
    of: Any = None
    needs: tuple[str, ...] = ()
    default: bool = True
    repeatable: bool = True
    controls: tuple[tuple[str, str], ...] = ()


def comparison(recipe: Recipe) -> list[Method]:
    """All methods for a recipe, in the order of the results.

    Those of the game are left out where its lambda is 0, and those that need reference records where there are too few.
    """
    prunes = [f"prune-{keep_name(keep)}" for keep in recipe.keep]
    suffixes = ["", *(f"-{keep_name(keep)}" for keep in recipe.keep[1:])]  # the first ratio's controls have bare names
    controls = list(zip(suffixes, prunes, strict=True))
    methods = [Method(BASELINE, _dense)]
    methods += [Method(name := f"early-stop{s}", _early_stop, (name, of), (BASELINE, of)) for s, of in controls]
    methods += [Method(name := f"small-dense{s}", _small_dense, (name, of), (of,)) for s, of in controls]
    if recipe.minmax:
        methods.append(Method("minmax", _minmax, controls=((BASELINE, GAME),)))
    ratios = list(zip(recipe.keep, prunes, suffixes, strict=True))
    if "prune-1" not in prunes:  # nothing is pruned: the control for the schedule
        ratios.insert(0, (1.0, "prune-1", None))
    for keep, name, suffix in ratios:
        methods += _pruning_methods(recipe, keep, name, suffix)
    if recipe.reference:
        methods.append(Method("past", _past, default=False, controls=((BASELINE, "the defence"),)))
    methods.append(Method("selena", _selena, default=False, controls=((BASELINE, "the defence"),)))
    for name, make in (defences.TRAINING | defences.OUTPUTS).items():
        if recipe.reference >= defences.REFERENCE.get(name, 0):
            repeatable = name in defences.TRAINING
            control = ((BASELINE, "the defence"),)
            methods.append(Method(name, _simple, make, (BASELINE,), False, repeatable, controls=control))
    return methods + ([] if mixes_records(recipe.network) else _private_methods(recipe))


def _pruning_methods(recipe: Recipe, keep: Keep, name: str, suffix: str | None) -> list[Method]:
    """Pruning to one ratio with and without the game, and its control with magnitudes in place of ADMM.

    suffix: of the names of its controls of equal accuracy and size; None for the control that prunes nothing.
    """
    magnitude = f"magnitude-{keep_name(keep)}"
    if suffix is None or keep == 1:
        controls, of_game, magnitudes = ((BASELINE, SCHEDULE),), (("minmax", SCHEDULE), ("prune-1", GAME)), False
    else:
        same = ((f"early-stop{suffix}", ACCURACY), (f"small-dense{suffix}", SIZE))
        controls, magnitudes = (("prune-1", PRUNING), (magnitude, ADMM), *same), True
        of_game = (("prune-1+minmax", PRUNING), (name, GAME))
    found = [Method(name, _prune, keep, (BASELINE,), controls=controls)]
    if recipe.minmax:
        found.append(Method(f"{name}+minmax", _prune_minmax, keep, (BASELINE,), controls=of_game))
    return found + (_rival_methods(recipe, keep, name, suffix) if magnitudes else [])


def _rival_methods(recipe: Recipe, keep: Keep, name: str, suffix: str | None) -> list[Method]:
    """What else makes a network of that size, and is compared with `name`, the pruning by ADMM."""
    of = keep_name(keep)
    magnitude, found, layerwise = f"magnitude-{of}", [], []
    found.append(Method(magnitude, SOLVED["magnitude"], keep, (BASELINE,), controls=(("prune-1", PRUNING),)))
    for solver, differ in RIVALS.items():
        others = (("prune-1", PRUNING), (name, differ), (magnitude, f"{differ} against one-shot magnitude pruning"))
        found.append(Method(f"{solver}-{of}", SOLVED[solver], keep, (BASELINE,), False, controls=others))
    if recipe.reference and recipe.scheme == "unstructured" and supports(recipe.network):
        layerwise = list(WITHOUT_TRAINING)
    for solver in layerwise:
        others = ((BASELINE, PRUNING), (name, "layer-wise and without training, against ADMM"))
        found.append(Method(f"{solver}-{of}", SOLVED[solver], keep, (BASELINE,), False, controls=others))
    others = ((BASELINE, PRUNING), (name, "rewinding against ADMM"))
    found.append(Method(f"rewind-{of}", _rewound, (f"rewind-{of}", keep), (), False, controls=others))
    if recipe.reference:
        others = ((BASELINE, "distillation to a small network"), (f"small-dense{suffix}", "outputs for public records"))
        found.append(Method(f"distil-{of}", _distil, (f"distil-{of}", keep), (BASELINE,), False, controls=others))
    others = ((f"gradual-{of}", "the defence"), (name, "PPB and gradual magnitude pruning against ADMM"))
    found.append(Method(f"ppb-{of}", _ppb, keep, (BASELINE,), False, controls=others))
    for variant in MASKS:
        random = () if variant == "random" else ((f"random-{of}", SUPPORT),)
        others, made = ((name, "a mask before training against ADMM"), *random), f"{variant}-{of}"
        found.append(Method(made, _masked, (made, variant, keep), (), False, controls=others))
    return found


def _private_methods(recipe: Recipe) -> list[Method]:
    """The methods with DP-SGD, and for each the baseline stopped at its test accuracy."""
    variants = ("mask", *DATA_FREE, "admm", "magnitude") if recipe.reference else (*DATA_FREE, "admm", "magnitude")
    methods = []

    def add(name: str, *of: Any, controls: tuple[tuple[str, str], ...] = ()) -> None:
        stopped = f"early-stop-{name}"
        controls = (*controls, (stopped, ACCURACY))
        methods.append(Method(name, _private, (name, *of), default=False, controls=controls))
        methods.append(Method(stopped, _early_stop, (stopped, name), (BASELINE, name), default=False))

    for epsilon in recipe.private.epsilons:
        dense = f"{PRIVATE}{epsilon:g}"
        add(dense, epsilon, "dense", None)
        for keep in recipe.keep:
            random = f"{dense}+random-{keep_name(keep)}"
            for variant in variants:
                name = f"{dense}+{variant}-{keep_name(keep)}"
                others = () if name == random else ((random, SUPPORT),)
                add(name, epsilon, variant, keep, controls=((dense, PRUNING), *others))
    return methods


def chosen(recipe: Recipe, names: str = "default") -> list[Method]:
    """The methods of a list such as "baseline,minmax" and those that they need, in the order of the results.

    "default" and "all" stand for several, "simple" for the simple defences, "private" for the methods with DP-SGD and
    their controls. Raises ArgumentError, with the known names, on an unknown one.
    """
    methods = {method.name: method for method in comparison(recipe)}
    groups = {"default": [name for name, method in methods.items() if method.default], "all": list(methods)}
    groups["simple"] = [name for name in methods if name in defences.TRAINING | defences.OUTPUTS]
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
    """ArgumentError, with their names, if shadow models cannot repeat some of the methods."""
    names = [method.name for method in methods if not method.repeatable]
    if names:
        raise ArgumentError(
            f"attacks full cannot repeat {' and '.join(names)} with shadow models; name the --methods without it, or "
            "leave the attacks at standard"
        )


def is_private(method: Method) -> bool:
    """Whether it is trained with DP-SGD, whose noise is never drawn twice."""
    return method.train is _private


def check_private(recipe: Recipe, names: str) -> None:
    """ArgumentError if none of the methods is trained with DP-SGD, for settings that would have no effect."""
    if not any(map(is_private, chosen(recipe, names))):
        why = (
            f"{recipe.network} has BatchNorm, which mixes records" if mixes_records(recipe.network) else "see --methods"
        )
        raise ArgumentError(f"epsilon, delta and clip are for methods with DP-SGD, of which there are none: {why}")


def find_noise(experiment: Experiment, methods: list[Method]) -> None:
    """Find the noise of every method with DP-SGD, so that an impossible epsilon is refused before any training."""
    members = experiment.indices("members").shape[1]
    for _, epsilon, *_ in (method.of for method in methods if is_private(method)):
        experiment.recipe.private_noise(members, epsilon)


def train_methods(experiment: Experiment, names: str = "default") -> dict[str, Trained]:
    """The networks of the methods that `chosen` finds, in the order of the results. What needs no other method is
    trained at the same time; `Experiment.all_of`."""
    methods = chosen(experiment.recipe, names)
    done: dict[str, Trained] = {}
    while waiting := [method for method in methods if method.name not in done]:
        ready = [method for method in waiting if set(method.needs) <= set(done)]
        fleets: dict[Callable, list[Method]] = {}
        for method in ready:
            fleets.setdefault(method.train, []).append(method)
        calls = [partial(train, experiment, done, [method.of for method in of]) for train, of in fleets.items()]
        for fleet, networks in zip(fleets.values(), experiment.all_of(calls), strict=True):
            done |= {method.name: of for method, of in zip(fleet, networks, strict=True)}
    return {method.name: done[method.name] for method in methods}


def _dense(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [experiment.dense(BASELINE)]


def _early_stop(experiment: Experiment, done: dict[str, Trained], of: list[tuple[str, str]]) -> list[Trained]:
    """The control of equal accuracy: the baseline stopped at the accuracy of another method, seed by seed."""
    return experiment.all_of([partial(experiment.stopped, name, done[other], done[BASELINE]) for name, other in of])


def _small_dense(experiment: Experiment, done: dict[str, Trained], of: list[tuple[str, str]]) -> list[Trained]:
    """The control of equal size: a dense network of at most as many weights as the pruned one keeps."""
    weights = {name: int(done[pruned].net.nonzero().max()) for name, pruned in of}
    small = {name: narrowed(experiment.description, most) for name, most in weights.items()}
    return experiment.all_of([partial(experiment.dense, *of) for of in small.items()])


def _minmax(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [experiment.dense("minmax", lam=experiment.recipe.minmax)]


def _simple(experiment: Experiment, done: dict[str, Trained], of: list[Callable]) -> list[Trained]:
    return experiment.all_of([partial(make, experiment, done[BASELINE]) for make in of])


def _prune(experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    return experiment.pruned(done[BASELINE], of)


def _prune_minmax(experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    return experiment.pruned(done[BASELINE], of, experiment.recipe.minmax)


def _solved(solver: str, experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    """Another way of pruning in place of ADMM; `solvers`."""
    recipe = dataclasses.replace(experiment.recipe, solver=solver)
    return experiment.with_recipe(recipe).pruned(done[BASELINE], of)


SOLVED = {solver: partial(_solved, solver) for solver in ("magnitude", *RIVALS, *WITHOUT_TRAINING)}


def _rewound(experiment: Experiment, done: dict[str, Trained], of: list[tuple]) -> list[Trained]:
    return experiment.all_of([partial(experiment.rewound, *arguments) for arguments in of])


def _ppb(experiment: Experiment, done: dict[str, Trained], of: list[Any]) -> list[Trained]:
    """The same, with pair-based posterior balancing in the loss; `defend.ppb`."""
    recipe = defences.with_ppb(experiment.recipe, experiment.recipe.defences.ppb)
    return experiment.with_recipe(recipe).pruned(done[BASELINE], of, method="ppb")


def _distil(experiment: Experiment, done: dict[str, Trained], of: list[tuple[str, Any]]) -> list[Trained]:
    """A dense network of at most the weights that the ratio leaves, trained on the baseline's outputs; `distil`."""
    small = {name: small_network(experiment, keep) for name, keep in of}
    return experiment.all_of([partial(distilled, experiment, *of, done[BASELINE]) for of in small.items()])


def _past(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [past(experiment, "past", experiment.recipe.defences.past)]


def _selena(experiment: Experiment, done: dict[str, Trained], of: list[None]) -> list[Trained]:
    return [selena(experiment, "selena", *experiment.recipe.defences.selena)]


def small_network(experiment: Experiment, keep: Any) -> dict[str, Any]:
    """The description of a dense network of at most as many weights as the budget of `keep` leaves."""
    net = build(experiment.description, replicas=1)
    return narrowed(experiment.description, sum(experiment.recipe.budget(net, keep).max_nonzero()))


def _masked(experiment: Experiment, done: dict[str, Trained], of: list[tuple]) -> list[Trained]:
    return experiment.all_of([partial(experiment.masked, *arguments) for arguments in of])


def _private(experiment: Experiment, done: dict[str, Trained], of: list[tuple]) -> list[Trained]:
    return experiment.all_of([partial(experiment.private, *arguments) for arguments in of])

"""Shadow models: trained as a fleet by the target's own recipe, each on a random half of the records to be scored.

pool     s members and s non-members of the target: the records that are scored
IN       shadows come in pairs: one trains on a random half of the pool, the other on the other half, so that each
         record is in the training set of exactly half of the shadows
rest     where the target has more than s members, the attacker is taken to know the others; every shadow trains on
         them too, so that all training sets have the target's size
population   records that neither the target nor a shadow saw, for RMIA

Where records come in groups a group is in one of these alone, and in the training set of one shadow of a pair. Halves
are as equal in records as random groups come; the shadows with fewer train on some of theirs twice.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from typing import TYPE_CHECKING, Any

import numpy as np

from nanoprune.defend.losses import CROSS_ENTROPY
from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.audit.sensitivity import sensitivity
from nanoprune.lab.data import Dataset, Split, make_split
from nanoprune.lab.data.groups import whole_groups
from nanoprune.lab.engine.evaluation import predict_fleet
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.distil import distilled
from nanoprune.lab.experiment.experiment import Experiment, Progress, Trained
from nanoprune.lab.experiment.past import past
from nanoprune.lab.experiment.recipes import Private, Recipe, recipe_of
from nanoprune.lab.experiment.selena import selena
from nanoprune.lab.models.model import MAX_PARAMETERS, Model
from nanoprune.lab.statistics.units import Units, units_of
from nanoprune.lab.storage.bounded import first_line
from nanoprune.lab.storage.checkpoint import Checkpoints
from nanoprune.lab.zoo import build
from nanoprune.lab.zoo.build import checked
from nanoprune.nn import Network
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records
from nanoprune.schedule import Schedule

if TYPE_CHECKING:
    from nanoprune.lab.audit.sums import Sums

STREAM = int.from_bytes(b"shadow", "big")
FIRST_SEED = 1 << 32  # far from the seeds of targets: no shadow starts from a target's initial weights
ALONE = ("private", "masked", "rewound", "distilled", "selena", "past")  # steps that begin with initial weights
STAGES = ("train", "prune", *ALONE)  # in the order of a recipe
BLOCK = 256  # shadows that are drawn together, and whose outputs are kept whole; of later blocks, sums alone (`sums`)
FEWEST = 6  # shadows: with one pair left out, two that saw a record and two that did not, so that both have a variance
POPULATION = 2000  # records for RMIA, at most


@dataclasses.dataclass(frozen=True, eq=False)
class Pool:
    """What is scored, and who sees it: scored (n,) indices, members first; member (n,) bool; rest and population;
    group (n,), the groups of the scored records, or None."""

    scored: np.ndarray
    member: np.ndarray
    rest: np.ndarray
    reference: np.ndarray
    population: np.ndarray
    group: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Shadows:
    """Predictions of K shadows after each stage of the recipe: inside (K, n) bool, and by stage, "train" or "prune",
    logits (K, n, classes) of the scored records, population (K, m, classes) of the others, and for pruned networks
    paths (K, n), the mask's statistic (`path_margins`); sensitivity (K, n, classes) after the last stage, None of texts
    and in files of before it was kept; rest: sums over more shadows, whose outputs are not kept, or None."""

    inside: np.ndarray
    logits: dict[str, np.ndarray]
    population: dict[str, np.ndarray]
    paths: np.ndarray | None
    sensitivity: np.ndarray | None = None
    rest: Sums | None = None


def make_pool(model: Model, dataset: Dataset) -> Pool:
    """The pool of a target. Raises ArgumentError where it is too small to be divided."""
    split = make_split(dataset, model.members, model.reference, model.nonmembers, model.seed)
    s, groups = min(len(split.members), len(split.nonmembers)), dataset.groups
    inside, outside = (
        s if groups is None else whole_groups(part, groups, s) for part in (split.members, split.nonmembers)
    )
    scored = np.concatenate([split.members[:inside], split.nonmembers[:outside]])
    member = np.repeat([True, False], [inside, outside])
    group = None if groups is None else groups[scored]
    fewest = s if group is None else min(len(np.unique(group[side])) for side in (member, ~member))
    if fewest < 4:
        of = "" if group is None else " in groups"
        raise ArgumentError(f"members and nonmembers must be at least 4 each{of} for shadows, got {fewest}")
    used = np.concatenate([split.members, split.reference, split.nonmembers])
    every = np.arange(len(dataset.y))
    unused = np.setdiff1d(every, used) if groups is None else every[~np.isin(groups, groups[used])]
    spare = np.concatenate([split.nonmembers[outside:], unused])
    order = np.random.default_rng([model.seed, STREAM]).permutation(len(spare))
    return Pool(scored, member, split.members[inside:], split.reference, spare[order][:POPULATION], group)


def design(n: int, shadows: int, rng: np.random.Generator, sizes: np.ndarray | int = 1) -> np.ndarray:
    """inside (K, n) bool, of n records or groups with `sizes` (n,) records: rows 2j and 2j + 1 are complements, each of
    half of the records, or as near to that as random groups come. K must be even; of single records, n too."""
    check_shadows(shadows)
    inside = np.zeros((shadows, n), bool)
    for j in range(0, shadows, 2):
        order = rng.permutation(n)
        ends = np.cumsum(np.broadcast_to(sizes, n)[order])  # records of the first 1, 2, ... of them
        inside[j, order[: np.argmin(np.abs(2 * ends - ends[-1])) + 1]] = True
        inside[j + 1] = ~inside[j]
    return inside


def pool_units(pool: Pool, dataset: Dataset) -> Units:
    """What is counted of the records that are scored."""
    return units_of(dataset.y[pool.scored], pool.member, dataset.classes, pool.group)


def check_shadows(shadows: int, most: int | None = None) -> None:
    """ArgumentError unless they can be paired, and one pair be left out; and where there are more than `most`."""
    if shadows < FEWEST or shadows % 2:
        raise ArgumentError(f"shadows must be an even number of at least {FEWEST}, got {shadows}")
    if most is not None and shadows > most:
        raise ArgumentError(
            f"shadows must be at most {most} without --store DIR of `attack`, which trains any number, got {shadows}"
        )


def seeds_of(seed: int, shadows: int, block: int) -> list[int]:
    """The seeds of the shadows of a block: for blocks after the first drawn from 2^61, so that no two will be equal."""
    if block == 0:
        return [FIRST_SEED + (seed << 8) + k for k in range(shadows)]
    return np.random.default_rng([seed, STREAM, 2, block]).integers(1 << 61, 1 << 62, shadows).tolist()


def as_trained(model: Model, dataset: Dataset) -> tuple[Model, str | None]:
    """An imported model with the training that its shadow models repeat in place of the import, and a note on it.

    It is what the user said of it at the import, and for the rest the recipe of such data. Other models as they are.
    """
    if not (model.steps and isinstance(model.steps[0], dict) and model.steps[0].get("step") == "import"):
        return model, None
    found = model.steps[0]
    step = recipe_of(model.net.description, dataset, model.members, minmax=0.0).train_step(0.0)
    step |= {of.name: found[of.name] for of in dataclasses.fields(Schedule) if of.name in found}
    guessed = [f"{name} {step[name]:g}" for name in ("epochs", "batch", "lr") if name not in found]
    note = f"how the model was trained is not known; its shadow models are trained by {', '.join(guessed)}"
    changed = dataclasses.replace(model, steps=[step, *model.steps[1:]])
    return changed, f"{note}; `import` takes what is known" if guessed else None


def undefended(model: Model) -> Model:
    """The model as one would train it who knows of no defence: the layout of its network, and of its steps the dense
    training alone, without game and dropout, on the cross-entropy.

    Epochs and weight decay stay: they are a matter of training first.
    """
    description = {name: value for name, value in model.net.description.items() if name != "dropout"}
    step = model.steps[0]
    if step["step"] in ALONE:
        step = {"step": "train", "stop_after": None, "inner_steps": step["inner_steps"]} | step["dense"]
    step = step | {"minmax": 0.0} | ({"loss": CROSS_ENTROPY} if "loss" in step else {})
    return dataclasses.replace(model, net=build(description, replicas=0), steps=[step])


def repeated(model: Model) -> dict[str, Any]:
    """What shadow models repeat: network and steps, without the outcomes of the steps, plain data."""
    outcomes = ("adversary", "status", "privacy", "accuracy", "canaries")  # shadow models have no canaries
    steps = [{name: value for name, value in step.items() if name not in outcomes} for step in model.steps]
    return {"network": model.net.description, "steps": steps}


def train_shadows(
    model: Model,
    dataset: Dataset,
    shadows: int,
    threads: int,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
    rows: slice = slice(None),
    kept: dict[str, Trained] | None = None,
    block: int = 0,
    noisy: bool = True,
) -> Shadows:
    """K shadows by the recipe of `model`, every step of it; at most BLOCK, of the block of that number.

    checkpoints: where their training is saved and resumed. rows: of the K shadows, those to train; each has the
    same bits whichever others are trained beside it. kept: networks after each step of other versions of the model, of
    the same rows: what is there is not trained again, what is trained is added. noisy: whether their sensitivity to
    noise is measured. Raises DivergenceError where one of them diverges.
    """
    pool, rng = make_pool(model, dataset), np.random.default_rng([model.seed, STREAM, 1, *([block] if block else [])])
    units = pool_units(pool, dataset)
    inside = design(len(units.y), shadows, rng, units.sizes)[:, units.of]
    seeds = seeds_of(model.seed, shadows, block)[rows]
    splits = _of_one_size([_split(pool, row) for row in inside], rng)[rows]
    logits, population, paths = {}, {}, None
    trained: Trained | None = None
    for done, (step, recipe) in enumerate(recipe_steps(model, dataset), 1):
        key = json.dumps([repeated(dataclasses.replace(model, steps=model.steps[:done])), shadows], sort_keys=True)
        if kept is None or key not in kept:
            of = (splits, checkpoints, model.net.description)
            trained = _after(step, trained, model, Experiment(dataset, recipe, seeds, threads, progress, *of))
            if kept is not None:
                kept[key] = trained
        trained = trained if kept is None else kept[key]
        net = trained.net
        if step["step"] == "prune":
            paths = path_margins(net, dataset, pool.scored, threads)
        logits[step["step"]] = outputs(net, dataset, pool.scored, threads)
        population[step["step"]] = outputs(net, dataset, pool.population, threads)
    changes = sensitivity(net, dataset, pool.scored, threads) if noisy else None
    return Shadows(inside[rows], logits, population, paths, changes)


def _after(step: dict[str, Any], before: Trained | None, model: Model, experiment: Experiment) -> Trained:
    """The shadows of a model after a step, from those before it; with int8 weights where the step's network has
    such."""
    trained = STEPS[step["step"]](step, before, model, experiment)
    if experiment.dropped:
        raise DivergenceError(experiment.dropped[0]["reason"])  # the shadows are a design: none can be spared
    if step.get("weights") == "int8":
        from nanoprune.lab.export.quantise import quantised_network  # imports the audit itself

        trained = dataclasses.replace(trained, net=quantised_network(trained.net))
    return trained


def _distilled(step: dict[str, Any], before: Trained | None, model: Model, experiment: Experiment) -> Trained:
    teacher = experiment.dense("teachers", teacher_of(model, step))
    return distilled(experiment, "shadows", model.net.description, teacher, step["temperature"])


def _private_step(step: dict[str, Any], before: Trained | None, model: Model, experiment: Experiment) -> Trained:
    variant = step["variant"] if "variant" in step else step["way"]  # its name in older model files
    return experiment.private_by("shadows", step["noise"], variant, step["keep"] and experiment.recipe.keep[0])


STEPS = {  # name -> (step, the shadows before it, model, experiment) -> the shadows after it
    "train": lambda step, _, model, of: of.dense("shadows", lam=of.recipe.minmax, epochs=step["stop_after"]),
    "prune": lambda step, before, model, of: of.pruned(before, of.recipe.keep, of.recipe.minmax)[0],
    "masked": lambda step, _, model, of: of.masked("shadows", step["variant"], of.recipe.keep[0]),
    "rewound": lambda step, _, model, of: of.rewound("shadows", of.recipe.keep[0], step["early"]),
    "past": lambda step, _, model, of: past(of, "shadows", step["strength"]),
    "selena": lambda step, _, model, of: selena(of, "shadows", step["models"], step["absent"]),
    "distilled": _distilled,
    "private": _private_step,
}


def outputs(net: Network, dataset: Dataset, index: np.ndarray, threads: int) -> np.ndarray:
    """Logits (R, n, classes) of the records `index` (n,), in evaluation mode. With one BLAS thread: with several, the
    last bits of a convolution's outputs depend on their number."""
    records = Records(dataset.x, dataset.y)
    with single_threaded_blas():
        return predict_fleet(net, records, np.tile(index, (net.replicas, 1)), threads)


def path_margins(net: Network, dataset: Dataset, index: np.ndarray, threads: int) -> np.ndarray:
    """What the pruning mask alone says of each record, (R, n).

    The network of the masks: every surviving weight becomes 1, every bias 0, every BatchNorm the identity. Its output
    for class c is then the number of surviving paths from the input to c, each weighed by its input; that does not
    depend on how hidden units are numbered, so that masks of different networks can be compared. The statistic is the
    log of that number for the record's class, less the log of the mean over all classes; one path is added to both.
    GroupNorm, LayerNorm and attention go on normalising: with these it is a statistic of the masks, and counts nothing.
    """
    masks = net.copy()
    masks.theta[:, : net.weight_count] = net.W != 0
    for bias in masks.biases:
        bias.value[...] = bias.start
    for statistic in masks.statistics:
        if statistic.share:  # the scale of a table's columns is part of the input
            statistic.value[...] = statistic.start
    one = 1.0  # what a single path counts
    for weight in masks.weights:  # means over inputs instead of sums, so that deep networks do not overflow
        weight.value /= weight.shape[-1]
        one /= weight.shape[-1]
    one = max(one, float(np.finfo(np.float32).tiny))
    paths = np.abs(outputs(masks, dataset, index, threads).astype(np.float64))  # (R, n, classes)
    of_label = np.take_along_axis(paths, np.broadcast_to(dataset.y[index], paths.shape[:2])[..., None], axis=2)[..., 0]
    return np.log(of_label + one) - np.log(paths.mean(axis=2) + one)


def _split(pool: Pool, inside: np.ndarray) -> Split:
    """A shadow's own split. What an attacker knows of it plays no part here."""
    none = np.empty(0, np.int64)
    members = np.concatenate([pool.scored[inside], pool.rest])
    return Split(members, pool.reference, pool.scored[~inside], none, none, none, none)


def _of_one_size(splits: list[Split], rng: np.random.Generator) -> list[Split]:
    """The splits, where some have fewer records than others with some of theirs twice, drawn at random: a fleet trains
    on as many in each."""
    parts = ("members", "nonmembers")
    most = {part: max(len(getattr(split, part)) for split in splits) for part in parts}

    def filled(records: np.ndarray, size: int) -> np.ndarray:
        missing = size - len(records)
        return np.concatenate([records, np.resize(rng.permutation(records), missing)]) if missing else records

    return [
        dataclasses.replace(split, **{part: filled(getattr(split, part), most[part]) for part in parts})
        for split in splits
    ]


def recipe_steps(model: Model, dataset: Dataset) -> list[tuple[dict[str, Any], Recipe]]:
    """The steps that made the model, each with the recipe that it ran by.

    Raises DataError where the model does not say how it was made.
    """
    try:
        names = [step["step"] for step in model.steps]
        if "shrink" in names:
            raise DataError("the model was shrunk, which changes no output; attack the model before `shrink`")
        if tuple(names) not in [(name,) for name in ALONE] and (names[:1] != ["train"] or set(names[1:]) - {"prune"}):
            found = reprlib.repr(names)
            raise DataError(f"the model's steps are {found}, expected train and then prune; train it again")
        return _recipes(model, dataset)
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError) as error:  # ArgumentError is a ValueError
        what = f"{type(error).__name__}: {first_line(error)}"
        raise DataError(f"the model's steps cannot be repeated ({what}); train it again with `train`") from error


def _recipes(model: Model, dataset: Dataset) -> list[tuple[dict[str, Any], Recipe]]:
    description, found = model.net.description, []
    base = recipe_of(description, dataset, model.members)
    base = dataclasses.replace(base, dropout=description.get("dropout", 0.0), reference=model.reference)
    for step in model.steps:
        if step["step"] == "train":
            base = dataclasses.replace(base, dense=_schedule(step), inner_steps=step["inner_steps"])
            recipe = dataclasses.replace(base, minmax=step["minmax"])
        elif step["step"] in ("masked", "rewound"):
            base = dataclasses.replace(base, dense=_schedule(step["dense"]), minmax=0.0)
            recipe = _pruning(base, step)
        elif step["step"] in ("distilled", "selena", "past"):
            base = recipe = dataclasses.replace(base, dense=_schedule(step["dense"]), minmax=0.0)
            if step["step"] == "distilled":
                teacher_of(model, step)
        elif step["step"] == "private":
            base = dataclasses.replace(base, dense=_schedule(step["dense"]), minmax=0.0)
            recipe = _private(base, step)
        else:
            recipe = _pruning(base, step)
        found.append((step, recipe))
    return found


def teacher_of(model: Model, step: dict[str, Any]) -> dict[str, Any]:
    """The description of the network that a model was distilled from. Raises DataError unless it is of bounded size and
    takes the same records to as many classes."""
    teacher = checked(step["teacher"])
    of_both = [(tuple(of["input_shape"]), of["classes"]) for of in (teacher, model.net.description)]
    if of_both[0] != of_both[1] or build(teacher, replicas=0).size > MAX_PARAMETERS:
        raise DataError("the model's teacher is too large, or takes other records than the model; train it again")
    return teacher


def _pruning(base: Recipe, step: dict[str, Any]) -> Recipe:
    return dataclasses.replace(
        base,
        keep=(tuple(step["keep"]) if isinstance(step["keep"], list) else step["keep"],),
        scope=step["scope"],
        scheme=step.get("scheme", "unstructured"),  # files of before there were schemes do not say
        exempt=tuple(step.get("exempt", ())),
        via=tuple(step["via"]),
        solver=step.get("solver", "admm"),
        prune=_schedule(step["prune"]),
        retrain=_schedule(step["retrain"]),
        admm=ADMMSettings(**step["admm"]),
        minmax=step["minmax"],
        inner_steps=step["inner_steps"],
    )


def _private(base: Recipe, step: dict[str, Any]) -> Recipe:
    own = {name: tuple(value) if isinstance(value, list) else value for name, value in step["private"].items()}
    recipe = base if step["keep"] is None else _pruning(base, step)
    return dataclasses.replace(recipe, private=Private(**own))


def _schedule(record: dict[str, Any]) -> Schedule:
    record = {"augment": "none", "loss": CROSS_ENTROPY} | record  # older model files do not name them
    return Schedule(**{field.name: record[field.name] for field in dataclasses.fields(Schedule)})

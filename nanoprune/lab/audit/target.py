"""The audit of a nanoprune model, by an attacker who trains shadow models as the target was trained."""

from __future__ import annotations

import functools
import hashlib
import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.special import softmax

from nanoprune.attack.scores import correctness
from nanoprune.errors import DataError
from nanoprune.lab.audit.audit import DELTA, conditions, rocs, summarise
from nanoprune.lab.audit.cache import cached
from nanoprune.lab.audit.epsilon_of_runs import runs_bound
from nanoprune.lab.audit.exposure import exposure, exposure_change, fleet_change
from nanoprune.lab.audit.features import Features
from nanoprune.lab.audit.measure import agreement_of
from nanoprune.lab.audit.prediction_attacks import Attacked, Fold, run_attacks
from nanoprune.lab.audit.predictions import Predictions
from nanoprune.lab.audit.sensitivity import sensitivity
from nanoprune.lab.audit.shadow_attacks import (
    ALL,
    AUXILIARY,
    NETWORK,
    attack_target,
    chosen_attacks,
    left_out,
    needed,
    shadow_attacks,
)
from nanoprune.lab.audit.shadows import (
    BLOCK,
    Pool,
    Shadows,
    as_trained,
    check_shadows,
    make_pool,
    outputs,
    path_margins,
    recipe_steps,
    repeated,
    train_shadows,
    undefended,
)
from nanoprune.lab.audit.stability import divide_shadows, stability_note, stability_of
from nanoprune.lab.audit.validity import model_checks, shadow_accuracy
from nanoprune.lab.audit.verdict import PRIOR, check_prior, conclude
from nanoprune.lab.audit.versions import checked_versions, log_odds
from nanoprune.lab.audit.views import Need, Views
from nanoprune.lab.data import Dataset, make_split
from nanoprune.lab.engine.passes import single_threaded_blas
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.models.model import Model, check_records
from nanoprune.lab.statistics.proportion import check_alpha
from nanoprune.lab.statistics.units import attack_name

NON_ADAPTIVE = " (non-adaptive)"  # ends the names of the attacks of the non-adaptive attacker


def attack_model(
    model: Model,
    dataset: Dataset,
    shadows: int = 16,
    alpha: float = 0.05,
    threads: int = 1,
    progress: Progress | None = None,
    dense: Model | None = None,
    cache: str | os.PathLike | None = None,
    prior: float = PRIOR,
    attacks: str = ALL,
    train: Callable[..., Shadows] | None = None,
    versions: Sequence[Model] = (),
    seeds: int = 1,
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Attack `model` with shadows by its own recipe (the adaptive attacker) and by undefended training (the
    non-adaptive attacker). Returns the results, as `audit` does, and each attack's ROC.

    The strongest attack is chosen among the adaptive ones, by its accuracy on the shadows. There is no bound on epsilon
    where the members are an official training set; delta is the model's own, where it was trained with differential
    privacy.
    dense: the network that `model` was pruned from, for the attacker who has both. prior: as of `audit`. attacks: names
    with commas between them, as of `chosen_attacks`; the threshold attacks are always made. train: what trains the
    shadows, with the arguments and the result of `train_shadows`, the default. versions: other released versions of the
    model, for the attacker who has them all. seeds: how many attackers the shadows are shared out to, for `stability`
    (`stability.py`; not with 1). More than BLOCK shadows take a `train` that has tasks: thresholds and what learns are
    fitted on the first BLOCK, the attacks on single records compare with all. Raises DataError where the data set,
    `dense` or a version is not the model's own, ArgumentError on unknown attacks and numbers that cannot be used.
    """
    check_alpha(alpha)
    check_prior(prior)
    check_shadows(shadows, None if train else BLOCK)
    whole = min(shadows, BLOCK)  # whose outputs are kept
    of_all = f"{whole} of " if whole < shadows else ""
    parts = divide_shadows(whole, seeds) if seeds != 1 else []
    chosen = chosen_attacks(attacks)
    began, progress = time.perf_counter(), progress or Progress()
    _check(model, dataset, dense)
    model, of_import = as_trained(model, dataset)
    versions = checked_versions(model, versions, dataset)
    recipe_steps(model, dataset)  # refused now, not after the training
    pool = make_pool(model, dataset)
    y = dataset.y[pool.scored]
    logits = outputs(model.net, dataset, pool.scored, threads)[0]
    target = _predictions(logits, y, pool.member, pool.group)
    units = target.units
    notes: list[str] = [] if of_import is None else [of_import]
    if any("canaries" in step for step in model.steps):
        notes.append("the model was trained on canaries, too, and its shadow models are not; `canaries` audits those")
    notes += [] if attacks == ALL else [f"attacks that were chosen: {attacks}; another may be stronger"]
    missing: dict[str, None] = {}  # what is refused, in order and once
    delta = _delta(model)
    attacked: dict[str, Attacked] = {}
    results: dict[str, Any] = {}
    if train is None:
        noisy = cache is not None or Need.NOISY in needed(chosen)  # what is kept serves other attacks later
        train = functools.partial(train_shadows, noisy=noisy, **({"kept": {}} if versions else {}))

    def shadows_of(of: Model, count: int = whole) -> Shadows:
        made_by = _made_by(of, dataset, pool, count)
        return cached(cache, made_by, functools.partial(train, of, dataset, count, threads, progress))

    for suffix, of in attackers(model).items():
        found = shadows_of(of, shadows)
        expected = (whole, len(pool.scored), target.classes)
        if any(values.shape != expected for values in found.logits.values()):
            raise DataError(f"{cache}: its shadows are of other records than the model's; delete them")
        views, of_model = _views(model, dense, dataset, pool, found, threads), suffix == ""
        if of_model and versions:
            views = replace(views, versions=log_odds([model, *versions], dataset, pool, threads, shadows_of))
        made = _every_attack(target, views, chosen, threads, progress, suffix, notes)
        attacked |= {name + suffix: of if of_model else replace(of, own=None) for name, of in made.items()}
        missing |= left_out(views, chosen)
        if of_model and parts:
            table = chosen - {NETWORK}  # which learns from all shadows together, and takes longest
            each = [_every_attack(target, views.part(part), table, threads, progress, "", []) for part in parts]
            results["stability"] = stability_of(units, each)
            notes.append(stability_note(results["stability"]))
        if of is model and len(found.logits) > 1:
            before, after = (exposure(found.logits[stage], y, found.inside).of(units) for stage in found.logits)
            results["exposure"] = exposure_change(before, after, units.y, target.classes, alpha)
            results["exposure"] |= fleet_change(*found.logits.values(), y, found.inside, alpha, units)
        if of is model:
            train_accuracy, test_accuracy = _accuracies(found, y)
            alike = shadow_accuracy(target, train_accuracy, test_accuracy)
            last = list(found.logits.values())[-1]
            results["epsilon_of_runs"] = runs_bound(last, y, found.inside, alpha, delta, units)
            results["shadows"] = {
                "count": shadows,
                "whole": whole,
                "train_accuracy": float(train_accuracy.mean()),
                "test_accuracy": float(test_accuracy.mean()),
            }
    results = {"alpha": alpha, "seed": model.seed, "fitted_on": f"{of_all}{shadows} shadow models"} | results
    drawn, auxiliary = model.members is not None, [attack_name(*of) for of in product(AUXILIARY, units.aggregations)]
    auxiliary = [name for name in auxiliary if name in attacked]
    results |= summarise(target, attacked, alpha, [np.arange(len(units.y))], auxiliary, drawn, delta)
    results["notes"] = notes + conditions(units, drawn)
    checks = [*model_checks(model, dataset, pool, target, attacked), alike]
    results["validity"] = [asdict(check) for check in checks]
    results["refused"] += missing
    candidates = {name: of for name, of in attacked.items() if of.own is not None and name not in auxiliary}
    results["agreement"] = agreement_of(units, candidates)
    for record in (results["epsilon_of_runs"], *results.get("exposure", {}).get("most_risen", [])):
        record["row"] = int(units.first[record["row"]])
    named = [*results["most_exposed"], *results["discoveries"]["records"], results["epsilon_of_runs"]]
    for record in named + results.get("exposure", {}).get("most_risen", []):
        record["row"] = int(pool.scored[record["row"]])
    held_out = len(make_split(dataset, model.members, model.reference, model.nonmembers, model.seed).nonmembers)
    results |= {"rows_of": "data set", "threads": threads, "held_out": held_out}
    results["data"] = {"name": dataset.name, "sha256": dataset.sha256}
    results["verdict"] = conclude(results, prior)
    results["seconds"] = round(time.perf_counter() - began, 2)
    return results, rocs(target, attacked, alpha)


def _every_attack(
    target: Predictions,
    views: Views,
    chosen: Collection[str],
    threads: int,
    progress: Progress,
    suffix: str,
    notes: list[str],
) -> dict[str, Attacked]:
    """The attacks that are fitted on the pooled outputs of the shadows, and those record by record."""
    (K, n), units = views.inside.shape, target.units
    own = list(views.logits.values())[-1][:K]
    group = (len(units.y) * np.arange(K)[:, None] + units.of).ravel() if units.grouped else None  # of one shadow each
    known = _predictions(own.reshape(K * n, -1), np.tile(views.y, K), views.inside.ravel(), group)

    def start(stage: str, total: int | None) -> None:
        progress.start(f"{stage}{suffix}", total)

    def note(text: str) -> None:
        notes.append(f"{text}{suffix}")

    fold = Fold(known, np.arange(len(units.y)))
    attacked = run_attacks(target, [fold], 0, threads, start, progress.advance, note, quick=NETWORK not in chosen)
    with single_threaded_blas():
        for name, attack in shadow_attacks(views, chosen).items():
            attacked |= {
                attack_name(name, aggregation): attack_target(attack, views, aggregation)
                for aggregation in units.aggregations
            }
    return attacked


def _predictions(logits: np.ndarray, y: np.ndarray, member: np.ndarray, group: np.ndarray | None) -> Predictions:
    """Of logits (n, classes)."""
    logits = logits.astype(np.float64)
    return Predictions(softmax(logits, axis=1), y, member, logits=logits, group=group)


def _delta(model: Model) -> float:
    """The delta of the model's own privacy statement, else DELTA."""
    stated = (step["privacy"].get("delta") for step in model.steps if isinstance(step.get("privacy"), dict))
    return next((delta for delta in stated if isinstance(delta, float) and 0 < delta < 1), DELTA)


def _accuracies(found: Shadows, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train and test accuracy of each shadow, (K,) and (K,), after the last step; each saw half of the records."""
    right = correctness(list(found.logits.values())[-1], np.tile(y, (len(found.inside), 1)))  # (K, n)
    of = ((right * seen).sum(axis=1) / seen.sum(axis=1) for seen in (found.inside, ~found.inside))
    return next(of), next(of)


def _views(model: Model, dense: Model | None, dataset: Dataset, pool: Pool, found: Shadows, threads: int) -> Views:
    """The shadows' outputs with the target's below them; of the dense stage too where the attacker has that network."""
    stage = list(found.logits)[-1]
    nets = {stage: model.net}
    if dense is not None and len(found.logits) > 1:
        nets = {"train": dense.net, **nets}
    logits = {
        name: np.concatenate([found.logits[name], outputs(net, dataset, pool.scored, threads)])
        for name, net in nets.items()
    }
    paths = None
    if found.paths is not None:
        paths = np.concatenate([found.paths, path_margins(model.net, dataset, pool.scored, threads)])
    population = np.concatenate([found.population[stage], outputs(model.net, dataset, pool.population, threads)])
    of = (dataset.y[pool.scored], dataset.y[pool.population], pool.group)
    features = Features.of(dataset.x, dataset.y, dataset.classes, pool.scored, pool.population)
    changed = found.sensitivity
    if changed is not None:
        changed = np.concatenate([changed, sensitivity(model.net, dataset, pool.scored, threads)])
    return Views(found.inside, logits, population, paths, *of, features, sensitivity=changed, rest=found.rest)


def attackers(model: Model) -> dict[str, Model]:
    """The models whose training the shadows repeat, by the suffix of their attacks' names: the model itself, and where
    it was defended the one without defence."""
    dense = undefended(model)
    return {"": model} | ({NON_ADAPTIVE: dense} if repeated(dense) != repeated(model) else {})


def _made_by(model: Model, dataset: Dataset, pool: Pool, shadows: int) -> dict[str, Any]:
    """Everything that the predictions of the shadows of `model` depend on."""
    pool_sha256 = hashlib.sha256(b"".join(a.tobytes() for a in (pool.scored, pool.rest, pool.population))).hexdigest()
    return repeated(model) | {
        "shadows": shadows,
        "seed": model.seed,
        "members": model.members,
        "reference": model.reference,
        "data_sha256": dataset.sha256,
        "pool_sha256": pool_sha256,
        "numpy": np.__version__,
    }


def _check(model: Model, dataset: Dataset, dense: Model | None) -> None:
    check_records(model, dataset)
    if dense is None:
        return
    same = ("dataset", "data_sha256", "members", "reference", "nonmembers", "seed")
    alike = all(getattr(dense, name) == getattr(model, name) for name in same)
    if not alike or dense.net.description != model.net.description or dense.steps != model.steps[:-1]:
        raise DataError("dense: not the network that the model was pruned from; give the one that `prune` read")
    if len(dense.steps) > 1:
        raise DataError("dense: was pruned itself; an attacker who has both is compared with dense shadows only")

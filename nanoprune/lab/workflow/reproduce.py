"""The paper's comparison: data set -> defences -> attacks -> results, with the controls that it needs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nanoprune.lab.audit.fleet import attack_methods
from nanoprune.lab.audit.shadows import BLOCK, check_shadows
from nanoprune.lab.audit.validity import comparison_checks, privacy_checks
from nanoprune.lab.data import Dataset
from nanoprune.lab.engine.run_folder import Run, identity
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.methods import PRIVATE, check_repeatable, chosen, find_noise, train_methods
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.experiment.results import header, method_entry, read_results, roc_curves, with_changes
from nanoprune.lab.privacy.accounting import delta_warning
from nanoprune.lab.storage.checkpoint import warn
from nanoprune.lab.tasks.comparison import Gathered


def reproduce(
    dataset: Dataset,
    recipe: Recipe,
    seeds: Sequence[int],
    threads: int,
    progress: Progress | None = None,
    command: str = "",
    shadows: int = 0,
    methods: str = "default",
    run: Run | None = None,
    gathered: Gathered | None = None,
) -> tuple[dict[str, Any], dict[str, dict[str, np.ndarray]]]:
    """Train and attack the methods that are named. Returns the results, as results.json has them, and curves by method.

    methods: names with commas between them, "default" or "all", see `lab.experiment.methods`. The default, in order:
    baseline; for each keep ratio K early-stop and small-dense, the controls of equal accuracy and of equal size;
    minmax; prune-1 and prune-1+minmax, the controls for the schedule; prune-K, prune-K+minmax and magnitude-K, the
    control for ADMM. The controls of the first ratio have the bare name, those of the others end in -K. With minmax = 0
    there is no game. With `shadows`, an even number of at least 6, every network is also attacked with so many shadow
    models, which takes about as many times as long. run: where work is resumed, if it was interrupted; the results of a
    finished run are read, and have no curves. gathered: training that tasks have done (`lab.tasks`), in place of
    training here. A seed whose loss stops being finite in one method is left out of all.
    Raises ArgumentError on an unknown method or one that shadow models cannot repeat, DivergenceError where no seed is
    left, DataError where a finished run's results are not what it wrote.
    """
    began = time.perf_counter()
    experiment = Experiment(dataset, recipe, seeds, threads, progress)
    wanted = chosen(recipe, methods)  # refused before the run begins
    find_noise(experiment, wanted)
    if any(method.name.startswith(PRIVATE) for method in wanted):
        warning = delta_warning(recipe.private.delta, experiment.indices("members").shape[1])
        if warning:
            warn(warning)
    if shadows:
        check_shadows(shadows, BLOCK)
        check_repeatable(wanted)
    if run:
        run.begin(identity(dataset, recipe, seeds, threads, experiment.splits, shadows=shadows, methods=methods))
        experiment.checkpoints = gathered or run.checkpoints
        if run.finished:
            return read_results(run.folder), {}
    trained = train_methods(experiment, methods)
    if experiment.dropped:
        experiment, trained = experiment.without_dropped(trained)
    entries = {}
    outcomes = experiment.attack(trained)
    for method, t in trained.items():
        entries[method] = method_entry(experiment, t, outcomes[method])
        t.curves |= roc_curves(experiment, outcomes[method])
    if shadows:
        cache = run.checkpoints.folder / "shadows" if run else None
        for method, entry in attack_methods(experiment, trained, shadows, cache).items():
            entries[method]["shadow_attacks"] = entry
    checks = [*comparison_checks(experiment, trained), *privacy_checks(entries)]
    about = header(experiment, trained)
    about["notes"] += [t.note for t in trained.values() if t.note]
    results = about | {
        "command": command,
        "seconds": round(time.perf_counter() - began, 2),
        "validity": [asdict(check) for check in checks],
        "methods": with_changes(entries, wanted),
    }
    return results, {method: t.curves for method, t in trained.items()}

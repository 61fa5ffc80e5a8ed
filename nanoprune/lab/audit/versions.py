"""Several released versions of one model: their outputs for the records, and those of the shadow models of each.

Versions have their members and their first training in common: the dense network, what was pruned from it, int8 copies.
The shadows of every version are those of one design, and begin from the same initial weights: shadow k of one version
and shadow k of another are versions of one network, as the target's are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nanoprune.attack.shadow.lira import margin
from nanoprune.errors import DataError
from nanoprune.lab.audit.shadows import Pool, Shadows, as_trained, outputs, recipe_steps, repeated
from nanoprune.lab.data import Dataset
from nanoprune.lab.models.model import Model

SAME = ("dataset", "data_sha256", "members", "reference", "nonmembers", "seed")
MOST = 32  # versions of a model, itself included


def checked_versions(model: Model, versions: Sequence[Model], dataset: Dataset) -> list[Model]:
    """The other versions, each with the training that its shadow models repeat (`as_trained`).

    Raises DataError where one was not made from the same dense network as the model, or is there twice.
    """
    if len(versions) >= MOST:
        raise DataError(f"versions: {len(versions)}, at most {MOST - 1} are compared with the model; leave some out")
    found = [as_trained(version, dataset)[0] for version in versions]
    for place, version in enumerate(found):
        alike = all(getattr(version, name) == getattr(model, name) for name in SAME)
        if not alike or version.net.description != model.net.description or _first(version) != _first(model):
            raise DataError(
                f"versions: number {place + 1} was not made from the same dense network as the model; give what "
                "`train`, `prune` or `quantise` wrote on the way from one to the other"
            )
        recipe_steps(version, dataset)  # refused now, not after the training
        if any(repeated(version) == repeated(other) for other in (model, *found[:place])):
            raise DataError(f"versions: number {place + 1} was made by the same steps as another; name each once")
    return found


def log_odds(
    models: Sequence[Model],
    dataset: Dataset,
    pool: Pool,
    threads: int,
    shadows_of: Callable[[Model], Shadows],
) -> np.ndarray:
    """phi (K + 1, n, d) of d versions: of the K shadows of each, and of the version itself as row K."""
    y, columns = dataset.y[pool.scored], []
    for model in models:
        last = list(shadows_of(model).logits.values())[-1]
        columns.append(margin(np.concatenate([last, outputs(model.net, dataset, pool.scored, threads)]), y))
    return np.stack(columns, axis=-1)


def _first(model: Model) -> dict[str, Any]:
    """What is repeated of the first step, whichever weights it was kept with."""
    first = repeated(dataclasses.replace(model, steps=model.steps[:1]))
    return first | {"steps": [{name: value for name, value in s.items() if name != "weights"} for s in first["steps"]]}

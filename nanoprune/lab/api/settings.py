"""The recipe that follows from the parameters of a classifier."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.api.arguments import expect
from nanoprune.lab.api.estimator import Estimator
from nanoprune.lab.data import Dataset, Split
from nanoprune.lab.experiment.recipe_file import read_recipe
from nanoprune.lab.experiment.recipes import Keep, Recipe, recipe_for, usual_recipe
from nanoprune.prune import parse_scheme

PARAMETERS = {  # what each may be
    "network": ("a text", "None"),
    "widths": ("a number", "a list of integers", "None"),
    "epochs": ("an integer", "None"),
    "lr": ("a number", "None"),
    "minmax": ("a number",),
    "keep": ("a number", "a list of numbers", "None"),
    "scheme": ("a text", "None"),
    "members": ("an integer", "a text", "None"),
    "recipe": ("a Recipe", "a path", "None"),
}


def recipe_of(model: Estimator, data: Dataset, split: Split | None = None) -> Recipe:
    """The recipe of a data set with a classifier's parameters, and the sizes of a split where all records are members.

    Raises ArgumentError on parameters of another type or of values that cannot be used.
    """
    to = {name: expect(name, getattr(model, name), *kinds) for name, kinds in PARAMETERS.items()}
    keep, usual = ratio_of(model), to["recipe"]
    changes = {name: to[name] for name in ("network", "widths", "scheme", "minmax")}
    changes["keep"] = None if keep is None else (keep,)
    if isinstance(usual, (str, os.PathLike)):
        usual = read_recipe(usual, usual_recipe(data))
    recipe = recipe_for(data, to["members"], usual, **changes)
    of_dense = {name: to[name] for name in ("epochs", "lr") if to[name] is not None}
    dense = dataclasses.replace(recipe.dense, **of_dense)
    if split is None or len(split.nonmembers):
        return dataclasses.replace(recipe, dense=dense)
    if recipe.minmax and not len(split.reference):
        raise ArgumentError("minmax needs records that are no members: fit(X, y, reference=(X, y))")
    sizes: dict[str, Any] = {"members": len(split.members), "reference": len(split.reference), "nonmembers": 0}
    return dataclasses.replace(recipe, dense=dense, **sizes)


def ratio_of(model: Estimator) -> Keep | None:
    """The ratio that a classifier is to be pruned to, or one a layer; None where it is not to be pruned."""
    keep, scheme = (expect(name, getattr(model, name), *PARAMETERS[name]) for name in ("keep", "scheme"))
    if keep is not None:
        return keep if isinstance(keep, tuple) else float(keep)
    found = None if scheme is None else parse_scheme(scheme).keep
    if scheme is not None and found is None:
        raise ArgumentError(f"keep is missing: scheme {scheme} has no ratio of its own; give one, such as 0.05")
    return found

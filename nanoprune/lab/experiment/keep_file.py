"""The keep ratios of layers: from an option, a scheme, or a JSON file."""

from __future__ import annotations

import os
import reprlib

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset
from nanoprune.lab.experiment.columns import description_for
from nanoprune.lab.experiment.recipes import Keep, recipe_for
from nanoprune.lab.storage.bounded import read_json
from nanoprune.lab.zoo import build
from nanoprune.lab.zoo.keep_ratios import layer_names as names_of
from nanoprune.prune import parse_scheme


def read_keep_file(path: str | os.PathLike, names: list[str]) -> tuple[float, ...]:
    """The ratios of a JSON file such as {"conv2": 0.1, "dense1": 0.05}, one per layer, in the order of `names`.

    A key is a layer's name or its index, counted from 0. A layer that the file does not name keeps all its weights.
    Raises DataError, naming the file, where it is missing or not a JSON object, names a layer twice or one that the
    network does not have, or has a ratio outside (0, 1].
    """
    pairs = read_json(path, f'write an object such as {{"{names[0]}": 0.1}}', object_pairs_hook=tuple)
    if not isinstance(pairs, tuple):  # objects are tuples here, arrays are lists
        raise DataError(f'{path}: not a JSON object; write one such as {{"{names[0]}": 0.1}}')
    found: dict[str, float] = {}
    places = {str(place): name for place, name in enumerate(names)}
    for key, ratio in pairs:
        name = places.get(key, key)
        if name not in names:
            raise DataError(f"{path}: the network has no layer {reprlib.repr(key)}; its layers are {', '.join(names)}")
        if name in found:
            raise DataError(f"{path}: the layer {name} is named twice; give it one ratio")
        if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio <= 1:
            raise DataError(f"{path}: the ratio of {name} must lie in (0, 1], got {reprlib.repr(ratio)}")
        found[name] = float(ratio)
    return tuple(found.get(name, 1.0) for name in names)


def layer_names(dataset: Dataset, members: int | str | None = None, network: str | None = None) -> list[str]:
    """The names of the layers with weights of the network of `recipe_for`."""
    recipe = recipe_for(dataset, members, network=network)
    net = build(description_for(dataset, recipe), replicas=0)
    return names_of(net)


def one_ratio(keep: Keep | None, from_file: Keep | None, scheme: str | None) -> Keep:
    """The ratio (or one per layer) from an option, a file or a scheme; ArgumentError unless exactly one gives it."""
    of_scheme = parse_scheme(scheme).keep if scheme else None
    given = [ratio for ratio in (keep, from_file) if ratio is not None]
    if len(given) > 1:
        raise ArgumentError("keep comes from --keep or from --keep-file, got both; leave one out")
    if not given and of_scheme is None:
        raise ArgumentError("keep is missing: give --keep, --keep-file, or a --scheme N:M, which brings its ratio")
    return given[0] if given else of_scheme

"""Networks for a data set, with the scale of a table's columns fitted on their members before training."""

from __future__ import annotations

from typing import Any

import numpy as np

from nanoprune.backend import to_device
from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset
from nanoprune.lab.data.table import number_count
from nanoprune.lab.experiment.recipes import Recipe
from nanoprune.lab.layers import ColumnScaling
from nanoprune.lab.zoo import architecture, describe
from nanoprune.nn import Network
from nanoprune.nn.sequential import leaves


def description_for(dataset: Dataset, recipe: Recipe) -> dict[str, Any]:
    """The description of the recipe's network for a data set; that of a table scales its columns first. Raises
    ArgumentError where one of the two has tokens and the other has not."""
    if architecture(recipe.network).tokens and dataset.tokens is None:
        raise ArgumentError(f"network {recipe.network} takes tokens, and {dataset.name} has none; try mlp")
    size = (dataset.x.shape[1:], dataset.classes, recipe.widths)
    numbers = number_count(dataset.x)
    return describe(recipe.network, *size, dropout=recipe.dropout, numbers=numbers, tokens=dataset.tokens)


def fit_columns(net: Network, x: Any, index: np.ndarray) -> Network:
    """Set mean and std of the columns in each `ColumnScaling` of replica r from the records index[r], (R, n); `net`.

    x: of the data set, a `Table` where the network has such a layer. Other networks stay as they are. DP-SGD spends
    nothing on them, so that there `index` must be of public records. Raises ArgumentError where there are no records.
    """
    layers = [layer for layer in leaves(net.body) if isinstance(layer, ColumnScaling)]
    if layers and not index.shape[1]:
        raise ArgumentError(
            "reference must be at least 1: with DP-SGD the columns of a table are standardised by the reference set, "
            "which is public"
        )
    for r in range(net.replicas if layers else 0):
        mean, std = x.fitted(index[r])
        for layer in layers:
            for statistic, values in ((layer.mean, mean), (layer.std, std)):
                statistic.value[r] = to_device(values.astype(net.theta.dtype)[:, None])
    return net

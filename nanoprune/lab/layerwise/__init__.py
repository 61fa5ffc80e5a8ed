"""Pruning layer by layer without training: each layer is pruned so that its outputs on given records change little.

The records are the reference set, never members: a reference set that is public keeps the choice of the weights, and
their new values, from seeing the members a second time. What the dense network knows of them stays in its weights.
"""

from nanoprune.lab.layerwise.layers import ALGORITHMS as ALGORITHMS
from nanoprune.lab.layerwise.layers import check_prunable as check_prunable
from nanoprune.lab.layerwise.layers import prune_layers as prune_layers
from nanoprune.lab.layerwise.layers import supports as supports

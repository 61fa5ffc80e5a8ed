"""The networks, each a list of layers, and the plain-data descriptions from which they are built again."""

from nanoprune.zoo.attacker import attacker
from nanoprune.zoo.build import NETWORKS, build, describe, narrowed
from nanoprune.zoo.lenet import lenet5, lenet300
from nanoprune.zoo.mlp import mlp

__all__ = ["NETWORKS", "attacker", "build", "describe", "lenet5", "lenet300", "mlp", "narrowed"]

"""Projections onto sparsity sets, the ADMM solver, masks, and what pruning leaves."""

from nanoprune.lab.shrink.shrink import shrink
from nanoprune.lab.zoo.cost import costs
from nanoprune.prune.admm import ADMM, ADMMSettings, Status
from nanoprune.prune.budget import Budget
from nanoprune.prune.erk import erk
from nanoprune.prune.mask import Mask, hard_prune
from nanoprune.prune.projection import project
from nanoprune.prune.ratios import layer_ratios, read_keep_file
from nanoprune.prune.scheme import parse_scheme

__all__ = [
    "ADMM",
    "ADMMSettings",
    "Budget",
    "Mask",
    "Status",
    "costs",
    "erk",
    "hard_prune",
    "layer_ratios",
    "parse_scheme",
    "project",
    "read_keep_file",
    "shrink",
]

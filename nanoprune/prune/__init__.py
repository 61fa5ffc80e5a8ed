"""Projections onto sparsity sets, the ADMM solver, and masks."""

from nanoprune.prune.admm import ADMM, ADMMSettings, Status
from nanoprune.prune.budget import Budget
from nanoprune.prune.mask import Mask, hard_prune
from nanoprune.prune.projection import project

__all__ = ["ADMM", "ADMMSettings", "Budget", "Mask", "Status", "hard_prune", "project"]

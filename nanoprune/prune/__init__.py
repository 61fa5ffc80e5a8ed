"""Projections onto sparsity constraints, the ADMM solver, and the masks of pruned networks."""

from nanoprune.prune.admm import ADMM as ADMM
from nanoprune.prune.admm import ADMMSettings as ADMMSettings
from nanoprune.prune.admm import Status as Status
from nanoprune.prune.budget import Budget as Budget
from nanoprune.prune.mask import Mask as Mask
from nanoprune.prune.mask import hard_prune as hard_prune
from nanoprune.prune.projection import project as project
from nanoprune.prune.scheme import parse_scheme as parse_scheme

"""Defences that act on the training: the Min-Max game of Nasr et al., and DP-SGD of Abadi et al."""

from nanoprune.defend.dpsgd import DPSGD
from nanoprune.defend.minmax import MinMax

__all__ = ["DPSGD", "MinMax"]

"""Defences that act during training: the Min-Max game."""

from nanoprune.defend.minmax import MinMax

__all__ = ["MinMax"]

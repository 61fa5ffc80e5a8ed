"""Removing pruned units: from a network with pruned filters or channels to a smaller dense one."""

from nanoprune.lab.shrink.shrink import shrink as shrink

"""Chapter 12: the whole table, and how to read it

Write each function in place of its last line, then: python cli.py learn check 12
"""

import math

import numpy as np


def balanced(hits, members, alarms, others):
    """Balanced accuracy where `hits` of the members and `alarms` of the others are called members."""
    raise NotImplementedError


def chosen_attack(known, scored):
    """The accuracy that an honest attacker reports: known, scored (attacks,) are the attacks' accuracies on the records
    that the attacker knows, and on those that are scored. Of equal ones the first is taken."""
    raise NotImplementedError


def comparisons(confidence, share):
    """The smallest number m of independent comparisons without any effect, with intervals of that confidence in (0, 1),
    for which some interval excludes zero with a probability of more than `share`."""
    raise NotImplementedError

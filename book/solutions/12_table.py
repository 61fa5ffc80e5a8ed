"""Answers to the exercises of chapter 12."""

import numpy as np


def balanced(hits, members, alarms, others):
    return (hits / members + 1 - alarms / others) / 2


def chosen_attack(known, scored):
    return scored[int(np.argmax(known))]


def comparisons(confidence, share):
    m = 1
    while 1 - confidence**m <= share:
        m += 1
    return m

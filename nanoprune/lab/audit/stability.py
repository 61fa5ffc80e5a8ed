"""Stability: which members several attackers find, whose shadow models have different seeds.

The shadow models are shared out among S attackers, pairs of twins together. Each attacks the same target, with all of
the attacks; the decisions, and the members above all but a share of the non-members, are counted attack by attack and
over all attacks (`nanoprune/lab/statistics/agreement.py`). That attacks of one accuracy find other members with other
seeds was shown by Wang et al. 2025 ("Membership inference attacks as privacy tools"), who train all shadow models anew;
to share out those that there are is ours, and costs no training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.audit.measure import found_members
from nanoprune.lab.audit.prediction_attacks import Attacked
from nanoprune.lab.audit.shadows import FEWEST
from nanoprune.lab.statistics import members_in_common, members_over_seeds
from nanoprune.lab.statistics.units import Units


def divide_shadows(shadows: int, seeds: int) -> list[np.ndarray]:
    """The shadows of each of S attackers: all K of them, pairs together, in parts that differ by a pair at most.

    Raises ArgumentError where an attacker would have fewer than FEWEST.
    """
    if seeds < 1:
        raise ArgumentError(f"seeds must be at least 1, got {seeds}")
    if shadows // 2 // seeds * 2 < FEWEST:
        raise ArgumentError(
            f"seeds must be at most {shadows // FEWEST} with {shadows} shadow models, got {seeds}: each attacker needs "
            f"{FEWEST} of them; train {FEWEST * seeds}, or ask for fewer seeds"
        )
    pairs = np.arange(shadows).reshape(-1, 2)
    return [part.ravel() for part in np.array_split(pairs, seeds)]


def stability_of(units: Units, attackers: Sequence[Mapping[str, Attacked]]) -> dict[str, Any]:
    """{"seeds", "attacks": {NAME: {"decisions": A, RATE: A}}, "all": {"decisions": B, RATE: B}} of the attacks of S
    attackers, with A as of `members_in_common`, over the seeds of one attack, and B as of `members_over_seeds`."""
    names = list(attackers[0])
    each = {name: [found_members(units, attacker[name]) for attacker in attackers] for name in names}
    kinds = list(each[names[0]][0])
    found = {kind: np.array([[of[kind] for of in each[name]] for name in names]) for kind in kinds}  # (m, S, n) each
    return {
        "seeds": len(attackers),
        "members": int(units.member.sum()),
        "attacks": {name: {kind: members_in_common(found[kind][i]) for kind in kinds} for i, name in enumerate(names)},
        "all": {kind: members_over_seeds(found[kind]) for kind in kinds},
    }


def stability_note(found: Mapping[str, Any]) -> str:
    """The decisions of all attacks in a sentence."""
    of = found["all"]["decisions"]
    return (
        f"{found['seeds']} attackers with shadow models of other seeds, {len(found['attacks'])} attacks each, on "
        f"{found['members']:,} members: {of['union']:,} are found by some attack with some seed, {of['stable']:,} by "
        f"some attack with every seed, {of['intersection']:,} by every attack with every seed"
    )

"""How far several attacks, or one attack with several seeds, find the same members.

Attacks of equal accuracy may find different members: a record that one of them misses is not safe from the others. So
Wang et al. 2025 ("Membership inference attacks as privacy tools") look at the union and the intersection of what is
found. Jaccard's index of two attacks is the share of what either finds that both find.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def members_in_common(found: np.ndarray) -> dict[str, Any]:
    """{"union", "intersection", "jaccard"} of the members that each of m attacks finds, (m, n) bool.

    Counts of members; jaccard is its mean over pairs of attacks of which one at least finds a member, and None where
    there is no such pair.
    """
    of = found.astype(np.int64)
    both = of @ of.T  # |A and B|, (m, m)
    sizes = of.sum(axis=1)
    either = sizes[:, None] + sizes - both  # |A or B|
    pairs = np.triu(either > 0, k=1)
    return {
        "union": int(found.any(axis=0).sum()),
        "intersection": int(found.all(axis=0).sum()),
        "jaccard": float((both[pairs] / either[pairs]).mean()) if pairs.any() else None,
    }


def members_over_seeds(found: np.ndarray) -> dict[str, int]:
    """Counts of the members that m attacks find with S seeds each, found (m, S, n) bool.

    {"union": by any attack with any seed, "stable": by some attack with every seed, "common": by every attack with some
    seed, "intersection": by every attack with every seed}. A member that is found with some seeds alone is found by
    luck as much as by the attack; the stable ones are found again.
    """
    ever, always = found.any(axis=1), found.all(axis=1)  # (m, n)
    return {
        "union": int(ever.any(axis=0).sum()),
        "stable": int(always.any(axis=0).sum()),
        "common": int(ever.all(axis=0).sum()),
        "intersection": int(always.all(axis=0).sum()),
    }

"""Who is a member: records divided into members, reference set and non-members, and what the attacker knows of them."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256
from nanoprune.lab.data.groups import borders, cut_at_most, together

STREAM = int.from_bytes(b"split", "big")  # keeps these draws apart from the others that a run makes from its seed


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a data set, int64, in random order; members, reference and nonmembers share no record, and no group.

    The attacker knows `known_members` and `known_nonmembers`, and is scored on the rest of both, never on a record that
    it knows.
    """

    members: np.ndarray  # D, the training set
    reference: np.ndarray  # D', used by the Min-Max game alone
    nonmembers: np.ndarray  # used by no training
    known_members: np.ndarray
    known_nonmembers: np.ndarray
    scored_members: np.ndarray
    scored_nonmembers: np.ndarray

    @property
    def sha256(self) -> str:
        """SHA-256, in hex, of all the indices."""
        return arrays_sha256(*(getattr(self, field.name) for field in fields(self)))


def make_split(dataset: Dataset, members: int | None, reference: int, nonmembers: int, seed: int) -> Split:
    """Draw a split of the asked sizes, without replacement; the same arguments give the same split.

    With a number of `members` all records are drawn uniformly from the whole data set, so that members and non-members
    have one distribution. With `members` None the members are the official training set, and the others come from the
    official test set. The attacker knows half of the members (rounded down) and as many non-members, but at most half
    of those (rounded down).
    Of a data set with groups the groups are drawn uniformly, and each is in one part alone; what the attacker knows and
    what it is scored on are parts, too. The sizes are of records. Of the group with which a part becomes full, as many
    records as there is room for are drawn at random, and the others are used nowhere.
    Raises ArgumentError on counts or a seed that cannot be used.
    """
    _check_integer("members", members, 2, optional=True)
    _check_integer("reference", reference, 0)
    _check_integer("nonmembers", nonmembers, 2)
    _check_integer("seed", seed, 0)
    _check_counts(dataset, members, reference, nonmembers)
    rng, total, groups = np.random.default_rng([seed, STREAM]), len(dataset.y), dataset.groups
    if members is None:
        members = dataset.train
        order = np.concatenate([rng.permutation(members), members + rng.permutation(total - members)])
    else:
        order = rng.permutation(total)
        order = order if groups is None else together(order, groups, rng)
    known = members // 2
    known_rest = min(known, nonmembers // 2)
    sizes = (known, members - known, reference, known_rest, nonmembers - known_rest)
    parts = _parts(order, sizes, None if groups is None else borders(order, groups))
    if len(parts[-1]) < sizes[-1]:
        raise ArgumentError(
            f"members {members} + reference {reference} + nonmembers {nonmembers} records are more than {dataset.name} "
            f"has in whole groups; ask for at most {total - cut_at_most(groups)}, for which there are always enough"
        )
    known_members, scored_members, aside, known_nonmembers, scored_nonmembers = parts
    split = Split(
        members=np.concatenate([known_members, scored_members]),
        reference=aside,
        nonmembers=np.concatenate([known_nonmembers, scored_nonmembers]),
        known_members=known_members,
        known_nonmembers=known_nonmembers,
        scored_members=scored_members,
        scored_nonmembers=scored_nonmembers,
    )
    for field in fields(split):
        getattr(split, field.name).setflags(write=False)  # the parts share memory
    return split


def _parts(order: np.ndarray, sizes: Sequence[int], ends: np.ndarray | None) -> list[np.ndarray]:
    """The records in their order, in parts of these sizes; each part begins where a group does, at one of `ends`."""
    parts, start = [], 0
    for size in sizes:
        parts.append(order[start : start + size])
        start += len(parts[-1])
        start = start if ends is None else int(ends[np.searchsorted(ends, start)])
    return parts


def _check_counts(dataset: Dataset, members: int | None, reference: int, nonmembers: int) -> None:
    """ArgumentError unless the data set has so many records."""
    total, train = len(dataset.y), dataset.train
    others = f"reference {reference} + nonmembers {nonmembers}"
    if members is None:
        if dataset.groups is not None:
            raise ArgumentError(
                f"members: {dataset.name} has groups, which an official training set may part; give a number"
            )
        if reference + nonmembers > total - train:
            raise ArgumentError(
                f"{others} = {reference + nonmembers} records, but {dataset.name} has {total - train} "
                "outside its official training set; ask for fewer, or give members as a number"
            )
        if train < 2:
            raise ArgumentError(f"members: the official training set of {dataset.name} holds {train}, 2 are needed")
    elif members + reference + nonmembers > total:
        raise ArgumentError(
            f"members {members} + {others} = {members + reference + nonmembers} records, "
            f"but {dataset.name} has {total}; ask for fewer"
        )


def splits_sha256(splits: Iterable[Split]) -> str:
    """SHA-256, in hex, of the hashes of several splits in their order."""
    return hashlib.sha256(" ".join(split.sha256 for split in splits).encode()).hexdigest()


def _check_integer(name: str, value: object, least: int, optional: bool = False) -> None:
    """ArgumentError unless `value` is an integer (a bool is none) of at least `least`, or None where that may be."""
    if optional and value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{name} must be an integer of at least {least}{' or None' * optional}, got {value!r}")

"""Who is a member: records divided into members, reference set and non-members, and what the attacker knows of them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np

from nanoprune.errors import ArgumentError
from nanoprune.lab.data.dataset import Dataset, arrays_sha256

STREAM = int.from_bytes(b"split", "big")  # keeps these draws apart from the others that a run makes from its seed


@dataclass(frozen=True, eq=False)
class Split:
    """Indices into a data set, int64, in random order; members, reference and nonmembers share no record.

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
    of those (rounded down). Raises ArgumentError on counts or a seed that cannot be used.
    """
    _check_integer("members", members, 2, optional=True)
    _check_integer("reference", reference, 0)
    _check_integer("nonmembers", nonmembers, 2)
    _check_integer("seed", seed, 0)
    rng, total, train = np.random.default_rng([seed, STREAM]), len(dataset.y), dataset.train
    others = f"reference {reference} + nonmembers {nonmembers}"
    if members is None:
        if reference + nonmembers > total - train:
            raise ArgumentError(
                f"{others} = {reference + nonmembers} records, but {dataset.name} has {total - train} "
                "outside its official training set; ask for fewer, or give members as a number"
            )
        if train < 2:
            raise ArgumentError(f"members: the official training set of {dataset.name} holds {train}, 2 are needed")
        inside, outside = rng.permutation(train), train + rng.permutation(total - train)
    else:
        if members + reference + nonmembers > total:
            raise ArgumentError(
                f"members {members} + {others} = {members + reference + nonmembers} records, "
                f"but {dataset.name} has {total}; ask for fewer"
            )
        inside, outside = np.split(rng.permutation(total), [members])
    for array in (inside, outside):
        array.setflags(write=False)  # nor can the parts be written to: shuffling one in place would change the others
    rest = outside[reference : reference + nonmembers]
    known = len(inside) // 2
    known_rest = min(known, nonmembers // 2)
    return Split(
        members=inside,
        reference=outside[:reference],
        nonmembers=rest,
        known_members=inside[:known],
        known_nonmembers=rest[:known_rest],
        scored_members=inside[known:],
        scored_nonmembers=rest[known_rest:],
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

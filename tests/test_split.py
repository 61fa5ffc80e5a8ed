"""The split: disjoint, of the requested sizes, the same for the same seed; the attacker's records are not scored."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError
from nanoprune.lab.data import Dataset, make_split, splits_sha256


def toy(records: int, train: int | None = None) -> Dataset:
    return Dataset.of("toy", np.zeros((records, 1)), np.zeros(records, dtype=int), classes=1, train=train)


@st.composite
def arguments(draw):
    """A data set and arguments of make_split that it can satisfy, with and without an official training set."""
    reference, nonmembers, members = draw(st.integers(0, 20)), draw(st.integers(2, 40)), draw(st.integers(2, 40))
    total = members + reference + nonmembers + draw(st.integers(0, 20))
    official = draw(st.booleans())
    dataset = toy(total, members if official else draw(st.integers(1, total)))
    return dataset, None if official else members, reference, nonmembers, draw(st.integers(0, 2**70))


@given(arguments())
def test_split_holds_what_it_promises(args):
    dataset, members, reference, nonmembers, _ = args
    split = make_split(*args)
    parts = [split.members, split.reference, split.nonmembers]
    assert [len(part) for part in parts] == [dataset.train if members is None else members, reference, nonmembers]
    drawn = np.concatenate(parts)
    assert len(np.unique(drawn)) == len(drawn)
    assert drawn.dtype == np.int64
    assert drawn.min() >= 0
    assert drawn.max() < len(dataset.y)

    assert len(split.known_members) == len(split.members) // 2
    assert len(split.known_nonmembers) == min(len(split.members) // 2, nonmembers // 2)
    for known, scored, whole in (
        (split.known_members, split.scored_members, split.members),
        (split.known_nonmembers, split.scored_nonmembers, split.nonmembers),
    ):
        assert len(known) >= 1
        assert len(scored) >= 1
        assert sorted([*known, *scored]) == sorted(whole)  # with the above: disjoint, and nothing left out

    again = make_split(*args)
    assert again.sha256 == split.sha256
    np.testing.assert_array_equal(again.scored_members, split.scored_members)


def test_official_training_set():
    split = make_split(toy(100, train=60), None, 15, 20, seed=0)
    assert sorted(split.members) == list(range(60))
    assert min(*split.reference, *split.nonmembers) >= 60
    assert list(split.known_members) != sorted(split.known_members)  # drawn, not the first half


def test_a_number_of_members_draws_from_all_records():
    drawn = [make_split(toy(100, train=50), 40, 20, 40, seed=seed) for seed in range(50)]
    inside = np.array(
        [[np.mean(part < 50) for part in (split.members, split.reference, split.nonmembers)] for split in drawn]
    )  # share that comes from the official training set
    np.testing.assert_allclose(inside.mean(axis=0), 0.5, atol=0.05)


def test_every_record_is_equally_likely_a_member():
    counts = sum(np.bincount(make_split(toy(10), 5, 0, 5, seed).members, minlength=10) for seed in range(400))
    assert np.abs(counts - 200).max() < 50  # 5 standard deviations of a binomial, n = 400, p = 1/2


def test_seeds_and_splits_have_different_hashes():
    splits = [make_split(toy(30), 10, 5, 10, seed) for seed in range(20)]
    assert len({split.sha256 for split in splits}) == 20
    assert splits_sha256(splits) == splits_sha256(iter(splits))
    assert splits_sha256(splits) != splits_sha256(splits[::-1])
    assert splits_sha256(splits) != splits_sha256(splits[:-1])


def test_hash_is_the_same_on_every_machine():  # and for every version of NumPy: results name their split by it
    known = "8886db1e692c5c6d007e6fd0b57d156348addad457b1c718e4a51b15d3e8b7f4"
    assert make_split(toy(30), 10, 5, 10, seed=7).sha256 == known


def test_indices_are_read_only():
    split = make_split(toy(30), 10, 5, 10, seed=0)
    for part in (split.members, split.reference, split.nonmembers, split.known_members, split.scored_nonmembers):
        with pytest.raises(ValueError, match="read-only"):
            part[0] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"members": 86}, "members 86 [+] reference 5 [+] nonmembers 10 = 101 records, but toy has 100; ask for fewer"),
        ({"members": None, "nonmembers": 36}, "reference 5 [+] nonmembers 36 = 41 records, but toy has 40 outside"),
        ({"members": 1}, "members must be an integer of at least 2 or None, got 1"),
        ({"nonmembers": 1}, "nonmembers must be an integer of at least 2, got 1"),
        ({"nonmembers": None}, "nonmembers must be an integer of at least 2, got None"),
        ({"reference": -1}, "reference must be an integer of at least 0, got -1"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"members": 10.0}, "members must be an integer of at least 2 or None, got 10.0"),
        ({"members": True}, "members must be an integer"),
        ({"reference": False}, "reference must be an integer"),
        ({"nonmembers": float("nan")}, "nonmembers must be an integer"),
        ({"seed": "0"}, "seed must be an integer of at least 0, got '0'"),
    ],
)
def test_refuses(change, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        make_split(toy(100, train=60), **{"members": 10, "reference": 5, "nonmembers": 10, "seed": 0} | change)
    assert "\n" not in str(caught.value)


def test_data_without_a_test_set_cannot_give_its_whole_training_set():
    with pytest.raises(ArgumentError, match=r"toy has 0 outside its official training set.*give members as a number"):
        make_split(toy(100), None, 0, 2, seed=0)


def test_one_record_cannot_be_halved():
    with pytest.raises(ArgumentError, match="official training set of toy holds 1, 2 are needed"):
        make_split(toy(100, train=1), None, 0, 2, seed=0)


def test_numpy_integers_are_accepted():
    split = make_split(toy(30), np.int64(10), np.int32(5), np.uint8(10), seed=np.int64(7))
    assert split.sha256 == make_split(toy(30), 10, 5, 10, seed=7).sha256

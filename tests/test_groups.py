"""Records of one person: on one side of every split, part of the data's hash, read from files."""

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import Dataset, load, make_split
from nanoprune.lab.data.groups import group_codes, whole_groups
from nanoprune.lab.data.user_files import load_own
from nanoprune.lab.experiment.recipes import recipe_for

PARTS = ("known_members", "scored_members", "reference", "known_nonmembers", "scored_nonmembers")


def grouped(groups) -> Dataset:
    groups = np.asarray(groups)
    n = len(groups)
    return Dataset.of("toy", np.arange(n)[:, None] / n, np.zeros(n, dtype=int), classes=1, groups=groups)


@st.composite
def groups_and_sizes(draw):
    """The group of each record, and sizes of a split that a loop over the groups says there is room for."""
    sizes = draw(st.lists(st.integers(1, 9), min_size=10, max_size=60))
    groups = np.random.default_rng(draw(st.integers(0, 99))).permutation(np.repeat(np.arange(len(sizes)), sizes))
    lost = sum(sorted(sizes)[-4:]) - 4  # of four groups one record is used, at worst
    room = len(groups) - lost
    members, reference = draw(st.integers(2, max(room // 2, 2))), draw(st.integers(0, max(room // 4, 0)))
    nonmembers = draw(st.integers(2, max(room - members - reference, 2)))
    return groups, members, reference, nonmembers, room


@given(groups_and_sizes(), st.integers(0, 2**70))
def test_a_group_is_in_one_part_and_the_sizes_are_those_asked_for(of, seed):
    groups, members, reference, nonmembers, room = of
    try:
        split = make_split(grouped(groups), members, reference, nonmembers, seed)
    except ArgumentError:
        assert members + reference + nonmembers > room  # whoever asks for no more always gets it
        return
    assert [len(part) for part in (split.members, split.reference, split.nonmembers)] == [
        members,
        reference,
        nonmembers,
    ]
    assert len(split.known_members) == members // 2
    assert len(split.known_nonmembers) == min(members // 2, nonmembers // 2)
    found = [getattr(split, part) for part in PARTS]
    assert sorted(np.concatenate(found[:2])) == sorted(split.members)
    assert sorted(np.concatenate(found[3:])) == sorted(split.nonmembers)
    everything = np.concatenate(found)
    assert len(set(everything.tolist())) == len(everything)
    whose = [set(groups[part].tolist()) for part in found]
    assert sum(map(len, whose)) == len(set().union(*whose))  # no group is in two parts
    for part in found:  # whole, but for the last one
        cut = [g for g in set(groups[part].tolist()) if (groups[part] == g).sum() < (groups == g).sum()]
        assert set(cut) <= set(groups[part][-1:].tolist())
    assert make_split(grouped(groups), members, reference, nonmembers, seed).sha256 == split.sha256


def test_every_group_is_equally_likely_a_member_whatever_its_size():
    groups = np.repeat(np.arange(40), [1, 2, 3, 14] * 10)  # 200 records
    inside = np.zeros(40)
    draws = 1500
    for seed in range(draws):
        inside += np.bincount(np.unique(groups[make_split(grouped(groups), 80, 0, 80, seed).members]), minlength=40)
    share = inside / draws
    assert np.abs(share - share.mean()).max() < 0.1
    by_size = share.reshape(10, 4).mean(axis=0)
    # a part ends in the group with which it is full, which is a large one more often: half a group in 16
    assert np.ptp(by_size) < 0.05


def test_of_the_last_group_of_a_part_any_record_may_be_left_out():
    groups = np.repeat(np.arange(10), 10)
    drawn = [make_split(grouped(groups), 14, 0, 14, seed) for seed in range(200)]  # 7 of one group in each part
    counts = sum(np.bincount(np.concatenate([s.members, s.nonmembers]) % 10, minlength=10) for s in drawn)
    assert np.abs(counts - 560).max() < 5 * np.sqrt(800 * 0.7 * 0.3)


def test_records_one_by_one_are_drawn_as_they_always_were():
    known = "8886db1e692c5c6d007e6fd0b57d156348addad457b1c718e4a51b15d3e8b7f4"  # of test_split.py
    data = Dataset.of("toy", np.zeros((30, 1)), np.zeros(30, dtype=int), classes=1)
    assert make_split(data, 10, 5, 10, seed=7).sha256 == known
    assert (
        data.sha256 == "5e196e486c7018bc4f49e22e4df150233aa1156d0cf80d3e795eb53c4bd7b679"
    )  # of before there were groups


def test_an_official_training_set_may_part_groups_and_is_refused():
    with pytest.raises(ArgumentError, match=r"toy has groups.*give a number"):
        make_split(grouped(np.arange(40) // 2), None, 0, 4, seed=0)


def test_too_many_records_are_refused_with_a_number_that_would_do():
    data = grouped(np.repeat(np.arange(5), 8))
    with pytest.raises(ArgumentError, match="more than toy has in whole groups; ask for at most 12,") as caught:
        make_split(data, 20, 0, 20, seed=0)
    assert "\n" not in str(caught.value)
    for seed in range(50):
        make_split(data, 8, 0, 4, seed)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.integers(0, 40))
def test_whole_groups_part_none(sizes, most):
    groups = np.repeat(np.arange(len(sizes)), sizes)
    sums = [0, *np.cumsum(sizes)]
    assert whole_groups(np.arange(len(groups)), groups, most) == max(s for s in sums if s <= most)


WRONG = {
    "a type": (np.arange(6.0), "float64"),
    "a shape": (np.arange(5), "one int64 for each of the 6"),
    "from 1": (np.arange(1, 7), "groups from 1 to 6"),
    "a gap": (np.array([0, 0, 2, 2, 3, 3]), "each of them used"),
    "negative": (np.array([0, 0, 1, 1, -1, 2]), "groups from -1"),
    "enormous": (np.array([0, 0, 1, 1, 2, 2**62]), "each of them used"),
}


@pytest.mark.parametrize(("groups", "said"), WRONG.values(), ids=WRONG)
def test_groups_are_numbered_or_refused(groups, said):
    with pytest.raises(DataError, match=said):
        Dataset.of("toy", np.zeros((6, 1)), np.zeros(6, dtype=int), classes=1, groups=groups)


def test_groups_are_part_of_what_identifies_the_data():
    x, y = np.zeros((4, 1)), np.zeros(4, dtype=int)
    hashes = [
        Dataset.of("toy", x, y, 1, groups=g).sha256 for g in (None, np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    ]
    assert len(set(hashes)) == 3
    given_array = np.array([0, 0, 1, 1])
    data = Dataset.of("toy", x, y, 1, groups=given_array)
    given_array[0] = 1
    assert data.groups.tolist() == [0, 0, 1, 1]
    with pytest.raises(ValueError, match="read-only"):
        data.groups[0] = 1


@given(st.lists(st.integers(-(2**50), 2**50) | st.text("ab1 ", max_size=3), min_size=1, max_size=8))
def test_group_codes_name_the_groups_they_came_from(values):
    values = [str(value) for value in values] if any(isinstance(v, str) for v in values) else values
    array = np.array(values)
    names, codes = group_codes(array, "f: group")
    assert len(names) == len(set(values))
    assert codes.dtype == np.int64
    for i, a in enumerate(values):
        assert [codes[i] == c for c in codes] == [a == b for b in values]
    if array.dtype.kind == "i":
        assert [int(names[c]) for c in codes] == values


X, Y = np.random.default_rng(0).random((40, 5), np.float32), np.arange(40) % 4
G = np.arange(40) // 3


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("group", [G, G + 100, G.astype(float), G[:, None], np.array([f"p{g:02}" for g in G])])
def test_own_files_may_have_groups(suffix, group, tmp_path):
    path = tmp_path / f"mine{suffix}"
    arrays = {"x": X, "y": Y, "group": group}
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array.astype("S") if array.dtype.kind == "U" else array
    data = load(str(path))
    assert data.groups.tolist() == G.tolist()
    assert data.x.tobytes() == X.tobytes()


REFUSED = {
    "too few": (G[:30], "group has 30 entries for 40 records"),
    "missing": (np.where(G == 3, np.nan, G), "group holds nan in row 9"),
    "parts of numbers": (G + 0.5, "group holds 0.5 in row 0"),
    "objects": (np.array([None] * 40), "expected numbers or text"),
    "a table": (np.stack([G, G], axis=1), r"group has shape \(40, 2\)"),
}


@pytest.mark.parametrize(("group", "said"), REFUSED.values(), ids=REFUSED)
def test_other_groups_are_refused(group, said, tmp_path):
    np.savez(tmp_path / "mine.npz", x=X, y=Y, group=group)
    with pytest.raises(DataError, match=said) as caught:
        load_own(tmp_path / "mine.npz")
    assert "mine.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("largest", [1, 7, 60])
def test_the_recipe_of_grouped_data_has_a_split_for_every_seed(largest, tmp_path):
    sizes = np.random.default_rng(0).integers(1, largest + 1, 600 // largest + 20)
    group = np.repeat(np.arange(len(sizes)), sizes)
    np.savez(tmp_path / "mine.npz", x=np.zeros((len(group), 3)), y=np.arange(len(group)) % 2, group=group)
    data = load_own(tmp_path / "mine.npz")
    recipe = recipe_for(data)
    for seed in range(30):
        make_split(data, recipe.members, recipe.reference, recipe.nonmembers, seed)
    assert recipe.members > len(group) / 3 - 2 * largest

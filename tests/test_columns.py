"""The scale of a table's columns: fitted on members alone, as one would by hand, and kept through training."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.columns import Column
from nanoprune.lab.data.table_file import Reading, dataset_of
from nanoprune.lab.experiment.columns import fit_columns
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.recipes import Private, Recipe
from nanoprune.lab.export.sparse import SparseModel
from nanoprune.lab.layers import BatchNorm, ColumnScaling
from nanoprune.lab.shrink import shrink
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, Sequential, Workspace
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

NUMBERS = [None, 0.0, 1.0, -3.5, 7.25, 1e6]
TEXTS = [None, "a", "b", "c"]


def column(name, values):
    """A column of text as a reader makes it."""
    found = list(dict.fromkeys("" if v is None else str(v) for v in values))
    codes = np.array([found.index("" if v is None else str(v)) for v in values], np.int32)
    return Column.of_text(name, codes, found)


def table(rows):
    """rows: (number, number, text, text) of each record; classes alternate."""
    columns = [column(f"c{j}", [row[j] for row in rows]) for j in range(4)]
    return dataset_of([*columns, column("y", [i % 2 for i in range(len(rows))])], Reading("y"), "t", "t")


def by_hand(rows, members, entry):
    """The encoding of one record, fitted on the members alone, in plain Python: {feature: value}, zeros left out."""
    found = {}
    for j in (0, 1):
        known = [rows[m][j] for m in members if rows[m][j] is not None]
        value, some_missing = rows[entry][j], len(known) < len(members)
        if value is None and some_missing:
            found[f"c{j}: no value"] = 1.0
        if value is None or not known or max(known) == min(known):
            continue
        mean = sum(known) / len(known)
        std = (sum((v - mean) ** 2 for v in known) / len(known)) ** 0.5
        found[f"c{j}"] = (value - mean) / std
    for j in (2, 3):
        value = rows[entry][j]
        if any(rows[m][j] == value for m in members):  # a category that no member has was never seen
            found[f"c{j}: no value" if value is None else f"c{j}={value}"] = 1.0
    return {name: value for name, value in found.items() if value}


ROW = st.tuples(st.sampled_from(NUMBERS), st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.sampled_from(TEXTS))
FIXED = 2 * [
    (0.0, 1.0, "a", "b"),
    (1.0, 7.25, "b", "c"),
    (-3.5, 0.0, "c", "a"),
    (7.25, 1.0, "a", "b"),
]  # nothing is left out


@given(st.lists(ROW, max_size=12), st.data())
def test_the_layer_encodes_as_one_would_by_hand_from_the_members_alone(rows, data):
    rows = FIXED + rows
    dataset, every = table(rows), np.arange(len(rows))
    members = data.draw(st.lists(st.sampled_from(range(len(rows))), min_size=1, unique=True))
    layer = ColumnScaling(dataset.x.shape[1], 2)
    net = Network(Sequential(layer), dataset.x.shape[1:], 1, np.float32)
    fit_columns(net, dataset.x, np.array([members]))
    Y = net.forward(dataset.x[every].T[None].copy(), Workspace())[0]  # (F, N)
    for i in range(len(rows)):
        found = {name: value for name, value in zip(dataset.x.names, Y[:, i].tolist(), strict=True) if value}
        expected = by_hand(rows, members, i)
        assert found.keys() == expected.keys()
        assert all(abs(found[name] - expected[name]) <= 1e-4 * max(1, abs(expected[name])) for name in found)


@given(st.lists(ROW, max_size=8), st.integers(0, 100))
def test_records_outside_the_members_change_nothing(rows, seed):
    rows = FIXED + rows
    changed = [*rows]
    changed[-1] = (-rows[-1][0] if rows[-1][0] else 2.0, 1e6, rows[-1][2], "b")
    members = np.arange(len(rows) - 1)
    for j in (0, 1):
        one, other = (t.x.fitted(members) for t in (table(rows), table(changed)))
        assert [of[j] for of in one] == [of[j] for of in other]


def test_each_replica_has_the_scale_of_its_own_members():
    rng = np.random.default_rng(0)
    rows = [(float(a), float(b), "abc"[i % 3], "ab"[i % 2]) for i, (a, b) in enumerate(rng.normal(5, 3, (30, 2)))]
    x, index = table(rows).x, np.array([[0, 1, 2, 3], [10, 11, 12, 13]])
    net = fit_columns(build(describe("mlp", x.shape[1:], 2, (4,), numbers=2), 2), x, index)
    layer = net.body.parts[0]
    for r in range(2):
        values = np.array(rows, object)[index[r]][:, :2].astype(np.float32)
        np.testing.assert_allclose(layer.mean.value[r, :2, 0], values.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(layer.std.value[r, :2, 0], values.std(axis=0), rtol=1e-5)


def recipe(**changes):
    short = Schedule(epochs=2, batch=8, lr=0.05)
    usual = Recipe("mlp", (6,), 20, 12, 20, 2, (0.5,), short, short, short, ADMMSettings(rho=0.1, iterations=2), 0.0)
    return dataclasses.replace(usual, private=Private(epochs=3, batch=10), **changes)


@pytest.fixture(scope="module")
def people():
    rng = np.random.default_rng(1)
    ages, heights = rng.normal(50, 20, 80).round(1), rng.normal(170, 9, 80).round(1)
    ages = [None if i % 9 == 0 else float(a) for i, a in enumerate(ages)]
    return table(
        [(a, float(h), "abc"[i % 3], "abcd"[i % 4]) for i, (a, h) in enumerate(zip(ages, heights, strict=True))]
    )


def test_training_and_pruning_keep_the_scale_to_the_last_bit(people):
    experiment = Experiment(people, recipe(), [3, 4], threads=1)
    dense = experiment.dense("baseline")
    (pruned,) = experiment.pruned(dense, (0.5,))
    for r, split in enumerate(experiment.splits):
        expected = np.concatenate(people.x.fitted(split.members)).astype(np.float32)
        for net in (dense.net, pruned.net):
            assert net.state[r].tobytes() == expected.tobytes()
    assert np.isfinite(dense.curves["loss"]).all()  # there are records without a value


def test_dp_sgd_scales_by_the_reference_set_which_is_public(people):
    experiment = Experiment(people, recipe(), [3], threads=1)
    trained = experiment.private_by("dp", noise=1.0)
    expected = np.concatenate(people.x.fitted(experiment.splits[0].reference)).astype(np.float32)
    assert trained.net.state[0].tobytes() == expected.tobytes()
    with pytest.raises(ArgumentError, match=r"reference must be at least 1: with DP-SGD .* standardised"):
        Experiment(people, recipe(reference=0), [3], threads=1).private_by("dp", noise=1.0)


def test_running_statistics_beside_it_still_run():
    body = Sequential(ColumnScaling(3, 3), Dense(3, 4), BatchNorm(4))
    net = Network(body, (3,), 1, np.float64).initialise([np.random.default_rng(0)])
    scaling, norm = net.body.parts[0], net.body.parts[2]
    scaling.mean.value[...], scaling.std.value[...] = 0.1, 0.3  # neither is a binary fraction
    before = np.concatenate([scaling.mean.value, scaling.std.value]).tobytes()
    X = np.random.default_rng(1).random((1, 3, 16))
    batch_mean = []
    for _ in range(5):
        net.forward(X, Workspace())
        batch_mean.append(norm.mean.batch.copy())
        net.update_statistics()
    assert np.concatenate([scaling.mean.value, scaling.std.value]).tobytes() == before
    expected = np.zeros_like(norm.mean.value)
    for of in batch_mean:
        expected = 0.9 * expected + 0.1 * of
    np.testing.assert_allclose(norm.mean.value, expected, rtol=1e-12)


def test_the_gradient_reaches_known_numbers_alone():
    net = Network(Sequential(ColumnScaling(3, 2)), (3,), 1, np.float64)
    layer = net.body.parts[0]
    layer.std.value[0, :, 0] = 2.0, 0.0, 1.0
    X = np.array([[[1.0, np.nan], [5.0, 6.0], [1.0, 0.0]]])
    ws = Workspace()
    assert net.forward(X, ws).tolist() == [[[0.5, 0.0], [0.0, 0.0], [1.0, 0.0]]]
    assert net.backward(np.ones((1, 3, 2)), ws, need_dX=True).tolist() == [[[0.5, 0.0], [0.0, 0.0], [1.0, 1.0]]]


@pytest.mark.parametrize(("columns", "numbers"), [(0, 0), (3, 4), (3, -1), (3, 1.0)])
def test_counts_that_cannot_be_are_refused(columns, numbers):
    with pytest.raises(ArgumentError, match=r"columns must|numbers must"):
        ColumnScaling(columns, numbers)


def test_an_overflowing_number_is_refused_by_its_column():
    with pytest.raises(DataError, match="column c0 holds a number beyond float32"):
        table([(1e39, 0.0, "a", "b"), *FIXED])


def outputs(net, x):
    return net.forward(np.repeat(x.T[None], net.replicas, axis=0).copy(), Workspace(training=False))


def test_shrinking_keeps_scale_and_outputs(people):
    members = np.arange(20)[None]
    net = build(describe("mlp", people.x.shape[1:], 2, (6, 5), numbers=2)).initialise([np.random.default_rng(0)])
    fit_columns(net, people.x, members)
    net.body.parts[0].std.value[0, -1] = 0.0  # a category that no member has
    hidden = net.weights[1].value
    hidden[:, 2] = 0.0  # a filter that is pruned: its unit is a constant
    hidden[:, :, 1] = 0.0  # a channel that nothing reads
    small, x = shrink(net), people.x[np.arange(80)]
    assert np.isnan(x).any()
    np.testing.assert_allclose(SparseModel(net).logits(x), outputs(net, x)[0].T, atol=1e-5)
    assert small.description["widths"] == [5, 4]
    assert small.state.tobytes() == net.state.tobytes()
    np.testing.assert_allclose(outputs(small, x), outputs(net, x), atol=1e-5)


def test_a_safetensors_file_has_the_scale(people, tmp_path):
    pytest.importorskip("safetensors")
    from nanoprune.lab.export.safetensors import read_safetensors, to_safetensors

    net = build(describe("mlp", people.x.shape[1:], 2, (6,), numbers=2)).initialise([np.random.default_rng(0)])
    fit_columns(net, people.x, np.arange(20)[None])
    (tmp_path / "w.safetensors").write_bytes(to_safetensors(net, {"architecture": net.description}))
    again, x = read_safetensors(tmp_path / "w.safetensors"), people.x[np.arange(80)]
    assert outputs(again, x).tobytes() == outputs(net, x).tobytes()

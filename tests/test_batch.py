"""Records reach the networks gathered and with the samples last, each of them once in an epoch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.lab.engine import evaluation as batch_module
from nanoprune.lab.engine.evaluation import accuracy, evaluation_batch, predict_fleet
from nanoprune.lab.layers import Dropout
from nanoprune.lab.zoo import build, describe
from nanoprune.nn import Dense, Network, ReLU, Sequential, Workspace
from nanoprune.records import Records, predict, shuffled

quick = settings(deadline=None, max_examples=50)


def fleet(replicas: int, rng: np.random.Generator, dtype: str = "float64") -> Network:
    net = Network(Sequential(Dense(4, 8), ReLU(), Dense(8, 3)), (4,), replicas, dtype)
    net.theta[...] = rng.standard_normal(net.theta.shape)
    return net


class Rows:
    """Features that are looked up, and are no array."""

    def __init__(self, x: np.ndarray) -> None:
        self.of, self.asked = x, []

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        self.asked.append(index.shape)
        return self.of[index]


def test_records_of_one_workspace_keep_their_own_batches():
    """And take features from any object that takes indices, as they are."""
    x, ws = np.random.default_rng(0).random((2, 9, 4)), Workspace()
    rows, index = Rows(x[0]), np.array([[3, 1]])
    first, second = Records(rows, np.zeros(9)), Records(x[1], np.zeros(9))
    assert first.x is rows
    X, _ = first.batch(index, ws)
    second.batch(index, ws)
    np.testing.assert_array_equal(X, x[0][index].swapaxes(1, 2))


def test_predictions_are_made_in_evaluation_mode_and_as_many_at_a_time_as_asked_for():
    net = Network(Sequential(Dense(4, 8), Dropout(0.5), Dense(8, 3)), (4,), 2)
    net.initialise([np.random.default_rng(r) for r in range(2)])
    rows = Rows(np.random.default_rng(0).random((600, 4)).astype(np.float32))
    records, index = Records(rows, np.zeros(600)), np.arange(600).reshape(2, 300)
    found = predict(net, records, index, batch=70)
    assert rows.asked == [(2, 70)] * 4 + [(2, 20)]
    assert found.dtype == np.float32
    rows.asked.clear()
    np.testing.assert_allclose(predict(net, records, index), found, rtol=1e-5, atol=1e-6)
    assert rows.asked == [(2, 256), (2, 44)]
    rows.asked.clear()
    predict(net, records, index, Workspace(training=False), 300)
    assert rows.asked == [(2, 300)]


@quick
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), max_size=3), st.integers(1, 3), st.integers(1, 6))
def test_a_batch_has_the_replica_first_and_the_sample_last(seed, shape, replicas, size):
    rng = np.random.default_rng(seed)
    x, y = rng.random((9, *shape)).astype(np.float32), rng.integers(0, 5, 9)
    index = rng.integers(0, 9, (replicas, size))
    X, labels = Records(x, y).batch(index, Workspace())
    assert X.shape == (replicas, *shape, size)
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    for r in range(replicas):
        for i in range(size):
            np.testing.assert_array_equal(X[r, ..., i], x[index[r, i]])
            assert labels[r, i] == y[index[r, i]]


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 40), st.integers(1, 50))
def test_shuffled_gives_each_member_once(seed, replicas, count, batch):
    rng = np.random.default_rng(seed)
    members = np.stack([rng.choice(1000, count, replace=False) for _ in range(replicas)])
    before = members.copy()
    batches = list(shuffled(members, batch, np.random.default_rng(seed).spawn(replicas)))
    sizes = [min(batch, count - start) for start in range(0, count, batch)]
    assert [part.shape for part in batches] == [(replicas, size) for size in sizes]
    for r, row in enumerate(np.concatenate(batches, axis=1)):
        assert sorted(row) == sorted(members[r])
    np.testing.assert_array_equal(members, before)


def test_the_order_is_new_in_each_epoch_and_each_replicas_own():
    members = np.tile(np.arange(50), (2, 1))
    generators = [np.random.default_rng(1), np.random.default_rng(2)]
    first, second = (np.concatenate(list(shuffled(members, 7, generators)), axis=1) for _ in range(2))
    assert (first != second).any(axis=1).all()
    assert (first[0] != first[1]).any()
    alone = np.concatenate(list(shuffled(members[1:], 7, [np.random.default_rng(2)])), axis=1)
    np.testing.assert_array_equal(alone[0], first[1])


def test_a_generator_for_each_replica_is_needed():
    with pytest.raises(ValueError, match="zip"):
        list(shuffled(np.zeros((2, 5), int), 2, [np.random.default_rng(0)]))


@quick
@given(st.integers(0, 2**32 - 1), st.integers(1, 3), st.integers(1, 20), st.integers(1, 7))
def test_predict_equals_one_forward_pass(seed, replicas, count, part):
    rng = np.random.default_rng(seed)
    net, records = fleet(replicas, rng), Records(rng.standard_normal((30, 4)), rng.integers(0, 3, 30))
    index = rng.integers(0, 30, (replicas, count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_module, "EVALUATION_BATCH", part)
        logits = predict(net, records, index, batch=part)
        shared_out = predict_fleet(net, records, index, threads=2)
    assert logits.shape == (replicas, count, 3)
    at_once = net.forward(np.moveaxis(records.x[index], 1, -1), Workspace(training=False))  # (R, 3, count)
    np.testing.assert_allclose(logits, at_once.swapaxes(1, 2), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(shared_out, logits, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", ["lenet-5", "mobilenetv2", "resnet18"])
def test_an_evaluation_pass_takes_no_more_memory_than_it_may(network):
    shape = (28, 1, 28) if network == "lenet-5" else (32, 3, 32)
    net, ws = build(describe(network, shape, 10, [20, 50, 500] if network == "lenet-5" else 1.0)), Workspace(False)
    size = evaluation_batch(net)
    assert size == 256 if network == "lenet-5" else 1 <= size < 256  # lenet-5 puts out 24 MB for 256
    part = min(size, 4)
    net.forward(np.zeros((1, *shape, part), np.float32), ws)
    # beside the outputs of layers: frames of zeros, lowered rows
    assert ws.nbytes / part * size < 2 * batch_module.EVALUATION_BYTES
    assert ws.nbytes / part * (size + 1) > batch_module.EVALUATION_BYTES or size == 256


def test_accuracy_counts_the_records_that_are_right():
    rng = np.random.default_rng(3)
    net, records = fleet(2, rng), Records(rng.standard_normal((600, 4)), rng.integers(0, 3, 600))
    index = np.stack([rng.permutation(600), rng.permutation(600)])[:, :300]  # two evaluation batches
    right = np.zeros(2)
    for r in range(2):
        W, b = [np.array(p.value[r]) for p in net.weights], [np.array(p.value[r, :, 0]) for p in net.biases]
        for i in index[r]:
            logits = W[1] @ np.maximum(W[0] @ records.x[i] + b[0], 0) + b[1]
            right[r] += max(range(3), key=lambda c, logits=logits: logits[c]) == records.y[i]
    np.testing.assert_array_equal(accuracy(net, records, index), right / 300)
    assert (right > 0).all()
    assert (right < 300).all()

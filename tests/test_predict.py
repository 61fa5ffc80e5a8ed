"""`predict`: its file holds the network's outputs for its members and for others, and `audit` reads it."""

import csv
import json
import pathlib
import tempfile

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.audit import Predictions, read_predictions
from nanoprune.lab.audit.predictions_file import write_predictions
from nanoprune.lab.data import load, make_split
from nanoprune.lab.models.model import load_model

SIZES = ("--members", "40", "--reference", "40", "--nonmembers", "60")


def run(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments)], prog_name="nanoprune")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("predict") / "model.h5"
    assert run("train", "digits", *SIZES, "--epochs", 3, "--threads", 1, "--out", path).exit_code == 0
    return path


def logits_by_hand(path, rows):
    """z = W3 relu(W2 relu(W1 x)) with biases, in float64, from the arrays of the file."""
    model, data = load_model(path), load("digits")
    weights, biases = ([p.value[0].astype(np.float64) for p in of] for of in (model.net.weights, model.net.biases))
    a = data.x[rows].astype(np.float64).T
    for k, (W, b) in enumerate(zip(weights, biases, strict=True)):
        a = W @ a + b.reshape(-1, 1)
        a = np.maximum(a, 0) if k < len(weights) - 1 else a
    return a.T


@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_the_file_has_the_outputs_of_the_network_for_members_and_as_many_others(model, suffix, tmp_path):
    done = run("predict", model, "--out", tmp_path / f"scores{suffix}", "--threads", 1)
    assert done.exit_code == 0, done.output
    assert "40 members and 40 others" in done.output
    found, shadow = read_predictions(tmp_path / f"scores{suffix}")
    split, data = make_split(load("digits"), 40, 40, 60, load_model(model).seed), load("digits")
    rows = np.concatenate([split.members, split.nonmembers[:40]])
    assert shadow is None
    assert found.member.tolist() == [True] * 40 + [False] * 40
    assert found.y.tolist() == data.y[rows].tolist()
    np.testing.assert_allclose(found.logits, logits_by_hand(model, rows), rtol=1e-4, atol=1e-4)


def test_models_before_and_after_pruning_are_paired_by_audit(model, tmp_path):
    short = ("--iterations", 2, "--epochs", 2, "--retrain-epochs", 2, "--threads", 1)
    assert run("prune", model, "--keep", 0.2, *short, "--out", tmp_path / "p.h5").exit_code == 0
    for source, name in ((model, "dense"), (tmp_path / "p.h5", "pruned")):
        assert run("predict", source, "--out", tmp_path / f"{name}.npz").exit_code == 0
    done = run(
        *("audit", tmp_path / "dense.npz", tmp_path / "pruned.npz"),
        *("--quick", "--json", tmp_path / "both.json"),
    )
    assert done.exit_code == 0, done.output
    assert list(json.loads((tmp_path / "both.json").read_text())["audits"]) == ["dense.npz", "pruned.npz"]


def test_no_file_is_replaced_unasked_and_no_name_taken_that_audit_would_not_read(model, tmp_path):
    there = tmp_path / "scores.npz"
    there.write_text("mine")
    for out, words in ((there, "already exists"), (tmp_path / "scores.h5", ".npz or .csv")):
        done = run("predict", model, "--out", out)
        assert done.exit_code == 2
        assert words in done.output
        assert done.output.count("\n") == 1
    assert there.read_text() == "mine"
    assert run("predict", model, "--out", there, "--overwrite").exit_code == 0
    assert len(read_predictions(there)[0].y) == 80


FINITE = st.floats(-1e30, 1e30, allow_subnormal=True)


@given(st.data(), st.sampled_from([".npz", ".csv"]), st.booleans(), st.integers(2, 4))
def test_what_is_written_is_read_to_the_last_bit(data, suffix, groups, classes):
    n = 4 * data.draw(st.integers(8, 10))
    z = np.array(data.draw(st.lists(st.lists(FINITE, min_size=classes, max_size=classes), min_size=n, max_size=n)))
    y, member = np.arange(n) % classes, np.arange(n) < n // 2
    group = (np.arange(n) // 2) * 7 if groups else None
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / f"scores{suffix}"
        write_predictions(Predictions(softmax(z, axis=1), y, member, logits=z, group=group), path)
        found, _ = read_predictions(path)
    assert found.logits.tobytes() == z.astype(np.float64).tobytes()
    assert (found.y == y).all()
    assert (found.member == member).all()
    if groups:  # their numbers may be others: who belongs together is the same
        assert ((found.group[:, None] == found.group) == (group[:, None] == group)).all()
    else:
        assert found.group is None


def test_probabilities_are_written_where_logits_are_not_known(tmp_path):
    p = np.random.default_rng(0).dirichlet([1, 1, 1], 20)
    write_predictions(Predictions(p, np.arange(20) % 3, np.arange(20) < 10), tmp_path / "p.csv")
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["label", "member", "p0", "p1", "p2"]
    np.testing.assert_array_equal(np.array(rows[1:], float)[:, 2:], p)
    with pytest.raises(ArgumentError, match="got no suffix"):
        write_predictions(Predictions(p, np.arange(20) % 3, np.arange(20) < 10), tmp_path / "p")

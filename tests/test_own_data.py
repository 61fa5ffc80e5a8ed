"""Data sets of the user's own: what is read, what is refused, and the way from a file to a pruned, attacked model."""

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.commands import main
from nanoprune.lab.data import load, make_split
from nanoprune.lab.data.user_files import classes_of, load_own
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import load_model
from nanoprune.lab.zoo import build, describe

RNG = np.random.default_rng(0)
X, Y = RNG.random((40, 5), np.float32), np.arange(40) % 4


def saved(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array.astype("S") if array.dtype.kind == "U" else array
    return path


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5"])
@pytest.mark.parametrize("y", [Y, Y[:, None], Y.astype(float), Y + 1, 10 * Y - 7, np.array(list("abcd"))[Y]])
def test_labels_of_any_type_become_classes_in_their_order(suffix, y, tmp_path):
    data = load(str(saved(tmp_path / f"mine{suffix}", x=X, y=y)))
    assert data.y.tolist() == Y.tolist()
    assert data.classes == 4
    assert list(data.class_names) == [str(int(v) if y.dtype.kind == "f" else v) for v in np.unique(y)]
    assert data.x.tobytes() == X.tobytes()
    assert (data.name, data.train) == (f"mine{suffix}", 40)


@given(st.lists(st.integers(-(2**40), 2**40) | st.integers(0, 3), min_size=2, max_size=30))
def test_classes_name_the_labels_they_came_from(values):
    y = np.repeat(np.array(values), 2)
    if len(set(values)) < 2:
        with pytest.raises(DataError, match="at least 2 classes"):
            classes_of(y, "f")
        return
    names, classes = classes_of(y, "f")
    assert [int(names[c]) for c in classes] == y.tolist()
    assert [int(name) for name in names] == sorted(set(values))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_the_same_in_every_layout(channels, tmp_path):
    images = RNG.integers(0, 256, (40, 9, channels, 7), dtype=np.uint8)  # (N, H, C, W)
    layouts = {"last": images.transpose(0, 1, 3, 2), "first": images.transpose(0, 2, 1, 3)}
    if channels == 1:
        layouts["none"] = images[:, :, 0]
    for name, x in layouts.items():
        data = load_own(saved(tmp_path / f"{name}.npz", x=x, y=Y))
        np.testing.assert_allclose(data.x, images / 255, rtol=1e-6)


REFUSED = {
    "no y": ({"x": X}, "y is missing, has x"),
    "no x": ({"data": X, "y": Y}, "x is missing, has data, y"),
    "fewer labels": ({"x": X, "y": Y[:30]}, "x has 40 records, y has 30 labels"),
    "one-hot labels": ({"x": X, "y": np.eye(4)[Y]}, "y.argmax"),
    "a number to predict": ({"x": X, "y": RNG.random(40)}, "expected whole numbers or text"),
    "a label for each record": ({"x": X, "y": np.arange(40)}, "40 distinct values among 40 records"),
    "one class": ({"x": X, "y": np.zeros(40, int)}, "1 distinct values"),
    "a missing label": ({"x": X, "y": np.where(Y == 2, np.nan, Y)}, "a label is missing"),
    "infinite labels": ({"x": X, "y": np.where(Y == 2, np.inf, Y)}, "y holds inf"),
    "NaN": ({"x": np.where(X > 0.9, np.nan, X), "y": Y}, "x from nan to nan"),
    "no scale": ({"x": 300 * X, "y": Y}, "scale each feature"),
    "text features": ({"x": X.astype(str), "y": Y}, "x is <U32 of shape (40, 5), expected numbers"),
    "objects": ({"x": X, "y": np.array([None] * 40)}, "expected labels"),
    "a single number": ({"x": np.float32(1), "y": Y}, "shape ()"),
    "one axis": ({"x": X[:, 0], "y": Y}, "expected (N, F)"),
    "no features": ({"x": X[:, :0], "y": Y}, "expected (N, F)"),
    "four channels": ({"x": np.zeros((40, 8, 8, 4)), "y": Y}, "no axis has 1 or 3 channels"),
    "channels at either end": ({"x": np.zeros((40, 3, 8, 3)), "y": Y}, "either of two axes"),
}


@pytest.mark.parametrize(("arrays", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_that_names_file_and_array(arrays, said, tmp_path):
    with pytest.raises(DataError) as caught:
        load_own(saved(tmp_path / "mine.npz", **arrays))
    assert said in str(caught.value)
    assert "mine.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_and_a_missing_file_are_refused(tmp_path):
    whole = saved(tmp_path / "mine.npz", x=X, y=Y).read_bytes()
    (tmp_path / "mine.npz").write_bytes(whole[: len(whole) // 2])
    for name, said in (("mine.npz", "cannot be read"), ("other.h5", "not found"), ("other.npz", "not found")):
        with pytest.raises(DataError, match=said):
            load_own(tmp_path / name)


SHAPES = {
    "a small table": ((300, 7), "mlp"),
    "a table": ((3000, 40), "mlp"),
    "a large table": ((15_000, 40), "mlp"),
    "tiny images": ((90, 8, 1, 8), "mlp"),
    "grey images": ((90, 28, 1, 28), "lenet-5"),
    "small colour images": ((90, 20, 3, 24), "lenet-5"),
    "colour images": ((90, 32, 3, 32), "resnet18"),
}


@pytest.mark.parametrize(("shape", "network"), SHAPES.values(), ids=SHAPES)
def test_every_shape_has_a_recipe_whose_network_and_split_fit(shape, network, tmp_path):
    x = np.zeros((shape[0], shape[1], shape[3], shape[2]) if len(shape) == 4 else shape, np.uint8)  # channels last
    data = load_own(saved(tmp_path / "mine.npz", x=x, y=np.arange(len(x)) % 3))
    assert data.x.shape == shape
    recipe = recipe_for(data)
    assert recipe.network == network
    assert build(describe(network, shape[1:], 3, recipe.widths)).output_shape == (3,)
    split = make_split(data, recipe.members, recipe.reference, recipe.nonmembers, seed=0)
    parts = (split.members, split.reference, split.nonmembers)
    assert all(len(part) == len(x) // 3 for part in parts)


def test_from_a_file_to_a_pruned_and_attacked_model(tmp_path, monkeypatch):
    digits = load("digits")
    monkeypatch.chdir(tmp_path)
    saved(tmp_path / "mine.npz", x=digits.x, y=np.array([f"digit {c}" for c in digits.y]))

    def run(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    sizes = ["--members", 200, "--reference", 0, "--nonmembers", 400]
    run("train", tmp_path / "mine.npz", "--epochs", 3, *sizes, "--out", "model.h5")
    quick = ["--keep", 0.3, "--iterations", 2, "--epochs", 2, "--retrain-epochs", 1]
    run("prune", "model.h5", *quick, "--out", "pruned.h5")  # the file lies here
    model = load_model("pruned.h5")
    assert model.dataset == "mine.npz"  # and no folder of this machine
    assert model.class_names == [f"digit {c}" for c in range(10)]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.npz").rename(tmp_path / "elsewhere" / "mine.npz")
    output = CliRunner().invoke(main, ["attack", "pruned.h5"]).output
    assert "mine.npz: not found" in output
    assert "--data" in output
    run("attack", "pruned.h5", "--data", "elsewhere/mine.npz", "--shadows", 6, "--json", "audit.json")
    saved(tmp_path / "mine.npz", x=digits.x[::-1], y=digits.y)
    refused = CliRunner().invoke(main, ["attack", "pruned.h5"])
    assert refused.exit_code == 2
    assert "not the records that the model was trained on" in refused.output

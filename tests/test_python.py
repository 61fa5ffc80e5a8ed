"""The Python interface: what a user relies on, against formulas written out, counts, and the command line."""

import dataclasses
import json
import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import nanoprune as npr
from nanoprune.errors import ArgumentError, DataError, NanopruneError
from nanoprune.lab.commands import main
from nanoprune.lab.models.model import load_model

SMALL = {"network": "mlp", "widths": (16,), "epochs": 5}


def blobs(count: int = 80, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Records (count, 5) on scales from 0.01 to 1,000,000, and labels 1 .. classes."""
    rng = np.random.default_rng(7)
    y = np.arange(count) % classes
    X = (2 * np.eye(5)[y] + rng.normal(size=(count, 5))) * [0.01, 1, 100, 1e4, 1e6] + [0, -3, 50, 0, 1e6]
    return X, y + 1


def quickly(model: npr.Classifier, keep: float = 0.5, **changes) -> npr.Classifier:
    """Pruned in few epochs."""
    recipe = model.recipe_
    short = {name: dataclasses.replace(getattr(recipe, name), epochs=4) for name in ("prune", "retrain")}
    admm = dataclasses.replace(recipe.admm, iterations=2)
    return model.prune(keep, recipe=dataclasses.replace(recipe, admm=admm, **short), **changes)


@pytest.fixture(scope="module")
def digits():
    return npr.load("digits")


@pytest.fixture(scope="module")
def trained(digits):
    return npr.Classifier(network="mlp").fit(digits)


@pytest.fixture(scope="module")
def audited(trained):
    return trained.audit(quick=True)


# Import


def test_import_is_cheap_and_scikit_learn_is_not_needed():
    """`import nanoprune` loads nothing of the laboratory; fitting and auditing load no scikit-learn or pandas."""
    program = """
import sys
import nanoprune as npr
before = [name for name in sys.modules if name.startswith("nanoprune.") or name in ("h5py", "click", "numpy")]
import numpy as np
assert "Classifier" in dir(npr) and "__version__" in dir(npr)
X = np.random.default_rng(0).normal(size=(40, 3))
npr.Classifier(widths=(4,), epochs=1).fit(X, X[:, 0] > 0).audit(X + 1, X[:, 0] > 0, quick=True)
print(before, [name for name in ("sklearn", "pandas", "torch", "IPython") if name in sys.modules])
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[0] == "[] []"
    assert ended.stderr == ""  # quiet in scripts


def test_names_that_there_are_not_are_refused():
    with pytest.raises(AttributeError, match="module 'nanoprune' has no attribute 'Clasifier'"):
        _ = npr.Clasifier
    assert set(npr.__all__) <= set(dir(npr))


def test_the_package_is_typed():
    import importlib.resources

    assert (importlib.resources.files("nanoprune") / "py.typed").is_file()


# Training


def by_hand(model: npr.Classifier, X: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Probabilities of an mlp of one hidden layer: softmax(V relu(W z + b) + c), z standardised by the members."""
    W, b, V, c = (p.value[0].astype(np.float64) for p in model.model_.net.body.parameters())
    z = (X - members.mean(axis=0)) / members.std(axis=0)
    logits = (V @ np.maximum(W @ z.T + b, 0) + c).T
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_probabilities_are_the_formula_and_scales_are_those_of_the_members():
    X, y = blobs()
    model = npr.Classifier(**SMALL).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X[:9]), by_hand(model, X[:9], X), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(model.predict(X), model.classes_[model.predict_proba(X).argmax(axis=1)])
    np.testing.assert_array_equal(model.classes_, [1, 2, 3])
    assert model.score(X, y) == np.mean(model.predict(X) == y)


def test_of_a_data_set_the_scales_are_those_of_the_members_alone():
    X, y = blobs(120)
    model = npr.Classifier(**SMALL, members=40).fit(npr.Dataset(X, y))
    members = model.split_.members
    assert len(members) == 40
    np.testing.assert_allclose(model.predict_proba(X), by_hand(model, X, X[members]), rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(-20, 20), min_size=5, max_size=5))
@settings(max_examples=5, deadline=None)
def test_units_do_not_matter(exponents):
    """Features in other units, by powers of 2, which round nothing: the same network to the last bit."""
    X, y = blobs(40)
    X = X.astype(np.float32)
    units = np.float32(2.0) ** np.array(exponents, np.float32)
    one, other = (npr.Classifier(**SMALL | {"epochs": 1}).fit(of, y) for of in (X, X * units))
    np.testing.assert_array_equal(one.model_.net.theta, other.model_.net.theta)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X * units))


def test_random_state_decides_everything():
    X, y = blobs()
    same = [npr.Classifier(**SMALL, random_state=3).fit(X, y).predict_proba(X) for _ in range(2)]
    np.testing.assert_array_equal(*same)
    others = [np.random.default_rng(3), np.random.RandomState(3), None, 4]
    for state in others:
        assert (npr.Classifier(**SMALL, random_state=state).fit(X, y).predict_proba(X) != same[0]).any()
    drawn = [npr.Classifier(**SMALL, random_state=np.random.default_rng(5)).fit(X, y) for _ in range(2)]
    np.testing.assert_array_equal(*(model.predict_proba(X) for model in drawn))


def test_images_in_any_layout_are_the_same_images():
    rng = np.random.default_rng(2)
    x, y = rng.integers(0, 256, (30, 9, 8, 3), dtype=np.uint8), np.arange(30) % 2
    model = npr.Classifier(**SMALL).fit(x, y)
    expected = model.predict_proba(x)
    for same in (x.transpose(0, 3, 1, 2), x / 255, x.transpose(0, 1, 3, 2)):
        np.testing.assert_allclose(model.predict_proba(same), expected, rtol=1e-5, atol=1e-7)
    with pytest.raises(ArgumentError, match=r"pixels from 0 to 255, expected uint8, or numbers in \[0, 1\]"):
        model.predict(x.astype(float))


def test_the_command_line_makes_the_same_model(digits, tmp_path):
    path = tmp_path / "m.h5"
    told = ["train", "digits", "--epochs", "2", "--seed", "5", "--minmax", "0.5", "--threads", "1", "--out", str(path)]
    assert CliRunner().invoke(main, told, standalone_mode=False).exit_code == 0
    model = npr.Classifier(epochs=2, random_state=5, minmax=0.5).fit(digits)
    theirs = load_model(path)
    np.testing.assert_array_equal(model.model_.net.theta, theirs.net.theta)
    assert model.model_.steps == json.loads(json.dumps(theirs.steps))


def test_a_table_with_missing_numbers_and_categories(tmp_path):
    rng = np.random.default_rng(3)
    ages = [f"{age:.1f}" if age > 30 else "" for age in rng.uniform(20, 80, 90)]
    cities = rng.choice(["Bern", "Oslo", "Rome"], 90)
    ill = ["yes" if city == "Oslo" else "no" for city in cities]
    rows = "\n".join(",".join(row) for row in zip(ages, cities, ill, strict=True))
    (tmp_path / "t.csv").write_text(f"age,city,ill\n{rows}\n", encoding="utf-8")
    data = npr.load(tmp_path / "t.csv", label="ill")
    assert isinstance(data, npr.Dataset)
    model = npr.Classifier(epochs=20, random_state=1).fit(data)
    everything = data.x[np.arange(90)]
    assert np.isnan(everything).any()
    assert (model.predict(everything) == ill).mean() > 0.9
    assert model.score(data) == (model.predict(everything) == ill).mean()
    with pytest.raises(ArgumentError, match="Input X contains NaN"):
        npr.Classifier(**SMALL).fit(everything, ill)


@pytest.mark.parametrize("verbose", [True, False, None])
def test_progress_is_shown_where_it_is_asked_for_or_in_a_notebook(verbose, monkeypatch, capsys):
    from nanoprune.lab.api import progress

    for notebook in (False, True):
        monkeypatch.setattr(progress, "in_notebook", lambda of=notebook: of)
        with progress.progress_for(verbose) as shown:
            assert isinstance(shown, progress.ProgressBars) == (notebook if verbose is None else verbose)
    X, y = blobs(30)
    npr.Classifier(**SMALL, verbose=False).fit(X, y)
    assert capsys.readouterr() == ("", "")


# Pruning


@pytest.mark.parametrize("keep", [0.5, 0.05])
def test_prune_keeps_its_share_and_leaves_the_dense_model_alone(keep):
    X, y = blobs()
    dense = npr.Classifier(**SMALL).fit(X, y)
    before = dense.model_.net.theta.copy()
    small = quickly(dense, keep)
    W = small.model_.net.W[0]
    per_layer = [p.value[0] for p in small.model_.net.weights]
    expected = math.floor(keep * W.size) if small.recipe_.scope == "global" else None
    found = int((W != 0).sum())
    assert found <= (expected or sum(max(1, math.floor(keep * p.size)) for p in per_layer))
    assert found > 0.9 * keep * W.size - len(per_layer)
    np.testing.assert_array_equal(dense.model_.net.theta, before)
    assert (dense.keep, small.keep) == (None, keep)


def test_a_clone_that_is_fitted_repeats_the_pruning(digits):
    dense = npr.Classifier(**SMALL, random_state=2).fit(digits)
    small = quickly(dense, 0.2, minmax=0.5)
    again = npr.Classifier(**small.get_params()).fit(digits)
    np.testing.assert_array_equal(again.model_.net.theta, small.model_.net.theta)


def test_structured_schemes_and_the_game_with_a_reference_set():
    X, y = blobs()
    dense = npr.Classifier(**SMALL, minmax=1.0).fit(X[:40], y[:40], reference=(X[40:], y[40:]))
    filters = quickly(dense, 0.5, scheme="filter", minmax=1.0)
    first = filters.model_.net.weights[0].value[0]
    assert (first != 0).any(axis=1).sum() <= 8
    assert filters.model_.steps[-1]["adversary"]["updates"] > 0
    with pytest.raises(ArgumentError, match="minmax needs records that are no members"):
        npr.Classifier(**SMALL, minmax=1.0).fit(X, y)


# Audits


def test_an_audit_counts_what_the_model_gets_right(digits, trained, audited):
    x, labels, member = trained.records()
    right = trained.predict(x) == labels
    assert audited.train_accuracy == right[member].mean()
    assert audited.test_accuracy == right[~member].mean() == trained.score()
    assert (audited.members, audited.nonmembers) == (200, 1000)
    np.testing.assert_array_equal(np.sort(digits.x[trained.split_.members], axis=0), np.sort(x[member], axis=0))
    for record in audited.results["most_exposed"]:
        assert record["row"] in trained.split_.members
        assert digits.y[record["row"]] == record["label"]


def test_arrays_of_another_framework_give_the_same_audit(trained, audited):
    x, labels, member = trained.records()
    logits = trained.logits(x)
    ours = npr.audit(logits, labels, member, quick=True)
    assert ours.accuracy == audited.accuracy
    assert ours.epsilon == audited.epsilon
    shifted = npr.audit((logits + 100).tolist(), labels[:, None], member.astype(int), quick=True)
    assert shifted.accuracy == ours.accuracy  # softmax does not see a constant
    assert npr.audit(trained.predict_proba(x), labels, member, quick=True).accuracy == ours.accuracy


def test_a_model_that_knows_no_member_shows_no_leak():
    rng = np.random.default_rng(11)
    logits, labels = rng.normal(size=(400, 4)), rng.integers(0, 4, 400)
    found = npr.audit(logits, labels, rng.permutation(np.arange(400) < 200), quick=True)
    assert found.degree == "no leak detected"
    assert found.accuracy.low <= 0.5 <= found.accuracy.high
    assert found.epsilon == 0


def test_a_model_that_knows_every_member_is_severe():
    rng = np.random.default_rng(12)
    labels, member = rng.integers(0, 4, 400), np.arange(400) < 200
    logits = np.where(member[:, None], 8.0, 0.5) * np.eye(4)[labels] + rng.normal(size=(400, 4)) / 4
    found = npr.audit(logits, labels, member, quick=True)
    assert found.degree == "severe"
    assert found.accuracy.value > 0.99


def test_groups_are_on_one_side_and_are_what_an_audit_counts():
    X, y = blobs(300, 2)
    group = np.random.default_rng(5).integers(0, 90, 300)
    data = npr.Dataset(X, y, group=np.array([f"patient {g}" for g in group]))
    model = npr.Classifier(**SMALL).fit(data)
    inside, outside = (np.unique(group[part]) for part in (model.split_.members, model.split_.nonmembers))
    assert not np.intersect1d(inside, outside).size
    found = model.audit(quick=True)
    assert found.results["groups"] == {"members": len(inside), "nonmembers": len(outside)}
    x, labels, member = model.records()
    rows = np.concatenate([model.split_.members, model.split_.nonmembers])
    same = npr.audit(model.logits(x), labels, member, group=group[rows], quick=True)
    assert same.accuracy == found.accuracy
    assert npr.compare(a=found, b=same).differences["b"].accuracy.value == 0
    others = model.audit(X[:60], y[:60], quick=True)  # each of these its own group
    assert others.results["groups"] == {"members": len(inside), "nonmembers": 60}
    with pytest.raises(ArgumentError, match="group 0 has members and non-members"):
        npr.audit(model.logits(x), labels, member, group=np.zeros(len(x), int), quick=True)
    with pytest.raises(DataError, match="a has groups, b has none"):
        npr.compare(a=same, b=npr.audit(model.logits(x), labels, member, quick=True))


def test_records_that_all_are_members_need_others_to_audit():
    X, y = blobs(160)
    model = npr.Classifier(**SMALL).fit(X[:80], y[:80])
    for call in (model.audit, model.score, model.records):
        with pytest.raises(ArgumentError, match="no members, since fit took all as such; give X and y"):
            call()
    found = model.audit(X[80:], y[80:], quick=True)
    assert found.test_accuracy == model.score(X[80:], y[80:]) == model.score(npr.Dataset(X[80:], y[80:]))
    assert found.epsilon is None  # nobody said that chance drew the members
    assert model.audit(X[80:], y[80:], quick=True, split="random").epsilon is not None
    with pytest.raises(ArgumentError, match="shadows need a data set from which fit draws the members"):
        model.audit(shadows=6)


def test_shadow_models_audit_a_model_of_a_data_set():
    X, y = blobs(120, 2)
    model = npr.Classifier(**SMALL | {"epochs": 2}, members=40).fit(npr.Dataset(X, y))
    found = model.audit(shadows=6)
    assert found.results["shadows"]["count"] == 6
    assert any(name.startswith("lira") for name in found.results["attacks"])
    with pytest.raises(ArgumentError, match="dense was made with shadow models, which are not compared"):
        npr.compare(dense=found, other=found)


def test_a_comparison_is_paired_and_signed(trained, audited):
    small = trained.prune(keep=0.05).audit(quick=True)
    one, other = npr.compare(dense=audited, pruned=small), npr.compare({"pruned": small, "dense": audited})
    assert one.first == "dense"
    there, back = one.differences["pruned"], other.differences["dense"]
    assert there.accuracy.value == pytest.approx(small.accuracy.value - audited.accuracy.value)
    assert there.auc.value == pytest.approx(-back.auc.value)
    assert there.test_accuracy == pytest.approx(small.test_accuracy - audited.test_accuracy)
    same = npr.compare(a=audited, b=audited).differences["b"].accuracy
    assert same.value == 0
    assert same.low <= 0 <= same.high


# Files


def test_results_save_themselves_and_overwrite_nothing_unasked(audited, tmp_path):
    compared = npr.compare(one=audited, other=audited)
    for name, result, words in (("audit", audited, audited.verdict[0][:40]), ("compared", compared, "other")):
        page, figures = tmp_path / f"{name}.html", tmp_path / f"{name}.json"
        result.save(page)
        result.save(figures)
        assert words in page.read_text("utf-8")
        assert json.loads(figures.read_text("utf-8")) == json.loads(json.dumps(result.to_dict()))
        assert words in result._repr_html_()
        assert "<svg" in result._repr_html_()
        with pytest.raises(ArgumentError, match=f"{name}.html already exists; overwrite=True replaces it"):
            result.save(page)
        result.save(page, overwrite=True)
        with pytest.raises(ArgumentError, match=r"path must end with \.html or \.json, got 'a\.txt'"):
            result.save(tmp_path / "a.txt")
    copy = audited.to_dict()
    copy["strongest"].clear()
    assert audited.strongest  # a copy is no view


def test_a_model_file_is_that_of_the_command_line(tmp_path):
    X, y = blobs(120)
    data = npr.Dataset(X, np.array(["b", "c", "a"])[y - 1])
    model = npr.Classifier(**SMALL, members=40, random_state=9).fit(data)
    path = tmp_path / "m.h5"
    model.save(path)
    with pytest.raises(ArgumentError, match="overwrite=True"):
        model.save(path)
    assert CliRunner().invoke(main, ["info", str(path)], standalone_mode=False).exit_code == 0
    alone = npr.Classifier.load(path)
    np.testing.assert_array_equal(alone.predict(X), model.predict(X))
    np.testing.assert_array_equal(alone.classes_, ["a", "b", "c"])
    with pytest.raises(ArgumentError, match=r"prune needs the records .* Classifier\.load\(path, data\)"):
        alone.prune(0.5)
    with pytest.raises(DataError, match="not the records that the model was trained on"):
        npr.Classifier.load(path, npr.Dataset(X + 1, y))
    loaded = npr.Classifier.load(path, data)
    np.testing.assert_array_equal(loaded.split_.members, model.split_.members)
    assert loaded.score() == model.score()
    small = quickly(loaded, 0.5)
    np.testing.assert_array_equal(small.model_.net.theta, quickly(model, 0.5).model_.net.theta)
    small.save(path, overwrite=True)
    assert npr.Classifier.load(path, data).keep == 0.5


def test_arrays_that_all_are_members_load_with_their_records(tmp_path):
    X, y = blobs(120)
    model = npr.Classifier(**SMALL).fit(X[:80], y[:80])
    model.save(tmp_path / "m.h5")
    loaded = npr.Classifier.load(tmp_path / "m.h5", npr.Dataset(X[:80], y[:80]))
    np.testing.assert_array_equal(loaded.classes_, [1, 2, 3])
    ours, theirs = (of.audit(X[80:], y[80:], quick=True) for of in (model, loaded))
    assert ours.accuracy == theirs.accuracy


def test_a_pickle_has_the_model_and_no_record():
    X, y = blobs()
    model = npr.Classifier(**SMALL).fit(X, y)
    data = pickle.dumps(model)
    assert not any(row.tobytes() in data for row in (*X, *X.astype(np.float32)))
    again = pickle.loads(data)
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    with pytest.raises(ArgumentError, match="prune needs the records that the model was trained on"):
        again.prune(0.5)


def test_what_is_exported_takes_the_records_as_they_are(tmp_path):
    import onnxruntime

    X, y = blobs()
    small = quickly(npr.Classifier(**SMALL).fit(X, y))
    words = small.export(tmp_path / "m.onnx")
    assert words.startswith("onnxruntime on 256 random records")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: X.astype(np.float32)})[:1]
    np.testing.assert_allclose(found, small.logits(X), rtol=1e-3, atol=1e-3)
    with pytest.raises(ArgumentError, match="overwrite=True"):
        small.export(tmp_path / "m.onnx")
    with pytest.raises(ArgumentError, match=r"path must end with \.onnx, \.c, .*, got 'm\.bin'"):
        small.export(tmp_path / "m.bin")


# Bad arguments

X_, Y_ = blobs(24)
LOGITS, LABELS, MEMBER = np.random.default_rng(0).normal(size=(40, 10)), np.arange(40) % 10, np.arange(40) < 20


def spoiled(array: np.ndarray, value: float) -> np.ndarray:
    array = np.array(array, float)
    array[3, 1] = value
    return array


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: npr.audit(LOGITS, LABELS + 1, MEMBER), "labels holds class 10, logits has columns for 0 to 9"),
        (lambda: npr.audit(LOGITS, LABELS - 1, MEMBER), "labels holds class -1, logits has columns for 0 to 9"),
        (lambda: npr.audit(LOGITS, LABELS[:30], MEMBER), "labels has 30 entries, logits has 40 rows"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER[:30]), "member has 30 entries, logits has 40 rows"),
        (lambda: npr.audit(spoiled(LOGITS, np.nan), LABELS, MEMBER), "logits row 3 holds NaN or infinite values"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER.astype(int) * 2), "member must be 0 or 1, found 2"),
        (lambda: npr.audit(LOGITS, LABELS + 0.5, MEMBER), "labels holds 0.5, expected integers"),
        (lambda: npr.audit(LOGITS, LABELS, np.arange(40) < 5), "member names 5 members, an audit needs at least 8"),
        (lambda: npr.audit(LOGITS[None], LABELS, MEMBER), r"logits has shape \(1, 40, 10\), expected"),
        (lambda: npr.audit(LOGITS, LABELS), "member is missing"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER, shadow=(LOGITS, LABELS, MEMBER)), "the shadow is the target itself"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER, shadow=(LOGITS, LABELS)), "shadow must be arrays"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER, split="half"), "split must be random or fixed, got 'half'"),
        (lambda: npr.audit(LOGITS, LABELS, MEMBER, n_jobs=0), "n_jobs must be a number of processes"),
        (lambda: npr.audit([[1.0], [1.0, 2.0]], LABELS, MEMBER), "logits: cannot be made an array"),
        (lambda: npr.audit("nothing.npz"), "nothing.npz: not found"),
        (lambda: npr.audit("nothing.npz", LABELS), "labels, member, group and shadow are in the file"),
        (lambda: npr.compare(a=1, b=2), "a must be an Audit, got int"),
        (lambda: npr.load("digit"), "data set must be one of digits, mnist"),
        (lambda: npr.Dataset(X_, Y_[:20]), r"inconsistent numbers of samples: \[24, 20\]"),
        (lambda: npr.Dataset(spoiled(X_, np.inf), Y_), "Input x contains infinity or a value too large"),
        (lambda: npr.Dataset(X_, np.zeros(24)), "y has 1 class in 24 records"),
        (lambda: npr.Dataset(X_, Y_ / 3), "Unknown label type: continuous, y holds 0.333333"),
        (lambda: npr.Dataset(X_, np.eye(3)[Y_ - 1]), r"of one-hot labels give y\.argmax\(axis=1\)"),
        (lambda: npr.Classifier(**SMALL).fit(spoiled(X_, np.nan), Y_), "Input X contains NaN"),
        (lambda: npr.Classifier(**SMALL).fit(X_), "requires y to be passed"),
        (lambda: npr.Classifier("mpl").fit(X_, Y_), "network must be one of mlp"),
        (lambda: npr.Classifier(**SMALL, keep=1.5).fit(X_, Y_), r"keep must lie in \(0, 1\], got 1.5"),
        (lambda: npr.Classifier(**SMALL, scheme="filter").fit(X_, Y_), "keep is missing: scheme filter has no ratio"),
        (lambda: npr.Classifier(**SMALL, members=10).fit(X_, Y_), "members is for data sets"),
        (lambda: npr.Classifier(**SMALL, random_state=-1).fit(X_, Y_), "random_state must be an integer of at least 0"),
        (lambda: npr.Classifier(**SMALL).fit(X_, Y_).prune(), "keep is missing"),
        (
            lambda: npr.Classifier(**SMALL).fit(X_, Y_).predict(X_[:, :3]),
            "X has 3 features, but Classifier is expecting 5",
        ),
        (lambda: npr.Classifier(**SMALL).fit(X_, Y_).score(X_, Y_ + 1), "y holds 4, which is none of the 3 classes"),
        (lambda: npr.Classifier(**SMALL).fit(npr.Dataset(X_, Y_), Y_), "y and reference are in the data set"),
        (lambda: npr.Classifier(**SMALL).predict(X_), "Classifier instance is not fitted yet"),
        (lambda: npr.Classifier(**SMALL).set_params(epoch=3), "Invalid parameter 'epoch'"),
    ],
)
def test_bad_arguments_raise_one_line_that_names_them(call, message):
    with pytest.raises(NanopruneError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert "target_" not in str(caught.value)


@pytest.mark.parametrize("name", ["network", "widths", "epochs", "lr", "keep", "scheme", "members", "recipe", "n_jobs"])
@pytest.mark.parametrize("value", [{}, b"x", ("a", "b"), np.nan], ids=repr)
def test_parameters_of_another_type_are_named(name, value):
    with pytest.raises(ArgumentError, match="lr|learning rate" if name == "lr" else name):
        npr.Classifier(**SMALL | {name: value}).fit(X_, Y_)


@pytest.mark.parametrize("name", ["alpha", "prior", "delta", "seed", "split", "shadow", "verbose"])
@pytest.mark.parametrize("value", [{}, b"x", ("a", "b"), "x"], ids=repr)
def test_options_of_an_audit_of_another_type_are_named(name, value):
    with pytest.raises(ArgumentError, match=name):
        npr.audit(LOGITS, LABELS, MEMBER, quick=True, **{name: value})

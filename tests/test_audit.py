"""Audits of predictions: what is read and what is refused, every number against counting, and how often they err."""

import dataclasses
import io
import json
import math
import os
import re
import zipfile

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from counting import delong, epsilon_bound
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import softmax

import cli
from nanoprune.attack import network, scores
from nanoprune.errors import ArgumentError, DataError, NanopruneError
from nanoprune.lab.audit import Predictions, audit, measure, prediction_attacks, read_predictions, validity, write_audit
from nanoprune.lab.audit.attack_choice import choose, scored_rows
from nanoprune.lab.audit.audit import summarise
from nanoprune.lab.audit.log_space import log_odds
from nanoprune.lab.audit.prediction_attacks import ATTACKS, SCORES, Fold, folds, run_attacks
from nanoprune.lab.audit.verdict import conclude
from nanoprune.lab.report.audit_verdict import evidence_texts
from nanoprune.records import shuffled


def predictions(seed, members=20, nonmembers=20, classes=4, leak=0.5):
    """Random outputs in random order, but a share `leak` of the members is confidently right."""
    rng, n = np.random.default_rng(seed), members + nonmembers
    member = rng.permutation(np.arange(n) < members)
    y = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])  # every class is there
    p = rng.dirichlet(np.ones(classes), n)
    sure = member & (rng.random(n) < leak)
    p[sure] = 0.9 * np.eye(classes)[y[sure]] + 0.1 * p[sure]
    return Predictions(p, y, member)


def arrays(target, shadow=None):
    """What a file holds, by name."""
    of = {"target": target} if shadow is None else {"target": target, "shadow": shadow}
    return {
        f"{name}_{key}": values
        for name, P in of.items()
        for key, values in (("probs", P.p), ("labels", P.y), ("member", P.member))
    }


def save(path, contents):
    """Write named arrays, or text or bytes as they are."""
    if isinstance(contents, bytes | str):
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    elif path.suffix == ".npz":
        np.savez(path, **contents)
    elif path.suffix == ".csv":
        columns = [contents["target_labels"], contents["target_member"].astype(int), *contents["target_probs"].T]
        lines = ["label,member," + ",".join(f"p{c}" for c in range(len(columns) - 2))]
        lines += [",".join(repr(value.item()) for value in row) for row in zip(*columns, strict=True)]
        path.write_text("\n".join(lines) + "\n")
    else:
        with h5py.File(path, "w") as file:
            for name, values in contents.items():
                file[name] = values
    return path


def refusal(path):
    """The one line that refuses the file; it names it."""
    with pytest.raises(DataError) as caught:
        read_predictions(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message[len(str(path)) :]


def with_logits(contents, of="target"):
    return {n: v for n, v in contents.items() if n != f"{of}_probs"} | {f"{of}_logits": np.log(contents[f"{of}_probs"])}


# --- reading ---------------------------------------------------------------------------------------------------------


def same(found, expected):
    np.testing.assert_allclose(found.p, expected.p, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.p.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(found.y, expected.y)
    np.testing.assert_array_equal(found.member, expected.member)
    assert (found.p.dtype, found.y.dtype, found.member.dtype) == (np.float64, np.int64, bool)
    assert found.classes == expected.classes
    return True


@pytest.mark.parametrize("logits", [False, True], ids=["probs", "logits"])
@pytest.mark.parametrize("suffix", [".npz", ".NPZ", ".h5", ".hdf5"])
def test_what_was_written_is_read(suffix, logits, tmp_path):
    target, shadow, path = predictions(1, 21, 17), predictions(2, 9, 30), tmp_path / f"scores{suffix}"
    for given_shadow in (None, shadow):
        contents = arrays(target, given_shadow)
        if logits:  # any constant may be added to a row of logits
            contents = with_logits(contents)
            contents["target_logits"] += np.linspace(-500, 900, len(target.y))[:, None]
        if suffix == ".NPZ":
            with open(path, "wb") as file:
                np.savez_compressed(file, **contents)
        else:
            save(path, contents)
        found = read_predictions(path)
        assert same(found[0], target)
        assert found[1] is None if given_shadow is None else same(found[1], shadow)


def test_a_csv_is_read(tmp_path):
    target, shadow = read_predictions(save(tmp_path / "scores.csv", arrays(predictions(1, 21, 17))))
    assert same(target, predictions(1, 21, 17))
    assert shadow is None


@pytest.mark.parametrize("floats", [np.float16, np.float32, np.float64])
def test_numbers_may_be_of_other_types(tmp_path, floats):
    target = predictions(3)
    contents = {
        "target_probs": np.asfortranarray(target.p.astype(np.float32)),
        "target_labels": target.y.astype(floats),
        "target_member": target.member.astype(np.uint8),
        "notes": np.array(["of somebody else"]),
    }
    for name in ("a.npz", "a.h5"):
        if name == "a.h5":
            contents["notes"] = np.array([b"of somebody else"])
        found, shadow = read_predictions(save(tmp_path / name, contents))
        assert shadow is None
        np.testing.assert_allclose(found.p, target.p, rtol=1e-6)
        np.testing.assert_array_equal(found.y, target.y)
        np.testing.assert_array_equal(found.member, target.member)
    hot = arrays(target) | {"target_probs": np.eye(4, dtype=int)[target.y]}
    np.testing.assert_array_equal(read_predictions(save(tmp_path / "b.npz", hot))[0].p, np.eye(4)[target.y])


def test_csv_as_spreadsheets_write_it(tmp_path):
    target, path = predictions(4), tmp_path / "scores.csv"
    first, *rows = save(path, arrays(target)).read_text().splitlines()
    header = ",".join(f'"{name}"' for name in first.split(","))
    save(path, "\ufeff" + "\r\n".join([header, *rows, ""]) + "\r\n")
    assert same(read_predictions(path)[0], target)


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".csv"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_rows_may_miss_one_by_a_hundredth(suffix, sign, tmp_path):
    target, path = predictions(5), tmp_path / f"scores{suffix}"
    p = target.p.copy()
    p[7] *= 1 + sign * 0.9e-2
    assert same(read_predictions(save(path, arrays(Predictions(p, target.y, target.member))))[0], target)
    p[7] = target.p[7] * (1 + sign * 1.1e-2)
    message = refusal(save(path, arrays(Predictions(p, target.y, target.member))))
    assert f"target_probs row 7 sums to {1 + sign * 1.1e-2:g}" in message
    assert "more decimals" in message  # not a hint that they are logits


@pytest.mark.parametrize(("decimals", "classes"), [(3, 4), (3, 100), (2, 4), (2, 10), (4, 1000)])
@pytest.mark.parametrize("suffix", [".npz", ".csv"])
def test_rounded_probabilities_are_read(decimals, classes, suffix, tmp_path):
    """Rounding moves the sum of a row by half a unit for each class; renormalised they are what they were, nearly."""
    target = predictions(5, 40, 40, classes=min(classes, 80))
    p = np.round(np.random.default_rng(1).dirichlet(np.ones(classes), 80), decimals)
    assert np.abs(p.sum(axis=1) - 1).max() > 10.0**-decimals / 2
    found, _ = read_predictions(save(tmp_path / f"scores{suffix}", arrays(Predictions(p, target.y, target.member))))
    np.testing.assert_allclose(found.p, p / p.sum(axis=1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("bits", [10, 7])  # of the significand: half precision and bfloat16
def test_probabilities_of_half_precision_are_read(bits, tmp_path):
    target, size = predictions(6, 60, 60, classes=5), 2.0**bits
    exponent = np.floor(np.log2(target.p))
    p = np.round(target.p / 2**exponent * size) / size * 2**exponent
    assert np.abs(p.sum(axis=1) - 1).max() > 2.0 ** -(bits + 2)
    found, _ = read_predictions(save(tmp_path / "scores.npz", arrays(Predictions(p, target.y, target.member))))
    np.testing.assert_allclose(found.p, target.p, rtol=2 * 2.0**-bits)


def test_no_hint_for_a_csv_names_what_a_csv_cannot_hold(tmp_path):
    for p in (predictions(5).p * 3, predictions(5).p * 0.7):
        target = predictions(5)
        message = refusal(save(tmp_path / "a.csv", arrays(Predictions(p, target.y, target.member))))
        assert "target_logits" not in message
        assert "logits" in message or "more decimals" in message


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_huge_logits_are_numbers_like_others(suffix, tmp_path):
    contents = with_logits(arrays(predictions(6)))
    contents["target_logits"][2] = [1e308, -1e308, 0, 1]
    found, _ = read_predictions(save(tmp_path / f"scores{suffix}", contents))
    np.testing.assert_array_equal(found.p[2], [1, 0, 0, 0])


# --- refusing --------------------------------------------------------------------------------------------------------


def put(name, index, value, dtype=float):
    """A change of the contents: one entry, or one row, is `value`."""

    def change(contents):
        values = contents[name].astype(dtype)
        values[index] = value
        return contents | {name: values}

    return change


def replace(**changes):
    """A change of the contents: each named array by a function of it; None leaves it out."""

    def change(contents):
        changed = {name: f(contents[name]) for name, f in changes.items() if f}
        return {name: v for name, v in contents.items() if changes.get(name, v) is not None} | changed

    return change


def logits(change):
    return lambda contents: change(with_logits(contents))


BAD = {
    "too few labels": (replace(target_labels=lambda y: y[:-1]), "target_labels has 39 entries", "40 rows"),
    "too many members": (replace(target_member=lambda m: np.append(m, m)), "target_member has 80 entries", "40 rows"),
    "too few rows": (replace(target_probs=lambda p: p[:-1]), "target_labels has 40 entries", "39 rows"),
    "too few labels of the shadow": (replace(shadow_labels=lambda y: y[:-1]), "shadow_labels has 39", "40 rows"),
    "NaN": (put("target_probs", 5, math.nan), "target_probs row 5", "NaN"),
    "infinite": (put("target_probs", (5, 0), math.inf), "target_probs row 5", "infinite"),
    "NaN in logits": (logits(put("target_logits", (6, 1), math.nan)), "target_logits row 6", "NaN"),
    "infinite logits": (logits(put("target_logits", (6, 1), -math.inf)), "target_logits row 6", "infinite"),
    "logits beyond float64": (
        logits(put("target_logits", (6, 1), np.longdouble("1e4000"), np.longdouble)),
        "target_logits row 6",
        "infinite",
    ),
    "NaN in the shadow": (put("shadow_probs", 8, math.nan), "shadow_probs row 8", "NaN"),
    "negative": (put("target_probs", 4, [-0.1, 1.1, 0, 0]), "target_probs row 4", "-0.1"),
    "logits called probabilities": (replace(target_probs=np.log), "target_probs row 0", "not negative"),
    "percent": (replace(target_probs=lambda p: 100 * p), "target_probs row 0 sums to 100", "divide by 100"),
    "a sum beyond float64": (put("target_probs", 3, 1e308), "target_probs row 3", "sums to"),
    "shadow rows of another sum": (put("shadow_probs", 2, 0.5), "shadow_probs row 2 sums to 2", "shadow_logits"),
    "label too large": (put("target_labels", 9, 4, int), "target_labels holds class 4", "0 to 3"),
    "negative label": (put("target_labels", 9, -1, int), "target_labels holds class -1", "0 to 3"),
    "half a label": (put("target_labels", 9, 0.5), "target_labels holds 0.5", "integers"),
    "label is NaN": (put("target_labels", 9, math.nan), "target_labels holds nan", "integers"),
    "label is infinite": (put("target_labels", 9, math.inf), "target_labels holds inf", "integers"),
    "label beyond int64": (put("target_labels", 9, 1e300), "target_labels holds", "1e+300"),
    "label beyond int64, unsigned": (
        put("target_labels", 9, 2**64 - 1, np.uint64),
        "target_labels holds",
        "18446744073709551615",
    ),
    "shadow label too large": (put("shadow_labels", 9, 7, int), "shadow_labels holds class 7", "0 to 3"),
    "member of 2": (put("target_member", 9, 2, int), "target_member must be 0 or 1", "found 2"),
    "half a member": (put("target_member", 9, 0.5), "target_member holds 0.5", "integers"),
    "no members": (replace(target_member=np.zeros_like), "target_member names 0 members", "at least"),
    "no non-members": (replace(target_member=np.ones_like), "target_member names 0 non-members", "at least"),
    "no shadow members": (replace(shadow_member=np.zeros_like), "shadow_member names 0 members", "at least"),
    "three members": (replace(target_member=lambda m: np.arange(len(m)) < 3), "target_member names 3 members", ""),
    "no records": (
        replace(target_probs=lambda p: p[:0], target_labels=lambda y: y[:0], target_member=lambda m: m[:0]),
        "target_member names 0 members",
        "",
    ),
    "no columns": (replace(target_probs=lambda p: p[:, :0]), "target_probs has 0 columns", "2 classes"),
    "one column": (replace(target_probs=lambda p: p[:, :1]), "target_probs has one column", "there is a class 3"),
    "one axis": (replace(target_probs=lambda p: p[:, 0]), "target_probs has one column", "a column for each class"),
    "three axes": (replace(target_probs=lambda p: p[None]), "target_probs has shape (1, 40, 4)", "2 axes"),
    "one-hot labels": (
        replace(target_labels=lambda y: np.eye(4)[y]),
        "target_labels has shape (40, 4)",
        "expected 1 axes; of one-hot labels give the class numbers, labels.argmax(axis=1)",
    ),
    "one member": (replace(target_member=lambda m: m[0]), "target_member has shape ()", "1 axes"),
    "words": (replace(target_labels=lambda y: y.astype("S")), "target_labels holds |S", "number the classes from 0"),
    "yes and no": (
        replace(target_member=lambda m: np.where(m, b"yes", b"no")),
        "target_member holds |S",
        "write 1 for members, 0 for the others",
    ),
    "words as probabilities": (replace(target_probs=lambda p: p.astype("S")), "target_probs holds |S", "numbers"),
    "complex": (replace(target_probs=lambda p: p + 0j), "target_probs holds complex128", "numbers"),
    "a record type": (replace(target_labels=lambda y: y.view("i4,i4")), "target_labels holds", "numbers"),
    "no probabilities": (replace(target_probs=None), "one of target_probs and target_logits", "target_member"),
    "both": (
        lambda contents: contents | with_logits(contents),
        "one of target_probs and target_logits",
        "has target_probs and target_logits",
    ),
    "no labels": (replace(target_labels=None), "target_labels is missing", "target_member"),
    "no member": (replace(target_member=None), "target_member is missing", "target_labels"),
    "no shadow labels": (replace(shadow_labels=None), "shadow_labels is missing", "shadow_member"),
    "no shadow probabilities": (replace(shadow_probs=None), "one of shadow_probs and shadow_logits", ""),
    "nothing": (lambda contents: {}, "one of target_probs and target_logits", "nothing"),
    "a shadow of other classes": (
        replace(shadow_probs=lambda p: np.hstack([p, 0 * p[:, :1]])),
        "shadow has 5 classes",
        "target 4",
    ),
    "a class that the shadow has never seen": (
        replace(shadow_labels=lambda y: np.where(y == 2, 1, y)),
        "class 2 of target_labels",
        "shadow_labels",
    ),
}


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused_by_name(case, suffix, tmp_path):
    change, named, also = BAD[case]
    path = save(tmp_path / f"scores{suffix}", change(arrays(predictions(7), predictions(8))))
    message = refusal(path)
    assert named in message
    assert also in message


GOOD_ROWS = "0,1,.5,.5\n1,0,.5,.5\n" * 10
BAD_CSV = {
    "empty": ("", "first line"),
    "only a header": ("label,member,p0,p1\n", "member"),
    "no header": (GOOD_ROWS, "first line"),
    "a column left out": ("label,member,p0,p2\n" + GOOD_ROWS, "column p1 is missing"),
    "numbered from 1": ("label,member,p1,p2\n" + GOOD_ROWS, "number columns and labels from 0"),
    "no probabilities": ("label,member\n0,1\n", "neither probabilities nor logits"),
    "probabilities and logits": ("label,member,p0,p1,z0,z1\n0,1,.5,.5,1,1\n", "probabilities and logits"),
    "one probability": ("label,member,p0\n0,1,1\n", "a sigmoid, of class 1, as p1"),
    "one logit": ("label,member,z0\n0,1,1\n", "a sigmoid, of class 1, as z1"),
    "a sigmoid of logits": ("label,member,p1\n" + "0,1,3\n1,0,.5\n" * 9, "into a column z1"),
    "a sigmoid of ten classes": ("label,member,p\n" + "0,1,.3\n7,0,.5\n" * 9, "there is a class 7"),
    "a column twice": ("label,member,p0,p1,p1\n" + "0,1,.5,.5,.5\n", "two columns are called p1"),
    "two labels": ("label,y,member,p0,p1\n" + "0,0,1,.5,.5\n", "columns label and y"),
    "no member": ("label,p0,p1\n" + "0,.5,.5\n", "no column member"),
    "a short row": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,.5\n", "row 20 has 3 values, the first line names 4"),
    "a long row": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,.5,.5,0\n", "row 20 has 5 values"),
    "rows longer than the header": ("label,member,p0,p1\n" + "0,1,.5,.5,0\n" * 9, "5 values"),
    "rows shorter than the header": ("label,member,p0,p1,p2\n" + GOOD_ROWS, "row 0 has 4 values"),
    "a word": ("label,member,p0,p1\ncat,1,.5,.5\n", "number the classes from 0"),
    "maybe": ("label,member,p0,p1\n0,maybe,.5,.5\n", "row 0, member: 'maybe' is none of 1/0, true/false, yes/no"),
    "semicolons": ("label;member;p0;p1\n0;1;0,5;0,5\n", "not semicolons"),
    "semicolons below": ("label,member,p0,p1\n0;1;.5;.5\n", "separate the columns by commas"),
    "percentages": ("label,member,p0,p1\n" + "0,1,40,60\n1,0,100,0\n" * 9, "divide by 100"),
    "an empty cell": ("label,member,p0,p1\n0,1,,1\n", "''"),
    "NaN": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,nan,1\n", "target_probs row 20"),
    "too large a number": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,1e999,1\n", "target_probs row 20"),
    "a negative number": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,-1,2\n", "target_probs row 20"),
    "a sum of two": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,1,1\n", "target_probs row 20 sums to 2"),
    "a label of two": ("label,member,p0,p1\n" + GOOD_ROWS + "2,1,0,1\n", "target_labels holds class 2"),
    "a label beyond int64": ("label,member,p0,p1\n" + GOOD_ROWS + "1e30,1,0,1\n", "target_labels"),
    "half a label": ("label,member,p0,p1\n" + GOOD_ROWS + "0.5,1,0,1\n", "target_labels holds 0.5"),
    "a member of two": ("label,member,p0,p1\n" + GOOD_ROWS + "0,2,0,1\n", "target_member must be 0 or 1"),
    "no members": ("label,member,p0,p1\n" + "0,0,.5,.5\n" * 19, "target_member names 0 members"),
    "no non-members": ("label,member,p0,p1\n" + "0,1,.5,.5\n" * 19, "target_member names 0 non-members"),
    "another encoding": ("label,member,p0,p1\n0,1,.5,.5é\n".encode("latin-1"), "utf-8"),
    "bytes": (bytes(range(256)) * 4, ""),
    "zeros": (bytes(400), "first line"),
    "zeros in a row": ("label,member,p0,p1\n" + GOOD_ROWS + "0,1,\0,1\n", "row 20"),
}


@pytest.mark.parametrize("case", BAD_CSV)
def test_a_bad_csv_is_refused(case, tmp_path):
    text, named = BAD_CSV[case]
    assert named in refusal(save(tmp_path / "scores.csv", text))


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5", ".csv"])
def test_a_file_that_is_none_is_refused(suffix, tmp_path):
    path = tmp_path / f"scores{suffix}"
    assert "not found" in refusal(path)
    for content in (b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"no predictions at all\n"):
        refusal(save(path, content))
    path.unlink()
    path.mkdir()
    refusal(path)


@pytest.mark.parametrize("name", ["scores.pkl", "scores.npy", "scores", "scores.npz.txt"])
def test_another_suffix_is_refused(name, tmp_path):
    path = tmp_path / name
    with open(path, "wb") as file:
        np.savez(file, **arrays(predictions(9)))
    assert f"must be .npz, .h5, .csv or .csv.gz, got {path.suffix or 'no suffix'}" in refusal(path)


# --- files that lie --------------------------------------------------------------------------------------------------


class Trap:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("name", ["target_probs", "target_labels", "target_member", "shadow_probs", "notes"])
def test_nothing_is_unpickled(name, tmp_path):
    contents, path, sprung = arrays(predictions(10), predictions(11)), tmp_path / "scores.npz", tmp_path / "sprung"
    contents[name] = np.array([Trap(sprung)] + [0] * 39, dtype=object)
    np.savez(path, **contents)
    if name == "notes":
        assert same(read_predictions(path)[0], predictions(10))
    else:
        message = refusal(path)
        assert f"{name} holds object" in message
        assert "never unpickled" in message
    assert not sprung.exists()
    with np.load(path, allow_pickle=True) as file:  # the trap would have worked
        assert file[name].shape == (40,)
    assert sprung.is_dir()


def npz_with(path, raw, name="target_probs", compression=zipfile.ZIP_STORED):
    """An .npz of good arrays, but the file of `name` in it holds the bytes `raw`."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for key, values in arrays(predictions(12)).items():
            buffer = io.BytesIO()
            np.save(buffer, values)
            archive.writestr(f"{key}.npy", raw if key == name else buffer.getvalue())
    return path


def npy(header, data=b"", version=(1, 0)):
    """The bytes of a .npy of this header."""
    length = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + length + header.encode("latin-1") + data


def described(descr="'<f8'", shape="(40, 4)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n"


DATA = predictions(12).p.tobytes()
BAD_NPY = {
    "promises more": npy(described(shape="(41, 4)"), DATA),
    "promises terabytes": npy(described(shape="(1000000000000, 4)"), DATA),
    "promises more than can be counted": npy(described(shape=f"({10**30}, 4)"), DATA),
    "promises less": npy(described(shape="(39, 4)"), DATA),
    "more than it promises": npy(described(), DATA + b"more"),
    "half of the data": npy(described(), DATA[: len(DATA) // 2]),
    "no data": npy(described()),
    "negative axes": npy(described(shape="(-40, -4)"), DATA),
    "objects": npy(described("'|O'"), DATA),
    "objects within": npy(described("[('a', '|O')]"), DATA),
    "items of no size": npy(described("'|V0'")),
    "dates": npy(described("'<M8[ns]'"), DATA),
    "no type": npy(described("'zzz'"), DATA),
    "another version": npy(described(), DATA, (9, 9)),
    "no header": b"\x93NUMPY\x01\x00",
    "no magic": b"not an array",
    "empty": b"",
    "a header of other keys": npy("{'a': 1}", DATA),
    "a list as a key": npy("{[]: 1}", DATA),
    "a header that is a list": npy("[1, 2]", DATA),
    "a header of zeros": npy("\0\0\0", DATA),
    "open brackets": npy("(((((", DATA),
    "an open string": npy("  '''", DATA),
    "half a header": npy("{'descr'", DATA),
    "many brackets": npy("(" * 9000, DATA),
    "many signs": npy("-" * 9000 + "1", DATA),
    "a long header": npy(" " * 60000 + described(), DATA),
}


@pytest.mark.parametrize("case", BAD_NPY)
def test_an_npz_that_lies_is_refused(case, tmp_path):
    assert "target_probs" in refusal(npz_with(tmp_path / "scores.npz", BAD_NPY[case]))


def test_an_honest_npy_of_the_same_making_is_read(tmp_path):
    for version in ((1, 0), (2, 0), (3, 0)):
        found, _ = read_predictions(npz_with(tmp_path / "scores.npz", npy(described(), DATA, version)))
        assert same(found, predictions(12))


@pytest.mark.parametrize(("records", "compression"), [(10**12, zipfile.ZIP_DEFLATED), (10**5, zipfile.ZIP_STORED)])
def test_a_zip_directory_that_lies_with_the_header_is_refused(records, compression, tmp_path):
    """Both promise 32 TB, or 3 MB, of which there is a kilobyte."""
    path, raw = tmp_path / "scores.npz", npy(described(shape=f"({records}, 4)"), DATA)
    with zipfile.ZipFile(npz_with(path, raw, compression=compression), "a") as archive:
        info = archive.getinfo("target_probs.npy")
        info.file_size = len(raw) - len(DATA) + records * 4 * 8
        if compression == zipfile.ZIP_STORED:
            info.compress_size = info.file_size
        archive.writestr("notes.txt", "so that the directory is written again")
    refusal(path)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("field", ["flags", "method", "version", "name"])
def test_a_zip_of_another_kind_is_refused(field, compression, tmp_path):
    """Encrypted, of an unknown compression, of a later version, of a name that is no text: said twice, as zip does."""
    path = npz_with(tmp_path / "scores.npz", npy(described(), DATA), compression=compression)
    raw = bytearray(path.read_bytes())
    local, central = raw.index(b"PK\x03\x04"), raw.index(b"PK\x01\x02")
    changes = {"flags": [(6, 1)], "method": [(8, 77)], "version": [(4, 250)], "name": [(7, 8)]}
    for offset, value in changes[field]:
        raw[local + offset] = raw[central + offset + 2] = value
    if field == "name":
        raw[local + 30] = raw[central + 46] = 0xFF
    refusal(save(path, bytes(raw)))


def test_damaged_compressed_data_is_refused(tmp_path):
    path = npz_with(tmp_path / "scores.npz", npy(described(), DATA), compression=zipfile.ZIP_DEFLATED)
    whole = path.read_bytes()
    for place in range(60, 200, 7):
        damaged = bytearray(whole)
        damaged[place : place + 7] = b"\xff" * 7
        refusal(save(path, bytes(damaged)))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_truncated_file_is_refused(suffix, tmp_path):
    path = save(tmp_path / f"scores{suffix}", arrays(predictions(13), predictions(14)))
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        refusal(save(path, whole[:length]))


H5 = {
    "a group": lambda file: file.create_group("target_probs"),
    "no shape": lambda file: file.create_dataset("target_probs", data=h5py.Empty("f8")),
    "text": lambda file: file.create_dataset("target_probs", data=["a", "b"], dtype=h5py.string_dtype()),
    "references": lambda file: file.create_dataset("target_probs", (40, 4), dtype=h5py.ref_dtype),
    "a link to nowhere": lambda file: file.__setitem__("target_probs", h5py.SoftLink("/nowhere")),
    "a link to itself": lambda file: file.__setitem__("target_probs", h5py.SoftLink("/target_probs")),
    "a link to another file": lambda file: file.__setitem__("target_probs", h5py.ExternalLink("nowhere.h5", "/x")),
    "terabytes that are not there": lambda file: file.create_dataset(
        "target_probs", (10**12, 4), "f8", chunks=(1000, 4)
    ),
}


@pytest.mark.parametrize("case", H5)
def test_an_h5_that_lies_is_refused(case, tmp_path):
    contents = arrays(predictions(15))
    del contents["target_probs"]
    path = save(tmp_path / "scores.h5", contents)
    with h5py.File(path, "a") as file:
        H5[case](file)
    assert "target_probs" in refusal(path)


@pytest.mark.parametrize("whole", [True, False])
def test_an_h5_with_a_name_that_is_no_text(whole, tmp_path):
    contents = arrays(predictions(15)) | {b"\xff\xfe": np.arange(3)}
    if not whole:
        del contents["target_labels"]
    path = save(tmp_path / "scores.h5", contents)
    if whole:
        assert same(read_predictions(path)[0], predictions(15))
    else:
        assert "target_labels is missing" in refusal(path)


def damage(whole, edits):
    """Bytes changed, flipped, left out or put in, at places given as a share of the length."""
    damaged = bytearray(whole)
    for kind, place, values in edits:
        at = int(place * len(damaged))
        if kind == "change":
            damaged[at : at + len(values)] = values
        elif kind == "flip" and damaged:
            damaged[at] ^= 1 << (values[0] % 8)
        elif kind == "cut":
            del damaged[at : at + len(values)]
        elif kind == "insert":
            damaged[at:at] = values
    return bytes(damaged)


edits = st.lists(
    st.tuples(
        st.sampled_from(["change", "flip", "cut", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=8),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small good file of each kind: its path, and its bytes."""
    folder, contents = tmp_path_factory.mktemp("whole"), arrays(predictions(16, 9, 9, classes=3))
    files = {kind: save(folder / f"scores.{kind}", contents) for kind in ("npz", "h5", "csv")}
    files["compressed"] = folder / "compressed.npz"
    np.savez_compressed(files["compressed"], **contents)
    return {kind: (path, path.read_bytes()) for kind, path in files.items()}


@pytest.mark.parametrize("kind", ["npz", "compressed", "h5", "csv"])
def test_damaged_bytes_are_refused_or_read_as_predictions(kind, whole):
    path, good = whole[kind]

    @settings(deadline=None, max_examples=150, derandomize=True, database=None)
    @given(edits)
    def check(edits):
        path.write_bytes(damage(good, edits))
        try:
            target, _ = read_predictions(path)
        except DataError as error:
            message = str(error)
        else:
            message = None
        if message is not None:
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            return
        np.testing.assert_allclose(target.p.sum(axis=1), 1, rtol=1e-12)
        assert (target.p >= 0).all()
        assert target.y.min() >= 0
        assert target.y.max() < target.classes
        assert len(target.p) == len(target.y) == len(target.member)

    path.write_bytes(good)
    assert same(read_predictions(path)[0], predictions(16, 9, 9, classes=3))
    check()


# --- the audit, against counting -------------------------------------------------------------------------------------


@pytest.fixture
def few_epochs(monkeypatch):
    """For tests that do not ask how good the attack network is."""
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 1)
    monkeypatch.setattr(network, "MIN_PATIENCE", 1)


@pytest.fixture
def no_network(monkeypatch):
    """Scores of no meaning, at once."""
    noise = np.random.default_rng(0).normal(size=2000)
    monkeypatch.setattr(
        prediction_attacks, "_network_scores", lambda target, parts, *_: network_scores(noise, target, parts)
    )


def network_scores(z, target, parts):
    """An attack network's scores z, which is not the strongest attack."""
    wrong = [(np.where(units.member, -1.0, 1.0), units) for units in (fold.known.units for fold in parts)]
    return prediction_attacks.NetworkScores(z[: len(target.y)], wrong, [False] * len(parts))


def log(q):
    return math.log(max(q, 1e-30))


FORMULAS = {  # each an increasing function of the score in the paper: the logarithm keeps what rounds to 0 or 1 apart
    "correctness": lambda q, c: float(q.index(max(q)) == c),
    "confidence": lambda q, c: log(q[c]) - log(math.fsum(v for k, v in enumerate(q) if k != c)),
    "entropy": lambda q, c: -log(-math.fsum(v * log(v) for v in q)),
    "modified_entropy": lambda q, c: (
        -log(-math.fsum([(1 - q[c]) * log(q[c])] + [v * math.log1p(-v) for k, v in enumerate(q) if k != c]))
    ),
    "loss": lambda q, c: log(q[c]) - log(math.fsum(v for k, v in enumerate(q) if k != c)),
}


def plain_scores(name, P):
    return np.array([FORMULAS[name](q, c) for q, c in zip(P.p.tolist(), P.y.tolist(), strict=True)])


def counted_accuracy(said, member):
    rates = [np.mean([s == is_member for s, is_member in zip(said, member, strict=True) if is_member == side])
             for side in (True, False)]  # fmt: skip
    return sum(rates) / 2


def threshold(scores, member):
    """The best of all thresholds on these records, the largest on a tie."""
    inside, outside = scores[member].tolist(), scores[~member].tolist()

    def gain(t):
        return sum(s >= t for s in inside) * len(outside) - sum(s >= t for s in outside) * len(inside)

    return max([math.inf, *sorted({*inside, *outside}, reverse=True)], key=gain)


def plain_decisions(name, P, parts, per_class):
    """Every record against the threshold that its fold's known records give."""
    scores, said = plain_scores(name, P), np.zeros(len(P.y), bool)
    for fold in parts:
        known, member, y = plain_scores(name, fold.known), fold.known.member, fold.known.y
        for i in fold.scored:
            of_class = y == P.y[i]
            needed = [member[of_class].any(), not member[of_class].all()]
            rows = of_class if per_class and all(needed) else np.ones(len(y), bool)
            said[i] = scores[i] >= threshold(known[rows], member[rows])
    return scores, said


def check_interval(found, inside, outside, alpha):
    """Against the one by the double loop; of decisions, it is that of the scores 0 and 1."""
    _, _, value, interval = delong(inside, outside, alpha)
    assert found["value"] == pytest.approx(float(value), rel=1e-12)
    assert [found["low"], found["high"]] == pytest.approx(interval, rel=1e-6, abs=1e-9)


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("with_shadow", [True, False])
def test_every_number_is_the_counted_one(with_shadow):
    target = predictions(20, 80, 110)
    shadow = predictions(21, 40, 30) if with_shadow else None
    results, _ = audit(target, shadow, alpha=0.1, seed=3)
    parts = folds(target, shadow, np.random.default_rng(3))
    assert results["bonferroni_divisor"] == 4  # accuracy, classes, epsilon, few false positives
    of_epsilon = 0.1 / 4 / 6  # for all six bounds together
    m = target.member
    assert (results["members"], results["nonmembers"], results["classes"]) == (80, 110, 4)
    right = [q.index(max(q)) == c for q, c in zip(target.p.tolist(), target.y.tolist(), strict=True)]
    for key, side in (("train_accuracy", True), ("test_accuracy", False)):
        assert results[key] == np.mean([r for r, is_member in zip(right, m, strict=True) if is_member == side])

    assert list(results["attacks"]) == [*FORMULAS, "network"] == list(ATTACKS)
    attacked = run_attacks(target, parts, 3, 1)
    for name, entry in results["attacks"].items():
        assert set(entry) == {
            "accuracy", "accuracy_per_class_threshold", "auc", "tpr_at_fpr", "epsilon_lower_bound",
            "epsilon_with_delta",
        }  # fmt: skip
        if name == "network":
            scores, said, per_class = attacked[name].scores, attacked[name].scores >= 0, None
            bound = max(
                epsilon_bound(scores[rows][m[rows]], scores[rows][~m[rows]], of_epsilon / len(parts))
                for rows in (fold.scored for fold in parts)
            )
        else:
            scores, said = plain_decisions(name, target, parts, False)
            per_class = None if name == "correctness" else plain_decisions(name, target, parts, True)[1]
            bound = epsilon_bound(scores[m], scores[~m], of_epsilon)
            np.testing.assert_allclose(attacked[name].scores, scores, rtol=1e-9, atol=1e-9)
        check_interval(entry["accuracy"], said[m], said[~m], 0.1)
        assert entry["accuracy"]["value"] == pytest.approx(counted_accuracy(said, m))
        if per_class is None:
            assert entry["accuracy_per_class_threshold"] is None
        else:
            check_interval(entry["accuracy_per_class_threshold"], per_class[m], per_class[~m], 0.1)
        check_interval(entry["auc"], scores[m], scores[~m], 0.1)
        u = stats.mannwhitneyu(scores[m], scores[~m]).statistic
        assert entry["auc"]["value"] == pytest.approx(u / (80 * 110))
        allowed = [np.sum(scores[m] >= t) for t in [math.inf, *scores] if np.sum(scores[~m] >= t) <= 0.01 * 110]
        exact = stats.binomtest(int(max(allowed)), 80).proportion_ci(0.9, method="exact")
        tpr = entry["tpr_at_fpr"]["0.01"]
        assert tpr["value"] == max(allowed) / 80
        assert (tpr["low"], tpr["high"]) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert entry["tpr_at_fpr"]["0.001"] is None
        assert entry["epsilon_lower_bound"] == pytest.approx(bound, rel=1e-6, abs=1e-9)
        with_delta = entry["epsilon_with_delta"]
        assert with_delta["delta"] == 1e-5
        assert 0 <= with_delta["any"] <= bound + 1e-9
        assert with_delta["gaussian"] >= 0
    (refused,) = results["refused"]
    assert all(word in refused for word in ("0.001", "1,000", "110"))


@pytest.mark.usefixtures("few_epochs")
def test_the_strongest_attack_its_classes_and_the_most_exposed():
    target, shadow = predictions(22, 80, 100), predictions(23, 60, 60)
    few = np.flatnonzero((target.y == 3) & target.member)[9:]  # nine members of class 3 stay, one too few
    keep = np.setdiff1d(np.arange(180), few)
    target = Predictions(target.p[keep], target.y[keep], target.member[keep])
    results, curves = audit(target, shadow, alpha=0.1)
    attacked, m = run_attacks(target, folds(target, shadow, None), 0, 1), target.member

    accuracies = {}
    for name, entry in results["attacks"].items():
        accuracies[name, False] = entry["accuracy"]["value"]
        if entry["accuracy_per_class_threshold"]:
            accuracies[name, True] = entry["accuracy_per_class_threshold"]["value"]
    best = results["strongest"]
    name, per_class = best["attack"], best["per_class"]
    assert best["candidates"] == len(accuracies) == 10
    assert best["chosen"] == [{"attack": name, "per_class": per_class}]
    own = {(of, bool(k)): attacked[of].own[0, k] for of in attacked for k in (0, 1)}
    assert own[name, per_class] == max(own.values())  # on the shadow's records
    said = attacked[name].said_per_class if per_class else attacked[name].said
    # chosen on other records: not divided by ten; epsilon, classes and few false positives are evidence too
    check_interval(best["accuracy"], said[m], said[~m], 0.1 / 4)

    scores = attacked[name].scores
    assert set(results["per_class"]) == {"0", "1", "2"}
    for c, entry in results["per_class"].items():
        inside, outside = scores[m & (target.y == int(c))], scores[~m & (target.y == int(c))]
        assert (entry["members"], entry["nonmembers"]) == (len(inside), len(outside))
        check_interval(entry["auc"], inside, outside, 0.1 / 4 / 3)
    aucs = {c: entry["auc"]["value"] for c, entry in results["per_class"].items()}
    assert aucs[results["worst_class"]] == max(aucs.values())

    exposed = results["most_exposed"]
    assert len(exposed) == 20
    assert [entry["score"] for entry in exposed] == sorted(scores[m], reverse=True)[:20]
    for entry in exposed:
        i = entry["row"]
        assert m[i]
        assert (entry["label"], entry["score"]) == (target.y[i], scores[i])
        assert entry["false_positive_rate"] == np.mean([s >= scores[i] for s in scores[~m]])
    assert len({entry["row"] for entry in exposed}) == 20

    for name, curve in curves.items():
        scores = attacked[name].scores
        inside, outside = scores[m], scores[~m]
        points = [(np.sum(outside >= t), np.sum(inside >= t)) for t in [math.inf, *scores]]
        assert curve["fpr"][0] == pytest.approx(1 / len(outside))
        assert curve["fpr"][-1] == pytest.approx(1)
        for fpr, tpr, low, high in list(zip(*(curve[key] for key in ("fpr", "tpr", "low", "high")), strict=True))[::10]:
            most = max(hits for false, hits in points if false <= fpr * len(outside) + 1e-6)
            exact = stats.binomtest(int(most), len(inside)).proportion_ci(0.9, method="exact")
            assert (tpr, low, high) == pytest.approx((most / len(inside), exact.low, exact.high), abs=1e-9)


def test_the_most_exposed_where_scores_tie():
    rng = np.random.default_rng(0)
    P, scores = predictions(38, 15, 40), rng.integers(0, 4, 55).astype(float)
    exposed = measure.most_exposed(P.units, scores)
    assert sorted(entry["row"] for entry in exposed) == np.flatnonzero(P.member).tolist()  # all 15: fewer than 20
    assert [entry["score"] for entry in exposed] == sorted(scores[P.member], reverse=True)
    for entry in exposed:
        as_high = sum(s >= entry["score"] for s, is_member in zip(scores, P.member, strict=True) if not is_member)
        assert entry["false_positive_rate"] == as_high / 40


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(("nonmembers", "refused"), [(99, ["0.01", "0.001"]), (100, ["0.001"]), (1000, [])])
def test_rates_that_too_few_nonmembers_cannot_say_are_refused(nonmembers, refused):
    results, _ = audit(predictions(24, 30, nonmembers), predictions(25))
    for entry in results["attacks"].values():
        assert {rate for rate, found in entry["tpr_at_fpr"].items() if found is None} == set(refused)
    assert len(results["refused"]) == len(refused)
    for sentence, rate in zip(results["refused"], refused, strict=True):
        assert sentence.startswith(f"tpr_at_fpr {rate}: needs at least {1 / float(rate):,.0f} non-members")
        assert str(nonmembers) in sentence


# --- what an attack may know -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_epochs")
def test_with_a_shadow_the_targets_membership_decides_nothing():
    target, shadow = predictions(26, 60, 60), predictions(27, 40, 40)
    others = Predictions(target.p, target.y, np.random.default_rng(1).permutation(target.member))
    assert (others.member != target.member).any()
    ours, theirs = (run_attacks(P, folds(P, shadow, np.random.default_rng(0)), 0, 1) for P in (target, others))
    for name in ATTACKS:
        np.testing.assert_array_equal(ours[name].scores, theirs[name].scores)
        np.testing.assert_array_equal(ours[name].said, theirs[name].said)
        if ours[name].said_per_class is not None:
            np.testing.assert_array_equal(ours[name].said_per_class, theirs[name].said_per_class)
        assert 0 < ours[name].said.sum() < 120

    swapped = Predictions(target.p, target.y, ~target.member)
    ours, theirs = (audit(P, shadow)[0]["attacks"] for P in (target, swapped))
    for name in ATTACKS:
        assert theirs[name]["auc"]["value"] == pytest.approx(1 - ours[name]["auc"]["value"])
        assert theirs[name]["accuracy"]["value"] == pytest.approx(1 - ours[name]["accuracy"]["value"])


@pytest.mark.usefixtures("no_network")
def test_swapping_the_sides_turns_the_auc_round_without_a_shadow_too():
    target = predictions(28, 60, 50)
    ours, theirs = (
        audit(Predictions(target.p, target.y, member))[0]["attacks"] for member in (target.member, ~target.member)
    )
    for name in SCORES:
        assert theirs[name]["auc"]["value"] == pytest.approx(1 - ours[name]["auc"]["value"])
        assert theirs[name]["auc"]["low"] == pytest.approx(1 - ours[name]["auc"]["high"])


def test_folds_are_halves_of_either_side():
    target = predictions(29, 31, 40)
    rows = np.arange(71)
    parts = folds(target, None, np.random.default_rng(0))
    assert len(parts) == 2
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.scored for fold in parts])), rows)
    for fold in parts:
        known = np.setdiff1d(rows, fold.scored)
        for ours, theirs in ((fold.known.p, target.p), (fold.known.y, target.y), (fold.known.member, target.member)):
            np.testing.assert_array_equal(ours, theirs[known])
        assert target.member[fold.scored].sum() in (15, 16)
        assert (~target.member[fold.scored]).sum() == 20
    again, other = (folds(target, None, np.random.default_rng(seed))[0].scored for seed in (0, 1))
    np.testing.assert_array_equal(again, parts[0].scored)
    assert not np.array_equal(other, again)

    (fold,) = folds(target, predictions(30), np.random.default_rng(0))
    np.testing.assert_array_equal(fold.scored, rows)
    assert same(fold.known, predictions(30))


@pytest.mark.usefixtures("few_epochs")
def test_no_half_is_judged_by_its_own_membership():
    """The labels of one half change: what is said of it stays, and what is said of the other half changes."""
    target = predictions(31, 70, 70)
    first, second = folds(target, None, np.random.default_rng(0))
    member = target.member.copy()
    member[first.scored] = ~member[first.scored]
    changed = Predictions(target.p, target.y, member)
    rows = first.scored
    poisoned = Fold(Predictions(target.p[rows], target.y[rows], member[rows]), second.scored)
    before = run_attacks(target, [first, second], 0, 1)
    after = run_attacks(changed, [first, poisoned], 0, 1)
    for name in ATTACKS:
        np.testing.assert_array_equal(after[name].scores[rows], before[name].scores[rows])
        decisions = [(before[name].said, after[name].said), (before[name].said_per_class, after[name].said_per_class)]
        for ours, theirs in decisions if name not in ("correctness", "network") else decisions[:1]:
            np.testing.assert_array_equal(theirs[rows], ours[rows])
            assert not np.array_equal(theirs[second.scored], ours[second.scored])


def test_the_network_finds_what_there_is(monkeypatch):
    """Trained in earnest, twice. 80% of the members are given away: the best rule is right 90% of the time."""
    monkeypatch.setattr(network, "PATIENCE", 30)
    stages, steps = [], []
    target = predictions(32, 100, 100, leak=0.8)
    results, _ = audit(target, start=lambda *stage: stages.append(stage), advance=steps.append)
    assert stages == [("threshold attacks", 5), ("attack network, batches", None)]
    assert len(steps) > 5
    assert set(steps) == {1}
    for name in ("confidence", "network"):
        assert 0.83 < results["attacks"][name]["accuracy"]["value"] < 0.97
        assert 0.83 < results["attacks"][name]["auc"]["value"] < 0.97


@pytest.mark.parametrize("with_shadow", [False, True])
def test_the_network_is_fitted_on_the_known_records_and_scores_the_others(with_shadow, monkeypatch):
    """With a network that says the confidence: so leaky that its bound on epsilon is not 0."""
    target, shadow = predictions(35, 60, 60, leak=0.9), predictions(36, 40, 24) if with_shadow else None
    fitted = []
    monkeypatch.setattr(
        prediction_attacks, "fit_attack_network", lambda *args, **options: (fitted.append(args) or len(fitted), [0.7])
    )
    monkeypatch.setattr(prediction_attacks, "attack_scores", lambda h, p, y: h + p[np.arange(len(y)), y])
    parts = folds(target, shadow, np.random.default_rng(0))
    attacked = run_attacks(target, parts, 0, 1)["network"]
    assert len(fitted) == len(parts)
    for number, (fold, (p, y, member, held_out, *_)) in enumerate(zip(parts, fitted, strict=True), start=1):
        rows = fold.scored
        np.testing.assert_array_equal(attacked.scores[rows], number + target.p[rows, target.y[rows]])
        of_known = {(*q, c, m) for q, c, m in zip(fold.known.p.tolist(), fold.known.y, fold.known.member, strict=True)}
        assert {(*q, c, m) for q, c, m in zip(p.tolist(), y, member, strict=True)} == of_known
        assert len(p) == len(of_known)
        for side in (member, ~member):
            assert held_out[side].sum() == round(0.25 * side.sum())

    m = target.member
    bounds = [
        epsilon_bound(attacked.scores[rows][m[rows]], attacked.scores[rows][~m[rows]], 0.05 / len(parts))
        for rows in (fold.scored for fold in parts)
    ]
    assert min(bounds) > 0
    assert measure.measure(target.units, attacked, 0.3, 0.05, 1e-5)["epsilon_lower_bound"] == pytest.approx(
        max(bounds), rel=1e-6
    )


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("with_shadow", [False, True])
def test_threads_change_nothing(with_shadow):
    """Seven of them neither: no more processes are started than there are networks to train."""
    target, shadow = predictions(33, 60, 60), predictions(37, 40, 40) if with_shadow else None
    (one, curves), (two, same_curves) = (audit(target, shadow, threads=threads) for threads in (1, 7))
    assert [results.pop("threads") for results in (one, two)] == [1, 7]
    for results in (one, two):
        del results["seconds"]
    assert two == one
    for name, curve in curves.items():
        np.testing.assert_array_equal(same_curves[name]["tpr"], curve["tpr"])
    assert np.ptp(curves["network"]["tpr"]) > 0


@pytest.mark.usefixtures("few_epochs")
def test_the_seed_is_all_that_chance_has():
    target = predictions(33, 50, 50)
    first, again, other = (audit(target, seed=seed)[0] for seed in (1, 1, 2))
    for results in (first, again, other):
        del results["seconds"]
    assert again == first
    assert other["attacks"]["network"]["auc"] != first["attacks"]["network"]["auc"]
    assert other["attacks"]["confidence"]["auc"] == first["attacks"]["confidence"]["auc"]
    one, two = (audit(target, predictions(37), seed=seed)[0]["attacks"]["network"]["auc"] for seed in (1, 2))
    assert one != two  # the halves are not all that it decides


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("with_shadow", [False, True])
@pytest.mark.parametrize("each", [2, 3, 4, 5, 7, 8, 9])
def test_what_is_read_can_be_audited(each, with_shadow, tmp_path):
    """Few records are refused where they are read, by their number, or else audited."""
    few = predictions(34, each, each, classes=2)
    path = save(tmp_path / "scores.npz", arrays(few, predictions(39, each, each, classes=2) if with_shadow else None))
    message = None
    try:
        target, shadow = read_predictions(path)
        results, _ = audit(target, shadow)
    except NanopruneError as error:
        message = str(error)
    if message is not None:
        assert re.search(rf"(names|got|are|has) {each}\b", message), message
        assert each < 8
    else:
        assert results["members"] == results["nonmembers"] == each
        json.dumps(results, allow_nan=False)


# --- how often it errs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_shadow", [True, False], ids=["shadow", "cross-fitting"])
def test_intervals_cover_a_half_where_the_model_never_saw_the_members(with_shadow, monkeypatch):
    """1,000 audits of a model of Gaussian logits: 200 records in 5 classes, half of them called members."""
    audits = 1000
    monkeypatch.setattr(
        prediction_attacks,
        "_network_scores",
        lambda target, parts, *_: network_scores(np.zeros(len(target.y)), target, parts),
    )
    monkeypatch.setattr(measure, "tpr_interval", lambda *_: None)
    monkeypatch.setattr(measure, "epsilon", lambda *_: (None, None))
    rng = np.random.default_rng(40)

    def null():
        p = np.exp(rng.normal(size=(200, 5)))
        return Predictions(p / p.sum(axis=1, keepdims=True), rng.integers(0, 5, 200), np.arange(200) % 2 == 0)

    names = ("confidence", "modified_entropy") if not with_shadow else ("correctness", "confidence", "modified_entropy")
    monkeypatch.setattr(prediction_attacks, "SCORES", {name: SCORES[name] for name in names})
    covered = {(name, key): 0 for name in names for key in ("accuracy", "accuracy_per_class_threshold", "auc")}
    for _ in range(audits):
        target, shadow = null(), null() if with_shadow else None
        attacked = run_attacks(target, folds(target, shadow, rng), 0, 1)
        for name in names:
            entry = measure.measure(target.units, attacked[name], 0.05, 0.05, 1e-5)
            for key in ("accuracy", "accuracy_per_class_threshold", "auc"):
                covered[name, key] += entry[key] is not None and entry[key]["low"] <= 0.5 <= entry[key]["high"]
    if with_shadow:
        assert covered.pop(("correctness", "accuracy_per_class_threshold")) == 0  # it has none
    slack = 4 * math.sqrt(0.95 * 0.05 / audits)
    for (name, key), count in covered.items():
        assert count / audits >= 0.95 - slack, (name, key, count)
        if key == "auc":
            assert count / audits <= 0.95 + slack, (name, key, count)


def null_audits(monkeypatch, members, nonmembers, audits, alpha, seed, with_shadow=False):
    """How often the verdict calls a model leaky that leaks nothing, and the mean accuracy of the strongest attack."""
    rng, alarms, accuracies = np.random.default_rng(seed), 0, []
    monkeypatch.setattr(
        prediction_attacks,
        "_network_scores",
        lambda target, parts, *_: network_scores(rng.normal(size=len(target.y)), target, parts),
    )
    monkeypatch.setattr(measure, "tpr_interval", lambda *_: None)

    def null(members, nonmembers):
        n = members + nonmembers
        return Predictions(rng.dirichlet(np.ones(5), n), rng.integers(0, 5, n), rng.permutation(n) < members)

    for _ in range(audits):
        target, shadow = null(members, nonmembers), null(100, 100) if with_shadow else None
        parts = folds(target, shadow, rng)
        results = summarise(target, run_attacks(target, parts, 0, 1), alpha, scored_rows(parts))
        found = [leaks for leaks, _ in evidence_texts(results)]
        assert results["bonferroni_divisor"] == len(found)
        degree = conclude(results | {"validity": [], "alpha": alpha})["degree"]
        assert (degree != "no leak detected") == any(found)
        alarms += any(found)
        accuracies.append(results["strongest"]["accuracy"]["value"])
    return alarms / audits, np.array(accuracies)


@pytest.mark.parametrize(("members", "nonmembers"), [(100, 100), (300, 60)])
@pytest.mark.parametrize("with_shadow", [False, True])
def test_a_verdict_calls_a_model_that_leaks_nothing_leaky_no_more_often_than_alpha(
    members, nonmembers, with_shadow, monkeypatch
):
    """All that the verdict weighs counts: every attack, every class, every bound on epsilon. And the accuracy of the
    strongest attack is that of a guess: choosing it on the records that it is measured on would raise it."""
    alpha, audits = 0.2, 150
    share, accuracies = null_audits(monkeypatch, members, nonmembers, audits, alpha, 41, with_shadow)
    assert share <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / audits)
    assert abs(accuracies.mean() - 0.5) < 4 * accuracies.std() / math.sqrt(audits)


# --- validity --------------------------------------------------------------------------------------------------------


def checks(target, shadow=None):
    return {check["name"]: check for check in audit(target, shadow)[0]["validity"]}


@pytest.mark.usefixtures("no_network")
def test_nothing_is_wrong_with_good_predictions():
    found = checks(predictions(50, 100, 100))
    expected = ["duplicates", "labels", "classes", "fitting", "logits", "accuracy", "guessing", "attack network"]
    assert list(found) == expected
    assert {check["outcome"] for check in found.values()} == {"passed"}
    assert "cross-fitting" in found["fitting"]["found"]
    shadow = checks(predictions(50, 100, 100), predictions(51, 33, 44))["fitting"]["found"]
    assert all(word in shadow for word in ("shadow", "33", "44"))


@pytest.mark.usefixtures("no_network")
def test_a_record_on_both_sides_makes_the_audit_void():
    P = predictions(52, 100, 100)
    inside, outside = np.flatnonzero(P.member), np.flatnonzero(~P.member)
    p, y = P.p.copy(), P.y.copy()
    rows = sorted([inside[3], outside[7], inside[50], outside[60]])
    for i, j in ((inside[3], outside[7]), (inside[50], outside[60])):
        p[j], y[j] = p[i], y[i]
    found = checks(Predictions(p, y, P.member))["duplicates"]
    assert found["outcome"] == "void"
    assert "4 records" in found["found"]
    assert f"rows {', '.join(map(str, rows))};" in found["found"]

    y[outside[7]], y[outside[60]] = (y[outside[7]] + 1) % 4, (y[outside[60]] + 1) % 4  # of other labels: other records
    assert checks(Predictions(p, y, P.member))["duplicates"]["outcome"] == "passed"
    p[inside[0]], y[inside[0]] = p[inside[1]], y[inside[1]]  # twice among the members, one of a hundred
    found = checks(Predictions(p, y, P.member))["duplicates"]
    assert found["outcome"] == "warning"
    assert (
        f"1 records are copies of others on their side (equal predictions and labels): rows {inside[1]};"
        in (found["found"])
    )


@pytest.mark.parametrize("side", [True, False])
@pytest.mark.parametrize("logits", [True, False])
def test_records_that_are_there_several_times_on_one_side_make_the_audit_void(side, logits):
    """Copies are not independent: 25 records that are there four times are no hundred."""
    P = predictions(59, 100, 100)
    rows = np.flatnonzero(P.member == side)
    index = np.arange(200)
    index[rows] = np.repeat(rows[:25], 4)
    of = Predictions(P.p, P.y, P.member, logits=np.log(P.p) if logits else None).rows(index)
    found = validity.duplicates(of)
    assert found.outcome == "void"
    assert found.found.startswith("75 records are copies of others on their side")


@pytest.mark.usefixtures("no_network")
def test_predictions_that_many_records_share_are_no_duplicates():
    """Exactly one-hot ones, as of an overfitted network."""
    P = predictions(53, 100, 100)
    assert checks(Predictions(np.eye(4)[P.y], P.y, P.member))["duplicates"]["outcome"] == "passed"


@pytest.mark.usefixtures("no_network")
def test_many_duplicates_are_named_in_part():
    P = predictions(54, 50, 50)
    order = np.argsort(~P.member, kind="stable")  # members first, then the same records again
    half = order[:50]
    twice = Predictions(np.tile(P.p[half], (2, 1)), np.tile(P.y[half], 2), np.arange(100) < 50)
    found = checks(twice)["duplicates"]["found"]
    assert "100 records" in found
    assert "rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 90 more" in found


@pytest.mark.usefixtures("no_network")
def test_labels_of_another_distribution_are_warned_of():
    P = predictions(55, 100, 100)
    y = np.where(P.member & (np.random.default_rng(0).random(200) < 0.5), 0, P.y)
    found = checks(Predictions(P.p, y, P.member))["labels"]
    assert found["outcome"] == "warning"
    assert "p = 0.0001" in found["found"]


@pytest.mark.usefixtures("no_network")
def test_classes_without_records_are_warned_of():
    P = predictions(56, 100, 100, classes=6)
    y = np.where(np.isin(P.y, (1, 4)), 0, P.y)
    found = checks(Predictions(P.p, y, P.member))["classes"]
    assert found["outcome"] == "warning"
    assert "2 of 6 classes have no record: 1, 4" in found["found"]


@pytest.mark.usefixtures("no_network")
def test_members_that_do_worse_are_warned_of():
    P = predictions(57, 100, 100, leak=0.8)
    assert checks(P)["accuracy"]["outcome"] == "passed"
    found = checks(Predictions(P.p, P.y, ~P.member))["accuracy"]
    assert found["outcome"] == "warning"
    assert "the wrong way round" in found["found"]


@pytest.mark.usefixtures("no_network")
def test_swapped_sides_are_seen_where_the_gap_is_small():
    """100% against 93%, of 200 each: the chance that so few right answers fall to the members is 5e-5."""
    rng, member = np.random.default_rng(2), np.arange(400) < 200
    y = rng.integers(0, 4, 400)
    said = np.where((np.arange(400) >= 14) | ~member, y, (y + 1) % 4)  # 14 members are wrong
    P = Predictions(0.7 * np.eye(4)[said] + 0.3 * rng.dirichlet(np.ones(4), 400), y, member)
    assert stats.fisher_exact([[186, 14], [200, 0]], alternative="less").pvalue < 1e-3
    assert validity.accuracy_gap(P).outcome == "warning"
    assert validity.accuracy_gap(Predictions(P.p, y, ~member)).outcome == "passed"
    few = np.r_[10:14, 14:210, 200:400]  # 4 wrong of 200: p > 0.05
    assert validity.accuracy_gap(Predictions(P.p[few], y[few], member[few])).outcome == "passed"


def test_labels_in_another_order_are_warned_of():
    rng, n = np.random.default_rng(3), 400
    y = rng.choice(4, n, p=[0.4, 0.3, 0.2, 0.1])
    P = Predictions(0.5 * np.eye(4)[y] + 0.5 * rng.dirichlet(np.ones(4), n), y, np.arange(n) < 200)
    assert validity.guessing(P).outcome == "passed"
    shuffled = validity.guessing(Predictions(P.p, rng.permutation(y), P.member))
    assert shuffled.outcome == "warning"
    assert "the labels are in another order" in shuffled.found
    one = Predictions(np.tile([0.4, 0.3, 0.2, 0.1], (n, 1)), y, P.member)  # names the most frequent class, always
    share = f"{100 * np.mean(y[:200] == 0):.1f}%"
    assert validity.guessing(one).outcome == "warning"
    assert validity.guessing(one).found.startswith(
        f"{share} of the members right, {share} by always predicting one class"
    )


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_probabilities_called_logits_are_warned_of(suffix, tmp_path):
    P, shadow = predictions(50, 30, 30), predictions(51, 30, 30)
    contents = arrays(P, shadow)
    wrong = {f"{of}_logits": contents.pop(f"{of}_probs") for of in ("target", "shadow")}
    found = validity.logits(*read_predictions(save(tmp_path / f"a{suffix}", contents | wrong)))
    assert found.outcome == "warning"
    assert "target_logits and shadow_logits" in found.found
    right = {name: np.log(values) for name, values in wrong.items()}
    assert validity.logits(*read_predictions(save(tmp_path / f"b{suffix}", contents | right))).outcome == "passed"
    only = right | {"shadow_logits": wrong["shadow_logits"]}
    assert (
        "of shadow_logits is"
        in validity.logits(*read_predictions(save(tmp_path / f"c{suffix}", contents | only))).found
    )
    assert validity.logits(*read_predictions(save(tmp_path / f"d{suffix}", arrays(P)))).outcome == "passed"
    shifted = wrong | {"target_logits": wrong["target_logits"] * 1.05, "shadow_logits": wrong["shadow_logits"] - 0.25}
    assert validity.logits(*read_predictions(save(tmp_path / f"e{suffix}", contents | shifted))).outcome == "passed"


def test_an_attack_network_of_one_answer_is_warned_of(monkeypatch):
    """Also where the networks of the two halves have each an answer of their own."""
    P, half = predictions(58, 60, 60), np.arange(120) < 60

    def outcome_of(z):
        monkeypatch.setattr(
            prediction_attacks, "_network_scores", lambda target, parts, *_: network_scores(z, target, parts)
        )
        parts = [
            Fold(Predictions(P.p[~rows], P.y[~rows], P.member[~rows]), np.flatnonzero(rows)) for rows in (half, ~half)
        ]
        return validity.one_answer(run_attacks(P, parts, 0, 1)).outcome

    assert outcome_of(np.ones(120)) == "warning"
    assert outcome_of(np.where(half, -1.0, 2.0)) == "warning"
    some = np.ones(120)
    some[7] = -1
    assert outcome_of(some) == "passed"


# --- results ---------------------------------------------------------------------------------------------------------


def extreme(kind):
    P = predictions(60, 20, 20)
    if kind == "separated":
        p = np.where(P.member[:, None], np.eye(4)[P.y], np.eye(4)[(P.y + 1) % 4])
    elif kind == "inverted":
        p = np.where(P.member[:, None], np.eye(4)[(P.y + 1) % 4], np.eye(4)[P.y])
    elif kind == "all alike":
        p = np.full((40, 4), 0.25)
    else:
        p = np.eye(4)[P.y]
    return Predictions(p, P.y, P.member)


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("with_shadow", [False, True])
@pytest.mark.parametrize("kind", ["separated", "inverted", "all alike", "all right"])
def test_extreme_predictions_give_plain_finite_results(kind, with_shadow, tmp_path):
    target = extreme(kind)
    results, _ = audit(target, target if with_shadow else None)
    write_audit(results, tmp_path / "audit.json")
    assert json.loads((tmp_path / "audit.json").read_text()) == results
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]
    expected = {"separated": 1.0, "inverted": 0.0, "all alike": 0.5, "all right": 0.5}[kind]
    for name in ("confidence", "modified_entropy", "loss"):
        auc = results["attacks"][name]["auc"]
        assert auc["value"] == expected
        assert auc["low"] <= expected <= auc["high"]
        assert auc["high"] - auc["low"] > 0.1  # 20 and 20 records do not make certain
        q = (0.05 / results["bonferroni_divisor"] / 6 / 4) ** (
            1 / 20
        )  # 20 of 20 right; six bounds, 20 and 10 guesses on two sides
        bound = math.log(q / (1 - q)) if kind == "separated" else 0
        assert results["attacks"][name]["epsilon_lower_bound"] == pytest.approx(bound)


def test_results_that_are_no_numbers_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_audit({"auc": math.nan}, tmp_path / "audit.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("alpha", [0, 1, -0.5, 2, math.nan])
def test_an_invalid_alpha_is_refused(alpha):
    with pytest.raises(ArgumentError, match=f"^alpha must lie between 0 and 1, got {alpha}$"):
        audit(predictions(61), alpha=alpha)


# --- the command -----------------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner(env={"COLUMNS": "200"}).invoke(cli.main, ["audit", *map(str, arguments)])


INTERVAL = {"value", "low", "high"}


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("suffix", [".npz", ".h5", ".csv"])
def test_the_command_writes_what_it_promises(suffix, tmp_path):
    path, out, page = (tmp_path / name for name in (f"scores{suffix}", "out/audit.json", "out/audit.html"))
    target, shadow = predictions(70, 60, 110), None if suffix == ".csv" else predictions(71)
    save(path, arrays(target, shadow))
    result = run(path, "--json", out, "--report", page, "--alpha", 0.1, "--seed", 4, "--threads", 1)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    results = json.loads(out.read_text())
    assert "evaluation mode" in page.read_text()
    promised = {"members", "nonmembers", "train_accuracy", "test_accuracy", "attacks", "refused"}
    assert promised <= set(results)
    assert (results["members"], results["nonmembers"], results["alpha"]) == (60, 110, 0.1)
    assert set(results["attacks"]) == {"correctness", "confidence", "entropy", "modified_entropy", "loss", "network"}
    for name, entry in results["attacks"].items():
        assert set(entry) == {
            "accuracy", "accuracy_per_class_threshold", "auc", "tpr_at_fpr", "epsilon_lower_bound",
            "epsilon_with_delta",
        }  # fmt: skip
        assert set(entry["accuracy"]) == set(entry["auc"]) == INTERVAL
        per_class = entry["accuracy_per_class_threshold"]
        assert per_class is None if name in ("correctness", "network") else set(per_class) == INTERVAL
        assert set(entry["tpr_at_fpr"]) == {"0.01", "0.001"}
        assert set(entry["tpr_at_fpr"]["0.01"]) == INTERVAL
        assert entry["tpr_at_fpr"]["0.001"] is None
        assert isinstance(entry["epsilon_lower_bound"], float)
        assert name.replace("_", " ") in result.stdout
    assert len(results["refused"]) == 1

    direct = audit(*read_predictions(path), alpha=0.1, seed=4)[0]
    for of in (results, direct):
        del of["seconds"]
    assert {key: results[key] for key in direct} == direct
    assert results["source"]["name"] == path.name
    assert str(tmp_path) not in out.read_text() + page.read_text()  # nothing of this machine
    assert page.stat().st_size > 1000
    assert {p.name for p in out.parent.iterdir()} == {"audit.json", "audit.html"}


@pytest.mark.usefixtures("few_epochs")
def test_the_command_needs_no_files_to_write(tmp_path):
    path = save(tmp_path / "scores.npz", arrays(predictions(72)))
    result = run(path, "--threads", 2)
    assert result.exit_code == 0, result.output
    assert "modified entropy" in result.stdout
    assert result.stderr == ""
    assert [p.name for p in tmp_path.iterdir()] == ["scores.npz"]


BAD_COMMANDS = {
    "no file": ([], "SCORES"),
    "a file that is not there": (["nowhere.npz"], "nowhere.npz"),
    "a suffix": (["scores.pkl"], "scores.pkl"),
    "a damaged file": (["damaged.npz"], "damaged.npz"),
    "a bad array": (["bad.npz"], "bad.npz: target_probs row 0"),
    "objects": (["objects.npz"], "never unpickled"),
    "terabytes": (["terabytes.h5"], "terabytes.h5"),
    "only a header": (["header.csv"], "header.csv"),
    "alpha of 0": (["scores.npz", "--alpha", "0"], "is not in the range 0<x<1"),
    "alpha of 1": (["scores.npz", "--alpha", "1"], "is not in the range 0<x<1"),
    "alpha of 95": (["scores.npz", "--alpha", "95"], "is not in the range 0<x<1"),
    "negative alpha": (["scores.npz", "--alpha=-0.05"], "is not in the range 0<x<1"),
    "alpha is NaN": (["scores.npz", "--alpha", "nan"], "alpha must lie between 0 and 1, got nan"),
    "alpha is a word": (["scores.npz", "--alpha", "some"], "some"),
    "negative seed": (["scores.npz", "--seed=-1"], "seed"),
    "no threads": (["scores.npz", "--threads", "0"], "threads"),
    "a folder as the file": (["scores.npz", "--json", "."], "is a folder"),
    "a file as the folder": (["scores.npz", "--report", "scores.npz/audit.html"], "scores.npz"),
}


@pytest.fixture
def bad_files(tmp_path, monkeypatch):
    """A folder with a good file and bad ones, where the test then works."""
    monkeypatch.chdir(tmp_path)
    good = arrays(predictions(73))
    whole = save(tmp_path / "scores.npz", good).read_bytes()
    save(tmp_path / "scores.pkl", whole)
    save(tmp_path / "damaged.npz", whole[:-40])
    save(tmp_path / "bad.npz", good | {"target_probs": 2 * good["target_probs"]})
    save(tmp_path / "objects.npz", good | {"target_labels": np.array([None] * 40)})
    save(tmp_path / "header.csv", "label,member,p0,p1\n")
    with h5py.File(save(tmp_path / "terabytes.h5", good), "a") as file:
        del file["target_probs"]
        file.create_dataset("target_probs", (10**12, 4), "f8", chunks=(1000, 4))
    return tmp_path


@pytest.mark.parametrize("case", BAD_COMMANDS)
def test_a_bad_command_gets_one_line_and_status_2(case, bad_files):
    arguments, named = BAD_COMMANDS[case]
    before = {path.name for path in bad_files.iterdir()}
    outputs = ["--json", "a.json", "--report", "a.html"]
    outputs = outputs if arguments and not {"--json", "--report"} & set(arguments) else []
    result = run(*arguments, *outputs)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert {path.name for path in bad_files.iterdir()} == before  # nothing half-written


def test_a_result_is_not_written_over_the_predictions_or_another_result(tmp_path):
    path = tmp_path / "scores.npz"
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), 40)
    np.savez(path, target_probs=p, target_labels=rng.integers(0, 3, 40), target_member=np.arange(40) < 20)
    before = path.read_bytes()
    for outputs in (["--json", path], ["--report", path], ["--json", tmp_path / "a", "--report", tmp_path / "a"]):
        result = CliRunner().invoke(cli.main, ["audit", str(path), *map(str, outputs)])
        assert result.exit_code == 2
        assert "is named twice" in result.output
    assert path.read_bytes() == before
    assert not (tmp_path / "a").exists()


def test_coarse_outputs_are_a_warning_and_the_same_record_twice_is_void():
    rng = np.random.default_rng(1)
    p, y = rng.dirichlet(np.ones(3), 400), rng.integers(0, 3, 400)
    member = np.arange(400) < 200
    coarse = np.round(p, 1)
    assert validity.duplicates(Predictions(coarse, y, member)).outcome == "warning"
    assert validity.duplicates(Predictions(p, y, member)).outcome == "passed"
    p[399], y[399] = p[0], y[0]
    check = validity.duplicates(Predictions(p, y, member))
    assert check.outcome == "void"
    assert "0, 399" in check.found


def test_a_shadow_that_is_the_target_is_refused(tmp_path):
    target = predictions(37, 20, 20)
    arrays = {"probs": target.p, "labels": target.y, "member": target.member}
    np.savez(tmp_path / "s.npz", **{f"{of}_{name}": a for of in ("target", "shadow") for name, a in arrays.items()})
    with pytest.raises(DataError, match="the shadow is the target itself"):
        read_predictions(tmp_path / "s.npz")


def test_the_strongest_attack_is_the_one_that_is_best_on_the_attackers_records():
    """Each half of the records by the attack that the other half's records rank first."""
    rng, rows = np.random.default_rng(4), [np.arange(0, 100, 2), np.arange(1, 100, 2)]
    said = {name: rng.random(100) < 0.5 for name in ("a", "b", "c", "not a candidate")}
    own = {"a": [[0.6, 0.5], [0.5, 0.55]], "b": [[0.55, 0.7], [0.6, 0.5]], "c": [[0.1, 0.1], [0.1, 0.1]]}
    of = {
        name: prediction_attacks.Attacked(
            rng.normal(size=100), what, ~what, [np.arange(100)], np.array(own.get(name, 0))
        )
        for name, what in said.items()
    }
    of["not a candidate"] = dataclasses.replace(of["not a candidate"], own=None)
    chosen = choose(of, rows)
    assert chosen.rules == [("b", True), ("b", False)]
    assert chosen.candidates == 6
    np.testing.assert_array_equal(chosen.said[rows[0]], ~said["b"][rows[0]])
    np.testing.assert_array_equal(chosen.said[rows[1]], said["b"][rows[1]])
    np.testing.assert_array_equal(chosen.scores, of["b"].scores)  # one attack: its own scores

    of["a"] = dataclasses.replace(of["a"], own=np.array([[0.9, 0.5], [0.5, 0.55]]))
    chosen = choose(of, rows)
    assert chosen.rules == [("a", False), ("b", False)]
    for half, name in zip(rows, "ab", strict=True):  # two attacks: ranks, which are comparable
        order = of[name].scores[half].argsort().argsort()
        np.testing.assert_allclose(chosen.scores[half], (order + 1) / 51)
    equal = {name: dataclasses.replace(attack, own=np.full((2, 2), 0.5)) for name, attack in of.items()}
    assert choose(equal, rows).rules == [("a", False)] * 2


# --- log space -------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 3.0]))
@settings(deadline=None, max_examples=60, derandomize=True)
def test_scores_in_log_space_order_as_those_of_the_paper(seed, size):
    """As the scores from probabilities, wherever those differ by more than rounding."""
    rng = np.random.default_rng(seed)
    z, y = size * rng.normal(size=(40, 4)), rng.integers(0, 4, 40)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    for name in ("correctness", "confidence", "entropy", "modified_entropy"):
        theirs = getattr(scores, name)(p, y)
        for ours in (SCORES[name](log_odds(p), y), SCORES[name](log_odds(p, z), y)):
            later = theirs[:, None] > theirs + 1e-9 * np.abs(theirs).max()
            assert (ours[:, None] > ours)[later].all(), name


@pytest.mark.parametrize("scale", [1, 30, 1000, 1e100])
def test_margins_whose_probabilities_round_to_1_still_order_records(scale):
    """Members have the larger margins; from a margin of 37 on p is 1 in floating point."""
    n = 100
    margins = scale * (40 + np.arange(2 * n) / 10.0)
    y = np.arange(2 * n) % 3
    z = np.where(np.arange(3) == y[:, None], margins[:, None], 0.0)
    P = Predictions(softmax(z, axis=1), y, np.arange(2 * n) >= n, logits=z)
    assert (P.p[np.arange(2 * n), y] == 1).all()
    for name in ("confidence", "loss", "entropy", "modified_entropy"):
        found = SCORES[name](P.log_odds, P.y)
        assert (np.diff(found) > 0).all(), name
        assert np.isfinite(found).all()


@pytest.mark.parametrize("n", [1, 6, 7, 20])
def test_scores_are_those_of_single_records(n, monkeypatch):
    """They are computed for a block of records after another."""
    rng = np.random.default_rng(n)
    z, y = 30 * rng.standard_normal((n, 5)), rng.integers(0, 5, n)
    rows = [slice(i, i + 1) for i in range(n)]
    singly = [(log_odds(softmax(z[i], axis=1)), log_odds(softmax(z[i], axis=1), z[i])) for i in rows]
    monkeypatch.setattr("nanoprune.lab.audit.log_space.BLOCK", 15)  # three records
    p = softmax(z, axis=1)
    for found, expected in zip((log_odds(p), log_odds(p, z)), zip(*singly, strict=True), strict=True):
        np.testing.assert_array_equal(found, np.concatenate(expected))
        for score in SCORES.values():
            of_each = [score(of, y[i]) for of, i in zip(expected, rows, strict=True)]
            np.testing.assert_allclose(score(found, y), np.concatenate(of_each), rtol=1e-14)


def test_the_attack_network_is_given_up_after_its_patience_in_steps():
    """Its checks are so far apart that the least number of them covers the steps, and no further."""
    assert 0 <= prediction_attacks.CHECK * network.MIN_PATIENCE - network.PATIENCE < network.MIN_PATIENCE


@pytest.mark.usefixtures("few_epochs")
@pytest.mark.parametrize("given_logits", [True, False])
@pytest.mark.parametrize("with_shadow", [True, False])
def test_loss_and_confidence_are_one_attack(given_logits, with_shadow, tmp_path):
    """log p orders as p does, and equal orders must give equal accuracies; a threshold at p near 1 is no coarser."""
    rng, n = np.random.default_rng(12), 200
    contents = {}
    for of in ("target", "shadow") if with_shadow else ("target",):
        y, member = rng.integers(0, 4, n), np.arange(n) % 2 == 0
        z = rng.normal(size=(n, 4)) + np.eye(4)[y] * (18 + 4 * rng.random((n, 1)) + 3 * member[:, None])
        values = z if given_logits else softmax(z, axis=1)
        contents |= {f"{of}_{'logits' if given_logits else 'probs'}": values}
        contents |= {f"{of}_labels": y, f"{of}_member": member}
    results, _ = audit(*read_predictions(save(tmp_path / "scores.npz", contents)))
    loss, confidence = (dict(results["attacks"][name]) for name in ("loss", "confidence"))
    assert loss == confidence
    assert confidence["accuracy"]["value"] > 0.7


def test_log_odds_of_extreme_logits_and_probabilities_are_finite():
    z = np.array([[1e308, -1e308, 0.0], [0.0, 0.0, 0.0], [-1e308, 800.0, 799.0], [5.0, 5.0, -1e300]])
    for phi in (log_odds(np.empty(z.shape), z), log_odds(np.eye(3)), log_odds(np.full((3, 3), 1 / 3))):
        assert np.isfinite(phi).all()
        for score in SCORES.values():
            assert np.isfinite(score(phi, np.zeros(len(phi), int))).all()
    np.testing.assert_allclose(log_odds(np.empty(z.shape), z)[1], -math.log(2))
    assert log_odds(np.empty(z.shape), z)[2, 1] == pytest.approx(1.0)


def test_bounds_on_epsilon_need_members_that_chance_drew(monkeypatch, tmp_path):
    monkeypatch.setattr(
        prediction_attacks, "_network_scores", lambda target, parts, *_: network_scores(noise, target, parts)
    )
    noise = np.random.default_rng(0).normal(size=400)
    target = predictions(70, 200, 200, leak=0.9)
    drawn, fixed = (audit(target, random_split=of)[0] for of in (True, False))
    assert drawn["attacks"]["confidence"]["epsilon_lower_bound"] > 0
    assert {entry["epsilon_lower_bound"] for entry in fixed["attacks"].values()} == {None}
    assert {entry["epsilon_with_delta"] for entry in fixed["attacks"].values()} == {None}
    assert (drawn["bonferroni_divisor"], fixed["bonferroni_divisor"]) == (4, 3)
    assert any("not drawn at random" in reason for reason in fixed["refused"])
    assert any("take the number of members as public" in " ".join(note.split()) for note in drawn["notes"])
    write_audit(fixed, tmp_path / "a.json")
    path = save(tmp_path / "scores.npz", arrays(target))
    result = run(path, "--split", "fixed")
    assert result.exit_code == 0, result.output
    assert "membership was not drawn at random" in " ".join(result.stdout.split())


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_a_delta_that_is_none_is_refused(delta):
    with pytest.raises(ArgumentError, match=f"^delta must lie between 0 and 1, got {delta}$"):
        audit(predictions(61), delta=delta)


def test_where_the_networks_training_was_bounded_is_said():
    """Records that a network separates: its loss falls until nothing is left to gain, and the notes say so."""
    rng, n = np.random.default_rng(0), 160
    member, y = np.arange(n) % 2 == 0, rng.integers(0, 4, n)
    p = np.where(member[:, None], 0.9 * np.eye(4)[y] + 0.025, 0.25) + 1e-3 * rng.random((n, 4))
    results, _ = audit(Predictions(p / p.sum(axis=1, keepdims=True), y, member))
    assert any("held-out loss fell below 0.001" in note for note in results["notes"])


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 5), st.integers(1, 7))
def test_parts_of_epochs_are_epochs(seed, records, batch, most):
    """Joined, as many parts as make an epoch have every record once, in the order of `shuffled`, and none is long."""
    whole = list(shuffled(np.arange(records)[None], batch, [np.random.default_rng(seed)]))
    order, generators = prediction_attacks.PartsOfEpochs(most), [np.random.default_rng(seed)]
    parts = []
    while sum(map(len, parts)) < len(whole):
        parts.append(order(np.arange(records)[None], batch, generators))
    assert len(parts) == math.ceil(len(whole) / most)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    np.testing.assert_array_equal(
        np.concatenate([b for part in parts for b in part], axis=1), np.concatenate(whole, axis=1)
    )

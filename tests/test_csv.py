"""Predictions in .csv as people have them: accepted, or refused with what to do, in bounded memory."""

import gzip
import os
import resource
import subprocess
import sys

import numpy as np
import pytest

from nanoprune.errors import DataError
from nanoprune.lab.audit import read_predictions

N = 24
Y = np.arange(N) % 3
MEMBER = np.arange(N) % 2 == 0
P = np.random.default_rng(0).dirichlet(np.ones(3), N)
Z = np.log(P)


def write(path, columns):
    """Named columns of text or numbers."""
    lines = [",".join(columns)]
    lines += [",".join(str(value) for value in row) for row in zip(*columns.values(), strict=True)]
    text = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def plain(**changes):
    return {"label": Y, "member": MEMBER.astype(int), "p0": P[:, 0], "p1": P[:, 1], "p2": P[:, 2]} | changes


def logits(form):
    return {"label": Y, "member": MEMBER.astype(int)} | {form.format(c): Z[:, c] + 5 for c in range(3)}


def words(yes, no):
    return np.where(MEMBER, yes, no)


ACCEPTED = {
    "an index without a name": {"": np.arange(N)} | plain(),
    "the index of a data frame": {"Unnamed: 0": np.arange(N)} | plain(),
    "True and False": plain(member=words("True", "False")),
    "yes and no": plain(member=words("yes", "No")),
    "1.0 and 0.0": plain(member=words("1.0", "0.0")),
    "labels as floats": plain(label=Y.astype(float)),
    "another order": dict(reversed(plain().items())),
    "capital letters": {name.upper(): values for name, values in plain().items()},
    "names of other tools": {"y": Y, "is_member": words("true", "false")} | {f"prob_{c}": P[:, c] for c in range(3)},
    "more columns": plain() | {"age": np.arange(N), "name": np.array(['"Smith, J."'] * N), "pvalue": np.ones(N)},
    "columns twice that are not needed": {"": np.arange(N)} | plain(),
    "logits": logits("z{}"),
    "logits of PyTorch": logits("logit_{}"),
}


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_what_people_have_is_read(case, suffix, tmp_path):
    target, shadow = read_predictions(write(tmp_path / f"scores{suffix}", ACCEPTED[case]))
    assert shadow is None
    np.testing.assert_allclose(target.p, P, rtol=1e-9)
    np.testing.assert_array_equal(target.y, Y)
    np.testing.assert_array_equal(target.member, MEMBER)
    assert (target.logits is not None) == case.startswith("logits")


def test_three_decimals_are_enough(tmp_path):
    rounded = {f"p{c}": [f"{value:.3f}" for value in P[:, c]] for c in range(3)}
    target, _ = read_predictions(write(tmp_path / "a.csv", plain(**rounded)))
    np.testing.assert_allclose(target.p, P, atol=1e-3)


@pytest.mark.parametrize("form", [("p1", ".csv"), ("p", ".csv"), ("z1", ".csv"), ("column", ".npz"), ("flat", ".npz")])
@pytest.mark.parametrize("kind", ["probs", "logits"])
def test_one_sigmoid_is_the_probability_of_class_1(form, kind, tmp_path):
    name, suffix = form
    y, s = Y % 2, P[:, 0]
    path = tmp_path / f"scores{suffix}"
    if suffix == ".csv":
        kind = "logits" if name == "z1" else "probs"
        write(path, {"label": y, "member": MEMBER.astype(int), name: np.log(s / (1 - s)) if name == "z1" else s})
    else:
        values = np.log(s / (1 - s)) if kind == "logits" else s
        values = values[:, None] if name == "column" else values
        np.savez(path, **{f"target_{kind}": values}, target_labels=y[:, None], target_member=MEMBER[:, None])
    target, _ = read_predictions(path)
    np.testing.assert_allclose(target.p, np.stack([1 - s, s], axis=1), rtol=1e-9)
    np.testing.assert_array_equal(target.y, y)
    np.testing.assert_array_equal(target.member, MEMBER)


def test_more_values_than_a_part_are_read_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.audit.csv_file.PART", 20)
    target, _ = read_predictions(write(tmp_path / "a.csv", plain()))
    np.testing.assert_allclose(target.p, P, rtol=1e-12)
    path = write(tmp_path / "b.csv", plain(p1=[*P[:-1, 1], "x"]))
    with pytest.raises(DataError, match=f"b.csv: row {N - 1}, p1: 'x' is no number"):
        read_predictions(path)


LIMITED = """
import resource, sys
from nanoprune.errors import DataError
from nanoprune.lab.audit import read_predictions
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
try:
    read_predictions(sys.argv[1])
except DataError as error:
    print(error)
"""


def in_little_memory(path):
    """What a process says that reads `path`, and its peak memory in MB."""
    env = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=100, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_link_to_a_device_without_an_end_is_refused(tmp_path):
    path = tmp_path / "scores.csv"
    path.symlink_to("/dev/zero")
    assert "it is not a regular file" in in_little_memory(path)


def test_a_line_without_an_end_is_refused(tmp_path):
    line = tmp_path / "line.csv"
    with open(line, "wb") as file:
        file.truncate(1 << 31)  # zeros that take no place on the disk
    assert "a line is longer than" in in_little_memory(line)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2_000_000  # kB on Linux


def test_an_archive_that_unpacks_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.storage.bounded.FREE", 1 << 20)
    path = tmp_path / "scores.csv.gz"
    path.write_bytes(gzip.compress(b"label,member,p0,p1\n" + b"0,1,.5,.5\n" * 500_000))
    stored = path.stat().st_size
    with pytest.raises(DataError, match=f"bytes of memory for {stored:,} bytes in the file; write it with fewer") as of:
        read_predictions(path)
    asked = int(str(of.value).split("declares ")[1].split(" ")[0].replace(",", ""))
    assert max(1 << 20, 100 * stored) < asked < max(1 << 20, 100 * stored) + (1 << 17)  # it is read no further


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", gzip.compress(b"label,member,p0,p1\n0,1,.5,.5\n", mtime=0)[:-6], b"none"]
)
def test_a_gz_that_is_none_is_refused(content, tmp_path):
    path = tmp_path / "scores.csv.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: "):
        read_predictions(path)

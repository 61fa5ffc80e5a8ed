"""The readers: what the real data sets hold, and that damaged files are refused in one line and nothing else."""

import gzip
import hashlib
import io
import pathlib
import shutil
import struct
import tarfile
import time

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import nanoprune
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import NAMES, Dataset, find_data_dir, load
from nanoprune.lab.data.archive import read_members
from nanoprune.lab.data.digits import load_digits
from nanoprune.lab.data.location30 import BITS, HEADS, MEMBER, UNPACKED_LIMIT, load_location30
from nanoprune.lab.data.mnist import load_mnist, parse_idx
from nanoprune.lab.data.records import parse_records
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.bounded import read_bounded

ROOT = pathlib.Path(__file__).parents[1]
DIGITS = ROOT / "data" / "digits.h5"


def idx(array: np.ndarray) -> bytes:
    """An IDX file, written from its description and apart from the reader."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def publish(folder: pathlib.Path, dataset: str, name: str, content: bytes) -> SourceFile:
    """Write `content` as a published file under `folder`, in gzip if the name says so."""
    (folder / dataset).mkdir(exist_ok=True)
    (folder / dataset / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return SourceFile(dataset, name, len(content), hashlib.sha256(content).hexdigest())


def publish_mnist(folder: pathlib.Path, arrays: list[np.ndarray]) -> list[SourceFile]:
    names = ("train-x.gz", "train-y.gz", "test-x.gz", "test-y.gz")
    return [publish(folder, "mnist", name, idx(array)) for name, array in zip(names, arrays, strict=True)]


def small_mnist() -> list[np.ndarray]:
    pixels = np.arange(5 * 4 * 3, dtype=np.uint8).reshape(5, 4, 3) * 4
    labels = np.array([3, 0, 9, 1, 4], dtype=np.uint8)
    return [pixels[:3], labels[:3], pixels[3:], labels[3:]]


def line(label: object, bits: np.ndarray) -> bytes:
    """A record of Location-30."""
    return f'"{label}",{",".join(map(str, bits))}\n'.encode()


def archive(content: bytes, *others: tuple[str, bytes], name: str = "bangkok", kind: bytes = tarfile.REGTYPE) -> bytes:
    """A .tgz with one member of that kind, and other plain ones."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for each, data in ((name, content), *others):
            member = tarfile.TarInfo(each)
            member.size, member.type = len(data), kind if each == name else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A member's header of 512 bytes that promises `size` bytes."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


def assert_sound(dataset: Dataset) -> None:
    """What every user of a data set relies on."""
    assert dataset.x.dtype == np.float32
    assert dataset.y.dtype == np.int64
    assert dataset.x.min() == 0
    assert dataset.x.max() == 1
    assert set(dataset.y.tolist()) == set(range(dataset.classes))
    assert len(dataset.sha256) == 64


# The real data


def test_digits_are_embedded(tmp_path):
    digits = load("digits", data_dir=tmp_path)  # an empty folder: digits need none
    assert_sound(digits)
    assert (digits.name, digits.x.shape, digits.classes, digits.train) == ("digits", (1797, 64), 10, 1797)
    assert np.bincount(digits.y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # scikit-learn's counts
    assert (digits.x[0, :8] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]  # the first row of the first zero
    assert digits.y[:10].tolist() == list(range(10))


def test_mnist(data_dir):
    if not (data_dir / "mnist").is_dir():
        pytest.skip(f"no MNIST in {data_dir}; python cli.py data fetch mnist")
    mnist = load("mnist", data_dir)
    assert_sound(mnist)
    assert (mnist.name, mnist.x.shape, mnist.classes, mnist.train) == ("mnist", (70000, 28, 1, 28), 10, 60000)
    known = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # LeCun's counts
    assert np.bincount(mnist.y[:60000]).tolist() == known
    assert np.bincount(mnist.y[60000:]).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert mnist.x[:60000].mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)  # the mean that everyone subtracts


def test_location30(data_dir):
    if not (data_dir / "location30").is_dir():
        pytest.skip(f"no Location-30 in {data_dir}; python cli.py data fetch location30")
    start = time.perf_counter()
    location = load("location30", data_dir)
    assert time.perf_counter() - start < 1
    assert_sound(location)
    assert (location.name, location.x.shape, location.classes, location.train) == ("location30", (5010, 446), 30, 5010)
    # the same file, read by the standard library alone
    with tarfile.open(data_dir / "location30" / "dataset_location.tgz") as tar:
        lines = tar.extractfile("bangkok").read().decode().splitlines()
    records = [[int(field.strip('"')) for field in text.split(",")] for text in lines[::100]]
    assert location.y[::100].tolist() == [record[0] - 1 for record in records]
    assert location.x[::100].tolist() == [record[1:] for record in records]


def test_a_damaged_copy_of_the_real_data_is_refused(data_dir, tmp_path):
    if not (data_dir / "location30").is_dir():
        pytest.skip(f"no Location-30 in {data_dir}; python cli.py data fetch location30")
    data = bytearray((data_dir / "location30" / "dataset_location.tgz").read_bytes())
    data[1000] ^= 1
    (tmp_path / "location30").mkdir()
    (tmp_path / "location30" / "dataset_location.tgz").write_bytes(data)
    with pytest.raises(DataError, match=r"dataset_location\.tgz.*SHA-256.*expected.*927203f8.*data fetch location30"):
        load("location30", tmp_path)


# Where they are looked for


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        load("mnist", tmp_path)
    assert str(caught.value) == (
        f"mnist: train-images-idx3-ubyte.gz not found in {tmp_path / 'mnist'}; run 'python cli.py data fetch mnist', "
        "or name the folder above with --data-dir or NANOPRUNE_DATA"
    )


def test_unknown_name_lists_the_names():
    assert (
        " ".join(NAMES)
        == "digits mnist location30 purchase100 texas100 cifar10 cifar100 imagenet diabetes130 thyroid pneumonia adult "
        "names agnews"
    )
    with pytest.raises(ArgumentError, match=r"digits, mnist, location30, .*agnews, or a file .*, got 'mnits'"):
        load("mnits")


def test_search_order(tmp_path, monkeypatch):
    monkeypatch.setenv("NANOPRUNE_DATA", str(tmp_path / "environment"))
    assert find_data_dir(tmp_path / "given") == tmp_path / "given"
    assert find_data_dir() == tmp_path / "environment"
    monkeypatch.delenv("NANOPRUNE_DATA")
    checkout = pathlib.Path(nanoprune.__file__).parents[1] == ROOT
    assert find_data_dir() == (ROOT / "data" if checkout else pathlib.Path("data"))


# Dataset


def test_dataset_scales_and_hashes_the_records():
    records, labels = np.array([[0, 51], [255, 102]], dtype=np.uint8), np.array([1, 0], dtype=np.uint8)
    dataset = Dataset.of("toy", records, labels, classes=2, scale=255)
    np.testing.assert_allclose(dataset.x, [[0, 0.2], [1, 0.4]], rtol=1e-6)
    assert dataset.y.tolist() == [1, 0]
    assert dataset.train == 2
    hashes = {
        dataset.sha256,
        Dataset.of("toy", records[::-1], labels, 2, 255).sha256,
        Dataset.of("toy", records, labels[::-1], 2, 255).sha256,
        Dataset.of("toy", records.reshape(2, 1, 1, 2), labels, 2, 255).sha256,
    }
    assert len(hashes) == 4
    assert Dataset.of("renamed", records, labels, 2, 255).sha256 == dataset.sha256
    with pytest.raises(ValueError, match="read-only"):
        dataset.x[0] = 0
    records[:] = 7  # the data set has its own copy
    assert dataset.x[0, 0] == 0


@pytest.mark.parametrize(
    ("records", "labels", "train", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 2]), None, "toy: labels from 0 to 2, expected 0 to 1"),
        (np.zeros((3, 2)), np.array([0, -1, 1]), None, "toy: labels from -1 to 1, expected 0 to 1"),
        (np.zeros((3, 2)), np.array([0.0, 1, 1]), None, "toy: labels are float64"),
        (np.zeros((3, 2)), np.array([0, 1]), None, "toy: 3 records but labels of shape"),
        (np.zeros((0, 2)), np.zeros(0, dtype=int), None, "toy: x has shape .0, 2."),
        (np.zeros(3), np.array([0, 1, 1]), None, "toy: x has shape"),
        (np.array([[0, np.nan]]), np.array([0]), None, "toy: features from nan to nan"),
        (np.array([[0, np.inf]]), np.array([0]), None, "toy: features from 0.0 to inf"),
        (np.array([[0, -np.inf]]), np.array([0]), None, "toy: features from -inf to 0.0"),
        (np.array([[0, 1.5]]), np.array([0]), None, "toy: features from 0.0 to 1.5"),
        (np.array([[0, -0.5]]), np.array([0]), None, "toy: features from -0.5 to 0.0"),
        (np.zeros((3, 2)), np.array([0, 1, 1]), 4, "toy: official training set of 4 records, expected 1 to 3"),
        (np.zeros((3, 2)), np.array([0, 1, 1]), 0, "toy: official training set of 0 records, expected 1 to 3"),
    ],
)
def test_dataset_refuses(records, labels, train, message):
    with pytest.raises(DataError, match=message) as caught:
        Dataset.of("toy", records, labels, classes=2, train=train)
    assert "\n" not in str(caught.value)


def test_dataset_made_by_hand_is_checked_too():
    with pytest.raises(DataError, match="x is float64"):
        Dataset("toy", np.zeros((1, 1)), np.zeros(1, dtype=np.int64), 1, 1, "")


# IDX


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)))
def test_idx_round_trip(array):
    np.testing.assert_array_equal(parse_idx(idx(array), "file"), array)


@given(st.data())
def test_mutated_idx_is_refused_or_read_as_it_says(data):
    content = bytearray(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)))
    for place in data.draw(st.lists(st.integers(0, 15), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, 40))]) + data.draw(st.binary(max_size=3))
    try:
        array = parse_idx(content, "file")
    except DataError:
        return
    assert idx(array) == content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"\0\0\x08", "starts with 00 00 08,"),
        (b"\0\0\x0d\1\0\0\0\1\0", "starts with 00 00 0d 01"),  # floats
        (b"\0\0\x08\0", "starts with 00 00 08 00"),  # no axes
        (b"\0\0\x08\5" + bytes(20), "starts with 00 00 08 05"),
        (b"\0\0\x08\2\0\0\0\1", "ends after 8 bytes, inside its IDX header of 12"),
        (b"\0\0\x08\1\0\0\0\0", r"0 bytes of elements, but its header says \(0,\)"),
        (b"\0\0\x08\1\0\0\0\2x", r"1 bytes of elements, but its header says \(2,\)"),
        (b"\0\0\x08\1\0\0\0\2xyz", r"3 bytes of elements, but its header says \(2,\)"),
        (b"\0\0\x08\4" + b"\xff" * 16 + b"x", r"1 bytes of elements, but its header says \(4294967295, "),
    ],
)
def test_idx_refuses(content, message):
    with pytest.raises(DataError, match=f"file: {message}"):
        parse_idx(content, "file")


# MNIST in small


def test_mnist_layout_and_order(tmp_path):
    arrays = small_mnist()
    dataset = load_mnist(tmp_path, publish_mnist(tmp_path, arrays))
    assert dataset.x.shape == (5, 4, 1, 3)  # (N, H, C, W)
    assert dataset.train == 3
    assert dataset.y.tolist() == [3, 0, 9, 1, 4]
    np.testing.assert_allclose(dataset.x[4, 2, 0, 1], arrays[2][1, 2, 1] / 255, rtol=1e-6)


def test_mnist_may_be_unpacked(tmp_path):
    files = publish_mnist(tmp_path, small_mnist())
    packed = load_mnist(tmp_path, files)
    for file in files:
        path = tmp_path / "mnist" / file.name
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert load_mnist(tmp_path, files).sha256 == packed.sha256


def test_mnist_files_that_do_not_fit_together_are_refused(tmp_path):
    train_x, train_y, test_x, test_y = small_mnist()
    for arrays, message in [
        ([train_x, train_y, test_x[:, :2], test_y], "images of one size"),
        ([train_y, train_x, test_x, test_y], "expected images, labels, images, labels"),
        ([train_x, train_y[:2], test_x, test_y], "5 records but labels of shape"),
        ([train_x, train_y + np.uint8(7), test_x, test_y], "labels from 1 to 16, expected 0 to 9"),
    ]:
        with pytest.raises(DataError, match=message):
            load_mnist(tmp_path, publish_mnist(tmp_path, arrays))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[:-9], "damaged gzip data"),
        (lambda packed: packed[:12] + b"\xff\xff" + packed[14:], "damaged gzip data"),
        (lambda packed: packed[:-8] + bytes(4) + packed[-4:], "damaged gzip data"),  # its CRC
        (lambda packed: packed + b"more", "damaged gzip data"),
        (lambda packed: b"", "0 bytes with SHA-256"),
        (lambda packed: gzip.compress(bytes(19)), "19 bytes with SHA-256"),
        (lambda packed: gzip.compress(bytes(10**6)), "unpacks to more than the 52 bytes expected"),
        (lambda packed: bytes(10**5), "longer than"),
    ],
)
def test_damaged_file_is_refused(tmp_path, damage, message):
    files = publish_mnist(tmp_path, small_mnist())
    path = tmp_path / "mnist" / files[0].name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"train-x\.gz: .*{message}.*; remove it and run 'python cli.py data fetch"):
        load_mnist(tmp_path, files)


def test_what_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_bounded(tmp_path, 10)  # a folder


# Location-30 in small


@given(
    st.lists(
        st.tuples(st.integers(1, 30), hnp.arrays(np.uint8, 446, elements=st.integers(0, 1))), min_size=1, max_size=4
    )
)
def test_location_round_trip(records):
    bits, labels = parse_records(b"".join(line(*record) for record in records), HEADS, BITS, "file")
    assert labels.dtype == np.int64
    assert labels.tolist() == [label - 1 for label, _ in records]
    np.testing.assert_array_equal(bits, [record for _, record in records])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda good: b"", "holds no lines"),
        (lambda good: b"\n", "line 1 is too short"),
        (lambda good: good[:-2], "line 1 does not end in 446"),  # cut off
        (lambda good: good[:-3], "line 1 does not end in 446"),
        (lambda good: good + b"\n", "line 2 is too short"),
        (lambda good: good + good[:500] + b"\n", "line 2 is too short"),
        (lambda good: good + good.replace(b'"7"', b'"0"'), "line 2 does not start with a label"),
        (lambda good: good + good.replace(b'"7"', b'"31"'), "line 2 does not start with a label"),
        (lambda good: good + good.replace(b'"7"', b'"07"'), "line 2 does not start with a label"),
        (lambda good: good + good.replace(b'"7"', b"7"), "line 2 does not start with a label"),
        (lambda good: good.replace(b'"7"', b'"7",0'), "line 1 does not start with a label"),  # 447 bits
        (lambda good: good + good[:-2] + b"2\n", "line 2 does not end in 446"),
        (lambda good: good + good[:-3] + b";0\n", "line 2 does not end in 446"),
        (lambda good: good.replace(b"\n", b"\r\n"), "line 1 does not end in 446"),
    ],
)
def test_location_refuses(make, message):
    with pytest.raises(DataError, match=f"file: .*{message}"):
        parse_records(make(line(7, np.zeros(446, dtype=int))), HEADS, BITS, "file")


def test_the_last_line_may_do_without_a_line_feed():
    content = line(7, np.arange(446) % 2) + line(30, np.ones(446, int))
    for whole, cut in zip(*(parse_records(text, HEADS, BITS, "file") for text in (content, content[:-1])), strict=True):
        np.testing.assert_array_equal(whole, cut)


def test_location_is_read_from_its_archive(tmp_path):
    content = b"".join(line(label, np.arange(446) % 3 % 2) for label in (30, 1))
    file = publish(tmp_path, "location30", "small.tgz", archive(content))
    dataset = load_location30(tmp_path, file)
    assert dataset.y.tolist() == [29, 0]
    assert dataset.x[:, :4].tolist() == [[0, 1, 0, 0]] * 2
    assert [path.name for path in (tmp_path / "location30").iterdir()] == ["small.tgz"]  # nothing unpacked to disk


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a readable tar|is not in it"),
        (archive(b"x")[:-20], "damaged gzip data"),
        (gzip.compress(b"not a tar file", mtime=0), "not a readable tar"),
        (archive(b"x", name="paris"), "bangkok is not in it"),
        (archive(b"", kind=tarfile.DIRTYPE), "bangkok is not a regular file"),
        (archive(b"", kind=tarfile.SYMTYPE), "bangkok is not a regular file"),
        (archive(bytes(6_000_000)), "said to have 6000000 bytes"),
        (archive(b"x", *[("other", bytes(6_000_000))]), "unpacks to more than"),
        (gzip.compress(header("bangkok", 1) + bytes(512 * 3) + bytes(2 << 20), mtime=0), "headers of more than"),
        (gzip.compress(header("x", 2 << 20, tarfile.XHDTYPE) + bytes(3 << 20)), "headers of more than"),
        (archive(b"x")[:-8] + bytes(4) + archive(b"x")[-4:], "damaged gzip data .CRC"),
        (archive(b"x", *[("bangkok", b"y")]), "bangkok twice"),
        (archive(b"x", *[(f"part{i}", b"") for i in range(64)]), "more than 64 files"),
        (gzip.compress(header("bangkok", 10**9)), "said to have 1000000000 bytes"),
        (gzip.compress(header("bangkok", 4_000_000) + bytes(512)), "unexpected end of data"),
        (gzip.compress(header("bangkok", -5)), "said to have -5 bytes|not a readable tar"),
        (gzip.compress(header("x", 10**10, tarfile.XHDTYPE) + header("bangkok", 1)), "not a readable tar"),
        (gzip.compress(header("bangkok", 512, tarfile.GNUTYPE_SPARSE) + bytes(512)), "not a regular file|readable"),
    ],
    ids=[
        *(
            "empty",
            "cut",
            "no tar",
            "another member",
            "a folder",
            "a link",
            "too large",
            "others too large",
            "a bomb behind",
            "a bomb of a header",
            "damaged",
            "twice",
            "many",
        ),
        *("a promise", "a cut promise", "negative", "a huge extended header", "sparse"),
    ],
)
def test_archive_refused(data, message):
    with pytest.raises(DataError, match=rf"file: .*({message})") as caught:
        read_members(data, {MEMBER: UNPACKED_LIMIT}, UNPACKED_LIMIT, "file")
    assert "\n" not in str(caught.value)


@given(st.data())
def test_a_mutated_archive_is_refused_or_read(data):
    content = bytearray(gzip.decompress(archive(b"content", ("other", b"x" * 600))))
    for place in data.draw(st.lists(st.integers(0, 2047), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):  # a header's checksum, made right again
        content[148:156] = b" " * 8
        content[148:156] = b"%06o\0 " % sum(content[:512])
    try:
        found = read_members(gzip.compress(bytes(content), 1), {MEMBER: 5000}, 1 << 16, "file")
    except DataError:
        return
    assert len(found[MEMBER]) <= 5000


# Digits


def test_damaged_digits_are_refused(tmp_path):
    good, path = DIGITS.read_bytes(), tmp_path / "digits.h5"
    for data in (b"", good[:20_000], b"x" + good[1:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match="not a readable HDF5 file") as caught:
            load_digits(path)
        assert "\n" not in str(caught.value)


def test_other_digits_are_refused(tmp_path):
    path = tmp_path / "digits.h5"
    shutil.copy(DIGITS, path)
    with h5py.File(path, "r+") as file:
        file["labels"][5] = 6
    with pytest.raises(DataError, match="its records have SHA-256"):
        load_digits(path)
    with h5py.File(path, "w") as file:
        file["images"], file["labels"] = np.zeros((3, 64)), np.zeros(3)
    with pytest.raises(DataError, match=r"holds .*float64.*\(3, 64\).*expected"):
        load_digits(path)


def test_missing_digits_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr("nanoprune.lab.data.digits.PLACES", (tmp_path / "digits.h5",))
    with pytest.raises(DataError, match=r"digits\.h5 is missing; restore data/digits\.h5 or reinstall nanoprune"):
        load("digits")


def test_digits_name_their_source_and_licence():
    with h5py.File(DIGITS) as file:
        assert file.attrs["licence"] == b"CC BY 4.0"
        assert b"https://doi.org/10.24432/C50P49" in file.attrs["citation"]
        assert b"archive.ics.uci.edu" in file.attrs["source"]

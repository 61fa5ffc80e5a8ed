"""CIFAR-10 and CIFAR-100 in the official binary form: small files, and the real ones where available."""

import dataclasses
import hashlib
import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.data import load
from nanoprune.lab.data.cifar import CIFAR10, CIFAR100, Cifar, load_cifar, parse_cifar

SMALL = {"cifar10": (CIFAR10, 10, 4), "cifar100": (CIFAR100, 6, 3)}  # the form, training and test records


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def small(name: str, damage: int = 0) -> tuple[Cifar, dict[str, bytes], np.ndarray, np.ndarray]:
    """A data set of few records in the form of `name`: its description, files, images (N, C, H, W) and labels (N,).

    The description's SHA-256 are those of the files before their `damage`.
    """
    of, train, test = SMALL[name]
    rng = np.random.default_rng(len(name))
    images = rng.integers(0, 256, (train + test, 3, 32, 32), dtype=np.uint8)
    labels = (np.arange(train + test) * 7 % of.classes).astype(np.uint8)
    records = []
    for image, label in zip(images, labels, strict=True):  # from the description at cs.toronto.edu/~kriz/cifar.html
        coarse = [19] if name == "cifar100" else []
        red, green, blue = image
        records.append(bytes([*coarse, label]) + red.tobytes() + green.tobytes() + blue.tobytes())
    *parts, last = of.files
    share = train // len(parts)
    files = {part: b"".join(records[i * share : (i + 1) * share]) for i, part in enumerate(parts)}
    files |= {last: b"".join(records[train:])}
    hashes = {part: sha256(content) for part, content in files.items()}
    copies = {sha256(labels.tobytes()): f"{of.title} (small copy)"} if damage == 1 else {}
    of = dataclasses.replace(of, files=hashes, train=train, test=test, copies=copies)
    if damage:
        files[last] = files[last][:-1] + bytes([files[last][-1] ^ 1])
        images[-1, -1, -1, -1] ^= 1
    return of, files, images, labels


def put(folder, of: Cifar, files: dict[str, bytes], inside: bool = True) -> None:
    place = folder / of.archive.dataset / (of.folder if inside else "")
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / name).write_bytes(content)


def archived(folder, of: Cifar, files: dict[str, bytes]) -> Cifar:
    """The files as an archive in the folder, whose hash the description then has."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in {"batches.meta.txt": b"names\n", **files}.items():
            member = tarfile.TarInfo(f"{of.folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = dataclasses.replace(of.archive, size=len(packed.getvalue()), sha256=sha256(packed.getvalue()))
    (folder / archive.dataset).mkdir(exist_ok=True)
    (folder / archive.dataset / archive.name).write_bytes(packed.getvalue())
    return dataclasses.replace(of, archive=archive)


def assert_holds(dataset, images, labels) -> None:
    assert dataset.x.dtype == np.float32
    assert dataset.x.shape == (len(images), 32, 3, 32)
    for found, image in zip(dataset.x, images, strict=True):
        for channel in range(3):
            np.testing.assert_allclose(found[:, channel], image[channel] / 255, rtol=1e-6)
    assert dataset.y.tolist() == labels.tolist()


@pytest.mark.parametrize("name", SMALL)
def test_archive_folder_and_files_hold_the_same(tmp_path, name):
    of, files, images, labels = small(name)
    hashes = set()
    for place in ("inside", "beside", "archive"):
        folder = tmp_path / place
        folder.mkdir()
        if place == "archive":
            of = archived(folder, of, files)
        else:
            put(folder, of, files, place == "inside")
        dataset = load_cifar(folder, of)
        assert_holds(dataset, images, labels)
        assert (dataset.name, dataset.title, dataset.classes) == (name, of.title, of.classes)
        assert dataset.train == SMALL[name][1]
        hashes.add(dataset.sha256)
    assert len(hashes) == 1
    assert len(list((tmp_path / "archive" / name).iterdir())) == 1  # nothing is unpacked to disk


def test_a_copy_with_other_pixels_is_known_by_its_labels_and_says_so(tmp_path):
    of, files, images, labels = small("cifar10", damage=1)
    put(tmp_path, of, files)
    dataset = load_cifar(tmp_path, of)
    assert_holds(dataset, images, labels)
    assert (dataset.name, dataset.title) == ("cifar10", "CIFAR-10 (small copy)")


def test_damaged_files_are_refused(tmp_path):
    of, files, _, _ = small("cifar10", damage=2)
    put(tmp_path, of, files)
    with pytest.raises(DataError, match=r"neither the official files of CIFAR-10 nor a copy.*run 'python cli\.py data"):
        load_cifar(tmp_path, of)
    put(tmp_path, of, {"data_batch_3.bin": files["data_batch_3.bin"][:-1]})
    with pytest.raises(DataError, match=r"data_batch_3\.bin: 6145 bytes, expected 6146"):
        load_cifar(tmp_path, of)
    put(tmp_path, of, {"data_batch_3.bin": bytes(6147)})
    with pytest.raises(DataError, match=r"data_batch_3\.bin: longer than the 6146 bytes"):
        load_cifar(tmp_path, of)
    (tmp_path / "cifar10" / of.folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"cifar10: data_batch_3\.bin not found in"):
        load_cifar(tmp_path, of)


def test_a_damaged_or_missing_archive_is_refused(tmp_path):
    of, files, _, _ = small("cifar100")
    of = archived(tmp_path, of, files)
    path = tmp_path / "cifar100" / of.archive.name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz: its content is .* SHA-256"):
        load_cifar(tmp_path, of)
    path.unlink()
    with pytest.raises(DataError, match=r"cifar-100-binary\.tar\.gz not found in .*data fetch cifar100"):
        load("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes, expected a multiple of the 3073"),
        (bytes(3072), "3072 bytes, expected a multiple of the 3073"),
        (bytes(3073) + b"\x0a" + bytes(3072), "label 10 in record 2, expected 0 to 9"),
    ],
)
def test_parse_refuses(data, message):
    with pytest.raises(DataError, match=f"file: {message}"):
        parse_cifar(data, CIFAR10, "file")


@given(st.data())
def test_mutated_records_are_refused_or_read_as_they_say(data):
    content = bytearray(2 * 3074)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.sampled_from([0, 1, 2, 33, 1025, 1026, 3073, 3074, 3075, 3076]))] = data.draw(
            st.integers(0, 255)
        )
    content = bytes(content[: data.draw(st.sampled_from([6148, 6148, 3074, 3073, 10]))])
    try:
        images, labels = parse_cifar(content, CIFAR100, "file")
    except DataError:
        return
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        record = content[3074 * i : 3074 * (i + 1)]
        assert label == record[1] < 100
        assert b"".join(image[:, c].tobytes() for c in range(3)) == record[2:]


def test_the_labels_of_the_jpeg_copy_are_those_that_it_is_known_by(data_dir):
    """In the order that its make_binary.py describes, without decoding an image."""
    source = data_dir / "cifar10" / "cifar10-jpeg.tar.xz"
    if not source.is_file():
        pytest.skip(f"no CIFAR-10 images in {data_dir}")
    classes = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    with tarfile.open(source) as tar:
        names = sorted(member.name for member in tar if member.isfile())
    labels = b""
    for split, count in (("train", 50_000), ("test", 10_000)):
        of_split = [name for name in names if name.startswith(f"{split}/")]
        assert len(of_split) == count
        labels += bytes(classes.index(of_split[i].split("/")[1]) for i in np.random.default_rng(10).permutation(count))
    assert CIFAR10.copies == {sha256(labels): "CIFAR-10 (JPEG copy)"}

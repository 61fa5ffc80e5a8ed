"""Purchase-100 and Texas-100, on small archives in their documented format."""

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nanoprune.errors import DataError
from nanoprune.lab.data import load
from nanoprune.lab.data.purchase100 import HEADS, load_purchase100
from nanoprune.lab.data.records import parse_records
from nanoprune.lab.data.texas100 import load_texas100
from nanoprune.lab.experiment.recipes import recipe_for

LOADERS = {"purchase100": (load_purchase100, "dataset_purchase.tgz"), "texas100": (load_texas100, "dataset_texas.tgz")}


def lines(bits: np.ndarray, labels: np.ndarray | None = None, form: str = "{}") -> bytes:
    """Rows of bits, after their labels where there are any."""
    rows = [",".join(map(str, row)) for row in bits]
    if labels is not None:
        rows = [f"{form.format(label)},{row}" for label, row in zip(labels, rows, strict=True)]
    return "".join(f"{row}\n" for row in rows).encode()


def write(folder, name: str, members: dict[str, bytes], kinds: dict[str, bytes] | None = None) -> None:
    """A .tgz in the folder of the data set `name`."""
    path = folder / name / LOADERS[name][1]
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.type = len(content), (kinds or {}).get(member, tarfile.REGTYPE)
            tar.addfile(info, io.BytesIO(content))


def made(records: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(records)
    return rng.integers(0, 2, (records, bits)), rng.permutation(np.arange(records) % 100 + 1)


def texas(bits: np.ndarray, labels: np.ndarray) -> dict[str, bytes]:
    return {
        "texas/README": b"not looked at",
        "texas/100/feats": lines(bits),
        "texas/100/labels": "".join(f"{label}\n" for label in labels).encode(),
    }


@pytest.mark.parametrize("form", ["{}", '"{}"'])
def test_purchase100(tmp_path, form):
    bits, labels = made(110, 600)
    write(tmp_path, "purchase100", {"dataset_purchase": lines(bits, labels, form)})
    dataset = load_purchase100(tmp_path, records=110)
    np.testing.assert_array_equal(dataset.x, bits)
    np.testing.assert_array_equal(dataset.y, labels - 1)
    assert (dataset.name, dataset.title, dataset.classes, dataset.train) == ("purchase100", "purchase100", 100, 110)
    assert dataset.x.dtype == np.float32
    assert [path.name for path in (tmp_path / "purchase100").iterdir()] == ["dataset_purchase.tgz"]


def test_texas100(tmp_path):
    bits, labels = made(7, 6169)
    write(tmp_path, "texas100", texas(bits, labels))
    dataset = load_texas100(tmp_path, records=7)
    np.testing.assert_array_equal(dataset.x, bits)
    np.testing.assert_array_equal(dataset.y, labels - 1)
    assert (dataset.name, dataset.classes, dataset.train) == ("texas100", 100, 7)


@pytest.mark.parametrize("name", LOADERS)
def test_the_catalogue_wants_all_of_the_records(tmp_path, name):
    bits, labels = made(3, 600 if name == "purchase100" else 6169)
    one = {"dataset_purchase": lines(bits, labels)} if name == "purchase100" else texas(bits, labels)
    write(tmp_path, name, one)
    expected = 197_324 if name == "purchase100" else 67_330
    with pytest.raises(DataError, match=rf"{LOADERS[name][1]}:\S+: holds 3 records, expected {expected}$"):
        load(name, tmp_path)
    with pytest.raises(DataError, match=f"{name}: {LOADERS[name][1]} not found in .*data fetch {name}"):
        load(name, tmp_path / "elsewhere")


def test_an_archive_of_more_than_the_records_is_refused_by_its_header(tmp_path):
    bits, labels = made(4, 600)
    write(tmp_path, "purchase100", {"dataset_purchase": lines(bits, labels)})
    with pytest.raises(DataError, match="dataset_purchase is said to have"):
        load_purchase100(tmp_path, records=3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"texas/100/feats": None}, "texas/100/feats is not in it"),
        ({"texas/100/labels": None}, "texas/100/labels is not in it"),
        ({"texas/100/labels": b"1\n2\n"}, "labels: holds 2 records, expected 3"),
        ({"texas/100/labels": b"1\n2\n101\n"}, "labels: line 3 does not start with a label"),
        ({"texas/100/labels": b"1\n\n3\n"}, "labels: line 2 is too short"),
        ({"texas/100/labels": b"1,2\n2\n3\n"}, "labels: line 1 does not start with a label"),
        ({"texas/100/feats": b"0,1\n" * 3}, "feats: line 1 is too short for a label and 6168 bits"),
        ({"texas/100/feats": lines(np.full((3, 6169), 2))}, "feats: line 1 does not end in 6168 times"),
        ({"texas/100/feats": lines(np.zeros((2, 6169), int)) + b"7" + b",0" * 6168}, "line 3 does not start"),
        ({"texas/100/feats": lines(np.zeros((3, 6169), int)) + b"0" + b",0" * 6168}, "feats is said to have"),
    ],
)
def test_texas100_refuses(tmp_path, change, message):
    members = texas(*made(3, 6169)) | change
    write(tmp_path, "texas100", {name: content for name, content in members.items() if content is not None})
    with pytest.raises(DataError, match=rf"dataset_texas\.tgz.*{message}") as caught:
        load_texas100(tmp_path, records=3)
    assert "\n" not in str(caught.value)


def test_links_are_not_followed(tmp_path):
    write(tmp_path, "purchase100", {"dataset_purchase": b""}, {"dataset_purchase": tarfile.SYMTYPE})
    with pytest.raises(DataError, match="dataset_purchase is not a regular file"):
        load_purchase100(tmp_path, records=3)


def test_a_page_in_place_of_the_archive_is_refused(tmp_path):
    (tmp_path / "purchase100").mkdir()
    (tmp_path / "purchase100" / "dataset_purchase.tgz").write_bytes(b"<html>moved</html>")
    with pytest.raises(DataError, match="starts with 3c 68 74 6d, expected a gzip archive; remove it and run"):
        load("purchase100", tmp_path)


@given(st.integers(1, 12).flatmap(lambda bits: hnp.arrays(np.uint8, (3, bits), elements=st.integers(0, 1))), st.data())
def test_mutated_lines_are_refused_or_read_as_they_say(bits, data):
    content = bytearray(lines(bits, np.array([1, 42, 100])))
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.sampled_from(b'012,\n"\r\0\xff'))
    content = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        found, labels = parse_records(content, HEADS, bits.shape[1], "file")
    except DataError:
        return
    again = lines(found, labels + 1)
    assert again.rstrip(b"\n") == content.replace(b'"', b"").rstrip(b"\n")


def test_recipes_are_those_of_a_network_with_the_usual_sizes(tmp_path):
    bits, labels = made(110, 600)
    write(tmp_path, "purchase100", {"dataset_purchase": lines(bits, labels)})
    recipe = recipe_for(load_purchase100(tmp_path, records=110))
    assert (recipe.network, recipe.widths) == ("mlp", (1024, 512, 256, 128))

"""The built-in tables and PneumoniaMNIST: files written like the published ones, and those themselves."""

import hashlib
import io
import lzma

import numpy as np
import pytest

from nanoprune.errors import DataError
from nanoprune.lab.data import load
from nanoprune.lab.data.fetch import BY_HAND
from nanoprune.lab.data.medical import (
    ADULT_COLUMNS,
    CODES,
    CONDITIONS,
    DIAGNOSES,
    THYROID_COLUMNS,
    condition,
    diagnosis_group,
    load_adult,
    load_diabetes130,
    load_thyroid,
)
from nanoprune.lab.data.pneumonia import load_pneumonia
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.data.table import feature_names
from nanoprune.lab.experiment.recipes import recipe_for


def published(folder, name, content, pack=bytes, suffix=""):
    """A file as the published one, whatever is in it."""
    (folder / "d").mkdir(exist_ok=True)
    (folder / "d" / f"{name}{suffix}").write_bytes(pack(content))
    return SourceFile("d", name, len(content), hashlib.sha256(content).hexdigest(), home="https://example.org")


@pytest.mark.parametrize(
    ("code", "group"),
    [
        ("250", "diabetes"),
        ("250.83", "diabetes"),
        ("390", "circulatory"),
        ("459", "circulatory"),
        ("785", "circulatory"),
        ("460", "respiratory"),
        ("786", "respiratory"),
        ("520", "digestive"),
        ("787", "digestive"),
        ("800", "injury"),
        ("999", "injury"),
        ("710", "musculoskeletal"),
        ("739", "musculoskeletal"),
        ("580", "genitourinary"),
        ("629", "genitourinary"),
        ("788", "genitourinary"),
        ("140", "neoplasms"),
        ("239", "neoplasms"),
        ("240", "other"),
        ("389", "other"),
        ("251", "other"),
        ("V27", "other"),
        ("E950", "other"),
    ],
)
def test_diagnoses_are_in_the_groups_of_the_paper(code, group):
    """Table 2 of Strack et al. 2014."""
    assert diagnosis_group(code) == group


@pytest.mark.parametrize(
    ("diagnosis", "group"),
    [
        ("-", "no condition"),
        ("-[840801013]", "no condition"),
        ("K[1]", "general health"),
        ("GKJ", "hypothyroid"),
        ("C|I", "binding protein"),
        ("D|R", "miscellaneous"),
        ("OI", "antithyroid treatment"),
    ],
)
def test_diagnoses_of_the_thyroid_are_in_the_groups_of_its_description(diagnosis, group):
    assert condition(diagnosis) == group


@pytest.mark.parametrize("diagnosis", ["", "X", "|", "[840801013]"])
def test_another_diagnosis_is_refused(diagnosis):
    with pytest.raises(DataError, match=r"is none of thyroid0387\.names"):
        condition(diagnosis)


def test_files_like_the_published_ones_are_read(tmp_path):
    head = ",".join(["encounter_id,patient_nbr", *CODES, *DIAGNOSES, "readmitted"])
    rows = [f"{i},{i // 2},{i % 3},{i % 4},{i % 2},{250 + i % 3},V1,?,{['NO', '>30', '<30'][i % 3]}" for i in range(60)]
    file = published(tmp_path, "s.csv", "\n".join([head, *rows]).encode(), lzma.compress, ".xz")
    data = load_diabetes130(tmp_path, file)
    assert data.y.tolist() == [i % 3 for i in range(60)]
    assert data.groups.max() == 29
    assert "diag_1=diabetes" in data.x.names
    assert "admission_type_id=2" in data.x.names

    record = ",".join(str(i) for i in range(len(THYROID_COLUMNS) - 1))
    content = "".join(f"{record[:-1]}{i % 5},{'-KG'[i % 3]}\n" for i in range(60)).encode()
    data = load_thyroid(tmp_path, published(tmp_path, "t.data", content))
    assert [data.class_names[c] for c in data.y[:3]] == ["no condition", "general health", "hypothyroid"]
    assert data.class_names == tuple(CONDITIONS)

    person = ", ".join(["39", "State-gov", "{}", *["x"] * (len(ADULT_COLUMNS) - 4)])
    train = "".join(person.format(i % 9) + f", {['<=50K', '>50K'][i % 2]}\n" for i in range(40)).encode()
    test = ("|1x3 Cross validator\n" + train.decode().replace("50K", "50K.") + "\n").encode()
    data = load_adult(tmp_path, (published(tmp_path, "a.data", train), published(tmp_path, "a.test", test)))
    assert (len(data.y), data.train) == (80, 40)
    assert data.y.tolist() == [i % 2 for i in range(40)] * 2

    packed, images = io.BytesIO(), np.arange(3 * 28 * 28, dtype=np.uint8).reshape(3, 28, 28)
    parts = ("train", "val", "test")
    np.savez(
        packed,
        **{f"{p}_images": images + k for k, p in enumerate(parts)},
        **{f"{p}_labels": [[0], [1], [k % 2]] for k, p in enumerate(parts)},
    )
    data = load_pneumonia(tmp_path, published(tmp_path, "p.npz", packed.getvalue(), lzma.compress, ".xz"))
    assert data.x.shape == (9, 28, 1, 28)
    assert data.train == 3
    np.testing.assert_allclose(data.x[3, :, 0], (images[0] + 1) / 255, rtol=1e-6)
    assert data.y.tolist() == [0, 1, 0, 0, 1, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("load_it", "name"), [(load_thyroid, "t.data"), (load_pneumonia, "p.npz"), (load_diabetes130, "s.csv")]
)
def test_another_file_is_refused(load_it, name, tmp_path):
    file = published(tmp_path, name, b"a,b\n1,2\n")
    (tmp_path / "d" / name).write_bytes(b"a,b\n1,3\n")
    with pytest.raises(DataError, match=r"with SHA-256 .*; remove it and get it from https://example\.org"):
        load_it(tmp_path, file)


COUNTS = {  # UCI's and MedMNIST's own
    "thyroid": {"no condition": 6771},
    "adult": {"<=50K": 24720 + 12435, ">50K": 7841 + 3846},
    "pneumonia": {"normal": 1214 + 135 + 234, "pneumonia": 3494 + 389 + 390},
    "diabetes130": {"NO": 54864, ">30": 35545, "<30": 11357},
}


@pytest.mark.parametrize("name", ["thyroid", "pneumonia", "adult"])
def test_the_published_files_are_read(name, data_dir):
    if not any(file.find(data_dir) for file in BY_HAND[name]):
        pytest.skip(f"{name} is not there")
    data = load(name, data_dir)
    found = dict(zip(data.class_names, np.bincount(data.y).tolist(), strict=True))
    expected = COUNTS[name]
    if name == "thyroid":
        assert found["no condition"] == expected["no condition"]
        assert sum(found.values()) == 9172
    else:
        assert found == expected
    assert data.train == {"thyroid": 9172, "pneumonia": 4708, "adult": 32561}[name]
    if data.table:
        x = data.x[np.arange(200)]
        assert x.shape[1] == len(feature_names(data.table))
        assert recipe_for(data).network == "mlp"
        categories = data.x.column
        for column in range(categories.max() + 1):
            assert (x[:, categories == column].sum(axis=1) == 1).all()  # each record has one category of each column


def test_diabetes130_is_grouped_by_patient(data_dir):
    if not BY_HAND["diabetes130"][0].find(data_dir):
        pytest.skip("diabetes130 is not there")
    data = load("diabetes130", data_dir)
    assert data.groups.max() + 1 == 71_518
    assert dict(zip(data.class_names, np.bincount(data.y).tolist(), strict=True)) == COUNTS["diabetes130"]

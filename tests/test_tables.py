"""Tables of the user's own: what is understood of a file, what is refused, and the way from a table to an audit."""

import csv
import gzip
import io
import json
import lzma
import random

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.commands import main
from nanoprune.lab.commands.columns import column_lines
from nanoprune.lab.data import load
from nanoprune.lab.data.csv_file import parse_csv
from nanoprune.lab.data.table import check_columns, feature_names
from nanoprune.lab.export.about import about
from nanoprune.lab.models.model import load_model, save_model
from nanoprune.lab.storage.unpack import open_unpacked, unpacked

N = 120
RNG = random.Random(0)
PATIENTS = [
    {
        "visit": 10_000 + 7 * i,
        "patient": f"p{i // 3}",
        "age": round(RNG.gauss(60, 15), 1) if i % 11 else "?",
        "ward": RNG.choice([1, 2, 3]),
        "sex": RNG.choice("fm") if i % 13 else "",
        "zip": f"0{RNG.randrange(4)}1",
        "site": "Lyon",
        "note": f"seen at {RNG.random()}",
        "outcome": RNG.choice(["well", "ill"]),
    }
    for i in range(N)
]


def text(rows=PATIENTS, delimiter=","):
    file = io.StringIO()
    writer = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def kinds(dataset):
    return {of["name"]: of["kind"] for of in dataset.table["columns"]}


def test_each_column_is_taken_for_what_it_is(tmp_path):
    data = load(written(tmp_path / "p.csv", text()), label="outcome", group="patient")
    assert kinds(data) == {
        "visit": "left out",
        "patient": "group",
        "age": "number",
        "ward": "number",
        "sex": "category",
        "zip": "category",
        "site": "left out",
        "note": "left out",
        "outcome": "label",
    }
    lines = "\n".join(column_lines(data.table))
    assert "2 numbers, standardised by the members: age (some have none), ward" in lines
    assert "another whole number in every record: it numbers them): visit" in lines
    assert "the same value in all records): site" in lines
    assert data.class_names == ("ill", "well")
    assert [data.class_names[c] for c in data.y] == [row["outcome"] for row in PATIENTS]
    assert len(set(zip(data.groups.tolist(), [i // 3 for i in range(N)], strict=True))) == N // 3  # one to one
    assert set(data.groups.tolist()) == set(range(N // 3))
    assert data.groups.dtype == np.int64


def test_a_column_of_numbers_with_a_slip_in_it_says_which(tmp_path):
    rows = [row | {"age": "sixty" if i == 7 else 20 + i / 7} for i, row in enumerate(PATIENTS)]
    data = load(written(tmp_path / "p.csv", text(rows)), label="outcome")
    assert "left out (numbers, but also sixty): age" in column_lines(data.table)


def test_a_gathered_record_has_its_values_and_nothing_else(tmp_path):
    data = load(written(tmp_path / "p.csv", text()), label="outcome", categorical=["ward"], drop=["zip", "patient"])
    rows = np.array([[5, 0], [13, 119]])
    found = data.x[rows]
    assert found.shape == (2, 2, len(data.x.names))
    for at, i in np.ndenumerate(rows):
        row, expected = PATIENTS[i], {}
        expected["age"] = np.nan if row["age"] == "?" else row["age"]
        if row["age"] == "?":
            expected["age: no value"] = 1.0
        expected[f"ward={row['ward']}"] = 1.0
        expected[f"sex={row['sex']}" if row["sex"] else "sex: no value"] = 1.0
        values = {name: float(v) for name, v in zip(data.x.names, found[at], strict=True) if v != 0}
        assert values == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.xz", ".parquet"])
def test_every_format_gives_the_same_records(suffix, tmp_path):
    plain = load(written(tmp_path / "plain.csv", text()), label="outcome", group="patient")
    path = tmp_path / f"p{suffix}"
    if suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        columns = {name: [row[name] for row in PATIENTS] for name in PATIENTS[0]}
        columns["age"] = [None if value == "?" else value for value in columns["age"]]
        columns["sex"] = pa.array([value or None for value in columns["sex"]]).dictionary_encode()
        pq.write_table(pa.table(columns), path)
    else:
        pack = {".csv": bytes, ".csv.gz": gzip.compress, ".csv.xz": lzma.compress}[suffix]
        path.write_bytes(pack(text().encode()))
    data = load(str(path), label="outcome", group="patient")
    every = np.arange(N)
    assert data.x[every].tobytes() == plain.x[every].tobytes()
    assert data.sha256 == plain.sha256
    assert (data.y == plain.y).all()
    assert (data.groups == plain.groups).all()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(
    "change", [str, lambda t: "\ufeff" + t, lambda t: t.replace("\r\n", "\n"), lambda t: t + "\r\n"]
)
def test_dialects_of_csv(delimiter, change, tmp_path):
    usual = load(written(tmp_path / "usual.csv", text()), label="outcome")
    data = load(written(tmp_path / "p.csv", change(text(delimiter=delimiter))), label="outcome")
    assert data.sha256 == usual.sha256


def test_pandas_index_and_quoted_line_feeds(tmp_path):
    content = ',"a\nb",y\n' + "".join(f'{i},"{i % 4}\n",{i % 2}\n' for i in range(60))
    data = load(written(tmp_path / "p.csv", content), label="y")
    assert kinds(data) == {"column 1": "left out", "a\nb": "number", "y": "label"}
    assert "\n" not in "".join(column_lines(data.table))


LABELS = {
    "numbers in their order": ([10, 9, 2], ["2", "9", "10"]),
    "texts": (["b", "a", "B"], ["B", "a", "b"]),
    "whole floats": (["2.0", "10.0", "9.0"], ["2", "9", "10"]),
    "codes": (["007", "7", "01"], ["007", "01", "7"]),
}


@pytest.mark.parametrize(("labels", "names"), LABELS.values(), ids=LABELS)
def test_labels_are_mapped_in_their_order(labels, names, tmp_path):
    rows = [{"x": i % 7, "y": labels[i % 3]} for i in range(30)]
    data = load(written(tmp_path / "p.csv", text(rows)), label="y")
    assert list(data.class_names) == names
    shown = [names.index(str(v).removesuffix(".0")) for v in (row["y"] for row in rows)]
    assert data.y.tolist() == shown


def with_column(name, values):
    return text([row | {name: values(i)} for i, row in enumerate(PATIENTS)])


REFUSED = {
    "no label named": (text(), {}, "which column has the classes? say it with --label"),
    "a label that is not there": (text(), {"label": "outcom"}, "has no column outcom (label); did you mean outcome?"),
    "a group that is not there": (text(), {"label": "outcome", "group": "person"}, "has no column person (group)"),
    "one dropped that is not there": (text(), {"label": "outcome", "drop": ["xyz"]}, "has no column xyz (drop)"),
    "a missing label": (
        with_column("outcome", lambda i: "ill" if i else ""),
        {"label": "outcome"},
        "1 records have no",
    ),
    "a label per record": (text(), {"label": "note"}, "distinct values among 120 records"),
    "a number to predict": (
        with_column("cost", lambda i: i + 0.5),
        {"label": "cost"},
        "expected whole numbers or text",
    ),
    "label and group": (text(), {"label": "outcome", "group": "outcome"}, "is both label and group"),
    "a missing group": (text(), {"label": "outcome", "group": "sex"}, "the group sex has no value in"),
    "too many categories": (text(), {"label": "outcome", "drop": list(PATIENTS[0])[:8]}, "no column is left"),
    "a short line": (text() + "1,2\r\n", {"label": "outcome"}, "line 122 has 2 fields, the first one names 9 columns"),
    "two columns of one name": ("a,a,y\n1,2,3\n", {"label": "y"}, "columns with one name: a"),
    "no records": ("a,y\n", {"label": "y"}, "holds no records"),
    "one column": ("a\n1\n", {"label": "a"}, "expected the names of 2 to 10,000 columns"),
    "nothing": ("", {"label": "a"}, "expected the names of 2 to 10,000 columns"),
    "an unclosed quote": (text() + '"', {"label": "outcome"}, "line 122"),
    "no UTF-8": (text().encode() + b"\xff\xfe", {"label": "outcome"}, "not UTF-8 text"),
    "a long field": ("a,y\n" + "x" * 200_000 + ",1\n", {"label": "y"}, "field larger than field limit"),
    "UTF-16": (text().encode("utf-16"), {"label": "outcome"}, "not UTF-8 text"),
}


@pytest.mark.parametrize(("content", "columns", "said"), REFUSED.values(), ids=REFUSED)
def test_refused_in_one_line_that_names_the_file(content, columns, said, tmp_path):
    with pytest.raises(DataError) as caught:
        load(written(tmp_path / "p.csv", content), **columns)
    assert said in str(caught.value)
    assert "p.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_are_for_tables_alone(tmp_path):
    with pytest.raises(ArgumentError, match="label, group, categorical and drop are for tables"):
        load("digits", label="outcome")
    for name in ("missing.csv", "missing.parquet"):
        pytest.importorskip("pyarrow")
        with pytest.raises(DataError, match=rf"{name}: not found"):
            load(str(tmp_path / name), label="y")


def test_a_damaged_parquet_file_and_a_promise_are_refused(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"a": [1, 2] * 20, "y": ["u", "v"] * 20}), path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"PAR1" + bytes(40) + b"PAR1", b"", whole[:-12] + bytes(12)):
        with pytest.raises(DataError, match="cannot be read as Parquet"):
            load(written(path, content), label="y")
    zeros = pa.table({f"c{j}": np.zeros(3_000_000, np.int8) for j in range(20)})  # 60 MB, packed into some kilobytes
    pq.write_table(zeros, path)
    with pytest.raises(DataError, match=r"declares .* bytes of memory"):
        load(str(path), label="c0")


def xz(data):
    return lzma.compress(data, preset=0)


@settings(max_examples=40)
@given(st.binary(max_size=3000), st.integers(1, 4), st.sampled_from([gzip.compress, xz]))
def test_unpacking_gives_what_was_packed_in_any_number_of_streams(data, streams, pack):
    packed = b"".join(pack(data) for _ in range(streams))
    assert unpacked(packed, streams * len(data), "f") == streams * data
    if data:
        with pytest.raises(DataError, match=rf"f: unpacks to more than the {streams * len(data) - 1} bytes"):
            unpacked(packed, streams * len(data) - 1, "f")
    for cut in (packed[:-1], packed + b"more"):
        with pytest.raises(DataError, match="f: damaged"):
            unpacked(cut, streams * len(data) + 9, "f")


def test_a_small_file_unpacks_to_no_more_than_its_bound(tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.storage.unpack.FREE", 1 << 20)
    for name, pack in (("b.csv.gz", gzip.compress), ("b.csv.xz", xz)):
        with (
            open_unpacked(written(tmp_path / name, pack(bytes(1 << 22)))) as file,
            pytest.raises(DataError, match="unpacks to more"),
        ):
            file.read()
    huge = lzma.compress(b"a,y\n", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}])
    with open_unpacked(written(tmp_path / "d.csv.xz", huge)) as file, pytest.raises(DataError, match="damaged xz data"):
        file.read()


def test_a_table_with_other_columns_is_refused_by_their_names(tmp_path):
    of = {
        name: load(written(tmp_path / f"{name}.csv", content), label="outcome", group="patient").table
        for name, content in {
            "ours": text(),
            "more": with_column("height", lambda i: i % 9),
            "ward": with_column("ward", lambda i: "abc"[i % 3]),
        }.items()
    }
    check_columns("t", of["ours"], json.loads(json.dumps(of["ours"])))
    for ours, theirs, said in (
        ("more", "ours", "has in addition the columns height"),
        ("ours", "more", "lacks the columns height"),
        ("ward", "ours", "columns of other kinds or categories: ward"),
    ):
        with pytest.raises(DataError, match=said):
            check_columns("t", of[ours], of[theirs])
    with pytest.raises(DataError, match="no table"):
        check_columns("digits", None, of["ours"])
    with pytest.raises(DataError, match="a table, unlike"):
        check_columns("t", of["ours"], None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a table, and a model that was trained on it and pruned, by the command line."""
    folder = tmp_path_factory.mktemp("table")
    path = written(folder / "p.csv", text())
    sizes = ["--members", 40, "--reference", 20, "--nonmembers", 40]
    run(
        "train",
        path,
        "--label",
        "outcome",
        "--group",
        "patient",
        "--categorical",
        "ward",
        "--epochs",
        3,
        *sizes,
        "--out",
        folder / "m.h5",
    )
    quick = ["--keep", 0.3, "--iterations", 2, "--epochs", 2, "--retrain-epochs", 1, "--out", folder / "pruned.h5"]
    run("prune", folder / "m.h5", "--data", path, *quick)
    return folder


def run(*arguments, status=0):
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    assert result.exit_code == status, result.output
    return result.output


def test_prune_and_attack_read_the_table_as_train_did(trained, monkeypatch):
    monkeypatch.chdir(trained)
    before, after = load_model("m.h5"), load_model("pruned.h5")
    assert before.table == after.table
    assert before.table["categorical"] == ["ward"]
    assert before.net.state.tobytes() == after.net.state.tobytes()
    run("attack", "pruned.h5", "--shadows", 6, "--json", "audit.json")
    assert json.loads((trained / "audit.json").read_text())["data"]["name"] == "p.csv"
    written(trained / "q.csv", text([{k: v for k, v in row.items() if k != "sex"} for row in PATIENTS]))
    assert "q.csv: lacks the columns sex" in run("attack", "pruned.h5", "--data", "q.csv", "--shadows", 6, status=2)
    said = run("attack", "pruned.h5", "--data", "p.csv", "--label", "outcome", "--shadows", 6, status=2)
    assert "p.csv: columns of other kinds or categories: patient, ward" in said


def test_a_model_file_with_a_damaged_description_is_refused(trained, tmp_path):
    model = load_model(trained / "m.h5")
    for change, said in (
        ({"columns": []}, "model.table.columns is"),
        ({"columns": "age"}, "model.table.columns is"),
        ({"columns": [{"name": "age", "kind": "date"}]}, r"columns\[0\].kind is 'date'"),
        ({"columns": [{"name": "age", "kind": "number"}]}, r"columns\[0\] is .*, expected a record with name, missing"),
        ({"columns": [{"name": "age", "kind": "number", "missing": False}]}, "its columns make 1 features"),
        ({"label": 3}, "model.table.label is 3"),
        ({"drop": [3]}, "model.table.drop is"),
    ):
        model.table = load_model(trained / "m.h5").table | change
        save_model(model, tmp_path / "bad.h5")
        with pytest.raises(DataError, match=said):
            load_model(tmp_path / "bad.h5")


def encoded(row, columns):
    """A record as whoever has the exported metadata alone would encode it."""
    found = []
    for of in columns:
        value = None if row[of["column"]] in ("", "?") else row[of["column"]]
        if "missing" in of:
            found.append(of["missing"] if value is None else float(value))
        else:
            found.append(float((value is None) if of["is"] == "no value" else str(value) == of["is"]))
    return found


def test_an_exported_network_and_its_metadata_alone_predict_as_the_model_does(trained):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    import onnx

    from nanoprune.lab.export.check import logits

    run("export", trained / "m.h5", "--to", "onnx", "--out", trained / "m.onnx")
    meta = {p.key: p.value for p in onnx.load(trained / "m.onnx").metadata_props}
    x = np.array([encoded(row, json.loads(meta["columns"])) for row in PATIENTS], np.float32)
    found = runtime.InferenceSession(trained / "m.onnx").run(None, {"input": x})[0]
    data = load(str(trained / "p.csv"), label="outcome", group="patient", categorical=["ward"])
    expected = logits(load_model(trained / "m.h5").net, data.x[np.arange(N)])
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert json.loads(meta["labels"]) == ["ill", "well"]
    told = json.dumps(about(load_model(trained / "m.h5"), "dense"))
    assert not any(name in told for name in ("p.csv", "patient", "visit", data.sha256))


def test_describe_shows_what_was_understood(trained):
    shown = run("data", "describe", trained / "p.csv", "--label", "outcome", "--group", "patient")
    assert "p.csv: 120 records of" in shown
    assert "40 groups, of at most 3 records" in shown
    found = json.loads(run("data", "describe", trained / "p.csv", "--label", "outcome", "--json"))
    counts = {c: sum(row["outcome"] == c for row in PATIENTS) for c in ("ill", "well")}
    assert found["classes"] == counts
    assert found["shape"] == [len(feature_names(found["table"]))]


def test_a_column_name_cannot_write_to_the_terminal(tmp_path):
    rows = [{"\x1b]0;x\x07": i % 5, "y": "ab"[i % 2] + "\x1b[2J"} for i in range(30)]
    shown = run("data", "describe", written(tmp_path / "p.csv", text(rows)), "--label", "y")
    assert "\x1b" not in shown


def test_memory_is_a_small_multiple_of_the_text(tmp_path):
    """A line of 300 empty fields is 300 bytes."""
    import tracemalloc

    content = (",".join(f"c{j}" for j in range(300)) + "\n").encode() + (b"," * 299 + b"\n") * 2000
    tracemalloc.start()
    columns = parse_csv(io.BytesIO(content), "t")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(columns) == 300
    assert peak < 24 * len(content)

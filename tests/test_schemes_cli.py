"""Schemes, exempt layers, ratios from a file and shrink, on the command line."""

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.attack import network
from nanoprune.errors import ArgumentError
from nanoprune.lab.data import load
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import load_model
from nanoprune.lab.workflow.reproduce import reproduce
from nanoprune.nn import Workspace
from nanoprune.prune import ADMMSettings
from nanoprune.schedule import Schedule

SHORT = ["--epochs", 2, "--iterations", 2, "--retrain-epochs", 1, "--threads", 1]


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    result = run("train", "digits", "--out", path, "--epochs", 3, "--members", 100)
    assert result.exit_code == 0, result.output
    return path


def logits(path):
    x = np.moveaxis(load("digits").x, 0, -1)[None]
    return load_model(path).net.forward(np.ascontiguousarray(x), Workspace(training=False)).copy()


def test_the_table_has_requested_and_achieved_ratios(dense, tmp_path):
    out, table = tmp_path / "pruned.h5", tmp_path / "costs.json"
    result = run("prune", dense, "--scheme", "filter", "--keep", 0.3, "--out", out, "--json", table, *SHORT)
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.stdout.splitlines() if line.strip()}
    kept = 76 * 64 + 38 * 256 + 10 * 128  # floor(0.3 n) units of two layers, and all of the last
    assert rows["dense1"][:4] == ["dense1", "30.00", "29.69", f"{76 * 64 + 256:,}"]
    assert rows["dense3"][:5] == ["dense3", "100.00", "100.00", "1,290", "(1.0x)"]
    assert rows["all"][3:5] == [f"{kept + 394:,}", f"({50_826 / (kept + 394):.1f}x)"]
    assert f"nonzero {kept:,} of 50,432 weights" in result.stdout.splitlines()[-2]  # then what it leaks
    found = json.loads(table.read_text())
    assert found["macs"] == [50_432, kept]
    assert [of["layer"] for of in found["layers"]] == ["dense1", "dense2", "dense3"]
    assert found["layers"][0]["asked"] == 0.3
    assert (load_model(out).net.weights[0].value[0] != 0).any(axis=1).sum() == 76


@pytest.mark.parametrize(("scheme", "widths"), [("filter", [76, 38]), ("channel", [76, 38])])
def test_shrink_writes_an_ordinary_smaller_model_with_the_same_outputs(scheme, widths, dense, tmp_path):
    pruned, small = tmp_path / "pruned.h5", tmp_path / "small.h5"
    exempt = "last" if scheme == "filter" else "none"  # channel: the last layer's inputs are the second one's units
    result = run("prune", dense, "--scheme", scheme, "--keep", 0.3, "--exempt", exempt, "--out", pruned, *SHORT)
    assert result.exit_code == 0, result.output
    result = run("shrink", pruned, "--out", small)
    assert result.exit_code == 0, result.output
    size = 64 * 76 + 76 * 38 + 38 * 10 + 76 + 38 + 10
    assert f"widths [256, 128] to {widths}, parameters 50,826 to {size:,} ({50_826 / size:.1f}x)" in result.stdout
    model = load_model(small)
    assert model.net.description["widths"] == widths
    assert model.net.size == size
    assert [step["step"] for step in model.steps] == ["train", "prune", "shrink"]
    assert model.steps[-1]["widths"] == [256, 128]
    expected = logits(pruned)
    np.testing.assert_allclose(logits(small), expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())
    again = run("prune", small, "--keep", 0.2, "--out", tmp_path / "more.h5", *SHORT)  # it can be pruned on
    assert again.exit_code == 0, again.output
    refused = run("attack", small)
    assert refused.exit_code == 2
    assert "shrunk, which changes no output; attack the model before `shrink`" in refused.stderr


def test_n_m_fixes_its_ratio(dense, tmp_path):
    out = tmp_path / "pruned.h5"
    result = run("prune", dense, "--scheme", "1:4", "--exempt", "none", "--out", out, *SHORT)
    assert result.exit_code == 0, result.output
    for p in load_model(out).net.weights:
        assert ((p.value[0] != 0).reshape(p.shape[0], -1, 4).sum(axis=2) <= 1).all()
    assert "nonzero 12,608 of" in result.stdout


def test_ratios_from_a_file(dense, tmp_path):
    out, keep = tmp_path / "pruned.h5", tmp_path / "keep.json"
    keep.write_text('{"dense2": 0.1, "0": 0.5}')
    result = run("prune", dense, "--keep-file", keep, "--out", out, *SHORT)
    assert result.exit_code == 0, result.output
    assert [int((p.value != 0).sum()) for p in load_model(out).net.weights] == [8192, 3276, 1280]
    assert load_model(out).steps[-1]["keep"] == [0.5, 0.1, 1.0]


def test_reproduce_takes_a_scheme_and_a_file(tmp_path, monkeypatch):
    keep, taken = tmp_path / "keep.json", []

    def stop(data, recipe, *_):
        taken.append(recipe)
        raise ArgumentError("enough")

    monkeypatch.setattr("nanoprune.lab.workflow.reproduce.reproduce", stop)
    mlp = ["--network", "mlp", "--out", tmp_path / "out"]
    run("reproduce", "digits", "--scheme", "filter", "--keep", 0.25, "--exempt", "dense1", *mlp)
    keep.write_text('{"dense2": 0.5}')
    run("reproduce", "digits", "--scheme", "column", "--keep", 0.25, "--keep-file", keep, *mlp)
    assert [recipe.scheme for recipe in taken] == ["filter", "column"]
    assert [recipe.exempt for recipe in taken] == [("dense1",), ("first", "last")]
    assert [recipe.keep for recipe in taken] == [(0.25,), (0.25, (1.0, 0.5, 1.0))]


def test_reproduce_prunes_by_the_scheme(monkeypatch):
    monkeypatch.setattr(network, "RATES", (1e-3,))
    monkeypatch.setattr(network, "PATIENCE", 2)
    data, plan = load("digits"), Schedule(epochs=2, batch=16)
    changes = {"keep": (0.25, (0.5, 1.0, 1.0)), "minmax": 0.0, "scheme": "filter"}
    recipe = recipe_for(data, 40, reference=10, nonmembers=60, **changes)
    quick = {"dense": plan, "prune": plan, "retrain": plan, "admm": ADMMSettings(rho=0.1, iterations=2)}
    found, _ = reproduce(data, dataclasses.replace(recipe, widths=(12, 8), **quick), [0, 1], 1)
    assert found["recipe"]["scheme"] == "filter"
    assert found["recipe"]["exempt"] == ("first", "last")
    assert found["methods"]["prune-0.25"]["nonzero"] == 3 * 64 + 2 * 12 + 80
    assert found["methods"]["prune-0.5,1,1"]["nonzero"] == 6 * 64 + 96 + 80
    assert all(check["outcome"] != "void" for check in found["validity"])
    assert any("scheme filter" in note and "first and last exempt" in note for note in found["notes"])


BAD = {
    "no ratio": ([], "keep is missing"),
    "two ratios": (["--keep", 0.1, "--keep-file", "GOOD"], "got both"),
    "unknown scheme": (["--keep", 0.1, "--scheme", "rows"], "scheme must be unstructured"),
    "global N:M": (["--scheme", "2:4", "--scope", "global"], "scope must be layer where scheme is 2:4, got global"),
    "global filters": (["--keep", 0.1, "--scheme", "filter", "--scope", "global"], "scope must be layer"),
    "a ratio for N:M": (["--keep", 0.1, "--scheme", "2:4"], "keep must be 0.5 where scheme is 2:4, got 0.1"),
    "N:M by way of": (["--scheme", "2:4", "--via", 0.7], "via must be empty"),
    "unknown exempt layer": (["--keep", 0.1, "--exempt", "conv1"], "layers of dense1, dense2, dense3; got 'conv1'"),
    "unknown layer in the file": (["--keep-file", "KEEP"], "no layer 'conv1'; its layers are dense1, dense2, dense3"),
    "exempt beside one per layer": (["--keep", "0.1,0.2,0.3", "--exempt", "last"], "exempt is for one ratio"),
    "table over the model": (["--keep", 0.1, "--json", "OUT"], "is named twice"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_combinations_get_one_line_and_status_2(case, dense, tmp_path):
    arguments, named = BAD[case]
    (tmp_path / "keep.json").write_text('{"conv1": 0.5}')
    (tmp_path / "good.json").write_text('{"dense1": 0.5}')
    places = {"GOOD": tmp_path / "good.json", "KEEP": tmp_path / "keep.json", "OUT": tmp_path / "o.h5"}
    result = run("prune", dense, *(places.get(a, a) for a in arguments), "--out", tmp_path / "o.h5")
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not (tmp_path / "o.h5").exists()


def test_shrink_names_what_it_cannot_read(tmp_path):
    result = run("shrink", tmp_path / "nowhere.h5", "--out", tmp_path / "o.h5")
    assert result.exit_code == 2
    assert "nowhere.h5: not found" in result.stderr
    assert result.stderr.count("\n") == 1

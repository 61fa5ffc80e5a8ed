"""The command line: its output, its files, its errors."""

import functools
import gzip
import http.server
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.backend import use_device
from nanoprune.errors import DeviceError
from nanoprune.lab.experiment.experiment import Experiment
from nanoprune.lab.experiment.recipes import OF_NETWORK, RECIPES
from nanoprune.lab.models.model import load_model

ROOT = pathlib.Path(__file__).parents[1]
SMALL = ["--seeds", "2", "--members", "40", "--reference", "40", "--nonmembers", "60", "--threads", "2"]


def run(*arguments, env=None):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments], env=env)


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """The folder of a small `reproduce digits` with two keep ratios and all methods, and its output."""
    out = tmp_path_factory.mktemp("reproduce") / "digits"
    result = run("reproduce", "digits", "--out", out, "--keep", 0.3, "--keep", 0.1, *SMALL)
    assert result.exit_code == 0, result.output
    return out, result


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "prune-0.1,nothing"], "methods must be of default, all, simple, private, baseline, "),
        (
            ["--methods", "simple", "--attacks", "full"],
            "attacks full cannot repeat memguard and temperature with shadow",
        ),
        (["--methods", "memguard", "--reference", "3", "--minmax", "0"], "got 'memguard'"),
        (["--attacks", "full", "--shadows", "258", "--minmax", "0"], "shadows must be at most 256 without --store DIR"),
    ],
)
def test_invalid_methods_are_refused_before_anything_is_trained(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(Experiment, "dense", None)
    result = run("reproduce", "digits", "--out", tmp_path, *SMALL, *options)
    assert result.exit_code == 2
    assert message in result.output
    assert len(result.output.splitlines()) == 1


@pytest.fixture(scope="module")
def dense_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.h5"
    result = run("train", "digits", "--out", path, "--epochs", 15, "--members", 300, "--seed", 3)
    assert result.exit_code == 0, result.output
    return path, result


def is_summary(S, seeds):
    assert set(S) == {"mean", "low", "high", "values"}
    assert len(S["values"]) == seeds
    assert S["mean"] == pytest.approx(np.mean(S["values"]))
    if len(set(S["values"])) == 1:
        assert (S["low"], S["high"]) == (None, None)
    else:
        assert S["low"] < S["mean"] < S["high"]
    return True


def test_reproduce_writes_the_results_that_the_format_promises(reproduced):
    out, _ = reproduced
    results = json.loads((out / "results.json").read_text())
    assert results["dataset"] == "digits"
    assert results["seeds"] == [0, 1]
    assert results["splits"]["members"] == 40
    assert results["splits"]["nonmembers"] == 60
    assert len(results["splits"]["sha256"]) == 64
    assert {"network", "device", "precision", "seconds", "versions"} <= set(results)
    assert list(results["methods"]) == [
        "baseline", "early-stop", "early-stop-0.1", "small-dense", "small-dense-0.1", "minmax",
        "prune-1", "prune-1+minmax",
        "prune-0.3", "prune-0.3+minmax", "magnitude-0.3", "prune-0.1", "prune-0.1+minmax", "magnitude-0.1",
    ]  # fmt: skip
    for name, method in results["methods"].items():
        for key in ("train_accuracy", "test_accuracy", "strongest_attack_accuracy"):
            assert is_summary(method[key], seeds=2)
            assert all(0 <= value <= 1 for value in method[key]["values"])
        thresholds = {"correctness", "confidence", "entropy", "modified_entropy"}
        assert set(method["attacks"]) == {"network", "label_only"} | thresholds
        for attack in method["attacks"].values():
            assert is_summary(attack["accuracy"], seeds=2)
            assert is_summary(attack["auc"], seeds=2)
            assert attack["tpr_at_fpr"] == {"0.01": None, "0.001": None}  # 30 scored non-members cannot say
        assert ("attack_accuracy_change" in method) == (name != "baseline")
    assert any("TPR at 1.0% FPR is refused" in note for note in results["notes"])


def test_reproduce_keeps_its_promises_about_sizes_and_pairing(reproduced):
    out, _ = reproduced
    methods = json.loads((out / "results.json").read_text())["methods"]
    weights = 64 * 256 + 256 * 128 + 128 * 10
    assert methods["baseline"]["nonzero"] == weights
    for name, keep in (("prune-0.3", 0.3), ("prune-0.1", 0.1), ("prune-0.1+minmax", 0.1)):
        assert methods[name]["nonzero"] == sum(int(keep * n) for n in (64 * 256, 256 * 128, 128 * 10))
        assert methods[name]["compression"] == pytest.approx(weights / methods[name]["nonzero"])
    assert methods["small-dense"]["nonzero"] <= methods["prune-0.3"]["nonzero"]
    assert methods["small-dense-0.1"]["nonzero"] <= methods["prune-0.1"]["nonzero"]
    for name in ("prune-0.1", "minmax"):
        ours, base = (methods[m]["strongest_attack_accuracy"]["values"] for m in (name, "baseline"))
        assert methods[name]["attack_accuracy_change"]["values"] == pytest.approx(np.subtract(ours, base))


def test_reproduce_records_curves_plots_and_a_report(reproduced):
    out, result = reproduced
    with h5py.File(out / "curves.h5") as curves:
        assert curves["baseline/loss"].shape == (2, 50)
        assert curves["minmax/adversary_loss"].shape == (2, 50)
        assert curves["prune-0.1/primal_residual"].shape == (2, 10)
    for name in ("accuracy.svg", "residuals.svg", "roc.svg", "adversary.svg", "report.html"):
        assert (out / name).stat().st_size > 1000
    assert "prune-0.1+minmax" in result.output
    assert not list(out.glob(".*"))  # nothing half-written is left


def test_report_makes_the_page_again_and_prints_the_same_table(reproduced, tmp_path):
    out, _ = reproduced
    for name in ("results.json", "curves.h5"):
        shutil.copy(out / name, tmp_path)
    result = run("report", tmp_path, "--markdown")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "report.html").read_bytes() == (out / "report.html").read_bytes()
    assert "| prune-0.1+minmax | 5,042 (10.0x) |" in result.stdout
    (tmp_path / "results.json").write_text("[1]")
    assert run("report", tmp_path).exit_code == 2
    for damage in ({"methods": []}, {"methods": {"baseline": {}}}, {"methods": None}):
        damaged = json.loads((out / "results.json").read_text()) | damage
        (tmp_path / "results.json").write_text(json.dumps(damaged))
        result = run("report", tmp_path)
        assert result.exit_code == 2, damage
        assert result.stderr.count("\n") == 1
    (tmp_path / "results.json").write_text("{")
    assert "not JSON" in run("report", tmp_path).stderr


def test_same_seeds_same_numbers(reproduced, tmp_path):
    out, _ = reproduced
    again = run("reproduce", "digits", "--out", tmp_path, "--keep", 0.3, "--keep", 0.1, *SMALL)
    assert again.exit_code == 0, again.output
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (out, tmp_path))
    assert first["methods"] == second["methods"]
    with h5py.File(out / "curves.h5") as a, h5py.File(tmp_path / "curves.h5") as b:
        assert np.array_equal(a["prune-0.1+minmax/loss"][()], b["prune-0.1+minmax/loss"][()])


def test_first_seed_and_weight_decay_reach_the_training(reproduced, tmp_path):
    out, _ = reproduced
    options = ["--minmax", 0, "--keep", 0.3, "--first-seed", 1, "--weight-decay", 0.01]
    result = run("reproduce", "digits", "--out", tmp_path, *options, *SMALL)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "results.json").read_text())["seeds"] == [1, 2]
    with h5py.File(out / "curves.h5") as plain, h5py.File(tmp_path / "curves.h5") as decayed:
        a, b = plain["baseline/loss"][1], decayed["baseline/loss"][0]  # both of seed 1
    assert a[0] == pytest.approx(b[0], rel=0.1)  # the same split and initial weights
    assert b[-1] > 1.2 * a[-1]  # held back by the decay


def test_piped_output_has_no_bars_and_no_colours(tmp_path):
    """As a process whose output goes to a pipe."""
    command = [sys.executable, "cli.py", "reproduce", "digits", "--out", tmp_path / "o", "--minmax", "0", *SMALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert all(" min" in line for line in done.stderr.splitlines())  # one line every 30 seconds says how far it is
    for text in (done.stdout, done.stderr):
        assert "\x1b" not in text
        assert "\r" not in text
    assert "minmax" not in json.loads((tmp_path / "o" / "results.json").read_text())["methods"]


def test_train_says_what_it_made(dense_model):
    _, result = dense_model
    last = result.output.splitlines()[-1]
    said = re.fullmatch(r"accuracy train [\d.]+% test [\d.]+% \(all ([\d,]+) held-out records\), nonzero .*", last)
    assert said[1] == "1,000"  # by the recipe; `attack` scores 300 of them
    assert "nonzero 50,432 of 50,432 weights, compression 1.0x" in last


def test_prune_prints_the_solvers_table_and_keeps_what_it_says(dense_model, tmp_path):
    path, _ = dense_model
    out = tmp_path / "pruned.h5"
    result = run("prune", path, "--keep", 0.1, "--out", out, "--iterations", 4, "--epochs", 8, "--retrain-epochs", 6)
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    columns = ["iter", "loss", "primal", "eps_pri", "dual", "eps_dual", "rho", "nonzero", "changed"]
    assert lines[0].split() == columns
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]
    assert "nonzero 5,042 of 50,432 weights, compression 10.0x" in lines[-2]
    said = re.fullmatch(
        r"leakage by threshold attacks \(300 members, 300 others\): accuracy ([\d.]+)% before, ([\d.]+)% after, "
        r"([-+]?[\d.]+) points \(95% paired interval (-?[\d.]+) to (-?[\d.]+)(, not .*)?\); guessing 50.0%",
        lines[-1],
    )
    before, after, change, low, high = (float(value) for value in said.groups()[:5])
    assert change == pytest.approx(after - before, abs=0.11)
    assert low < change < high
    assert bool(said[6]) == (low <= 0 <= high)
    theta = load_model(out).net.theta[0]
    stops = np.cumsum([0, 64 * 256, 256 * 128, 128 * 10])
    kept = [np.count_nonzero(theta[a:b]) for a, b in itertools.pairwise(stops)]
    assert kept == [1638, 3276, 128]  # floor(0.1 n) of each layer


def test_prune_with_a_ratio_for_each_layer_the_game_and_a_global_budget(dense_model, tmp_path):
    path, _ = dense_model
    short = ["--epochs", 3, "--iterations", 2, "--retrain-epochs", 2]
    each = run("prune", path, "--keep", "0.2,0.1,0.5", "--minmax", 1, "--out", tmp_path / "a.h5", *short)
    assert each.exit_code == 0, each.output
    assert f"nonzero {3276 + 3276 + 640:,} of" in each.output
    whole = run("prune", path, "--keep", 0.1, "--scope", "global", "--adaptive", "--out", tmp_path / "b.h5", *short)
    assert whole.exit_code == 0, whole.output
    assert "nonzero 5,043 of" in whole.output


def test_prune_uses_the_recipe_of_the_network(tmp_path, monkeypatch):
    monkeypatch.setitem(OF_NETWORK, "lenet-300-100", {"scope": "erk", "rates": 0.5})
    path, pruned = tmp_path / "model.h5", tmp_path / "pruned.h5"
    sizes = ["--members", 100, "--epochs", 1, "--network", "lenet-300-100"]
    assert run("train", "digits", "--out", path, *sizes).exit_code == 0
    result = run("prune", path, "--keep", 0.1, "--out", pruned, "--epochs", 1, "--iterations", 1)
    assert result.exit_code == 0, result.output
    step = load_model(pruned).steps[-1]
    assert step["scope"] == "erk"
    assert step["prune"]["lr"] == RECIPES["digits"].prune.lr / 2


def test_prune_via_a_larger_ratio_makes_the_iterations_twice(dense_model, tmp_path):
    path, _ = dense_model
    short = ["--epochs", 2, "--iterations", 2, "--retrain-epochs", 1]
    result = run("prune", path, "--keep", 0.1, "--via", 0.5, "--scope", "global", "--out", tmp_path / "a.h5", *short)
    assert result.exit_code == 0, result.output
    nonzero = [int(line.split()[7]) for line in result.stdout.splitlines() if re.match(r" +[12] +[0-9.]+ ", line)]
    assert nonzero == [25216, 25216, 5043, 5043]  # half of 50,432, then a tenth
    assert "nonzero 5,043 of" in result.output


def test_reproduce_with_full_attacks_and_one_budget_for_all_layers(tmp_path):
    """Shadow models against every method, in the results, the page and the documented format."""
    options = ["--keep", 0.1, "--scope", "global", "--minmax", 0, "--attacks", "full", "--shadows", 6]
    options += ["--methods", "baseline,prune-0.1,early-stop"]
    result = run("reproduce", "digits", "--out", tmp_path, *options, *SMALL)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["methods"]["prune-0.1"]["nonzero"] == 5043  # of all layers together: 5,042 if each kept a tenth
    for method in results["methods"].values():
        attacks = method["shadow_attacks"]
        assert {"lira_online", "rmia_offline", "difficulty", "network", "loss"} <= set(attacks)
        assert all(is_summary(attack["accuracy"], seeds=2) for attack in attacks.values())
    pruned = set(results["methods"]["prune-0.1"]["shadow_attacks"])
    assert {"lira_dense_and_pruned", "mask_alone", "lira_online (non-adaptive)"} <= pruned
    assert not any("plain" in name for name in results["methods"]["early-stop"]["shadow_attacks"])
    page = (tmp_path / "report.html").read_text()
    assert "Attacks with shadow models" in page
    assert "Are these results valid?" in page


def test_verify_passes_and_says_so():
    result = run("verify")
    assert result.exit_code == 0
    assert result.output.splitlines()[-1] == "all checks passed"


def test_verify_exits_with_1_where_a_check_fails(monkeypatch):
    from nanoprune.lab.layers import Tanh

    monkeypatch.setattr(Tanh, "backward", lambda self, dY, ws: dY)
    result = run("verify")
    assert result.exit_code == 1
    assert "FAILED" in result.output


def test_help_has_examples_and_the_exit_status(monkeypatch):
    monkeypatch.setattr("sys.argv", ["cli.py"])
    for command in ([], ["reproduce"], ["train"], ["prune"], ["shrink"], ["data", "fetch"]):
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert "python cli.py" in result.output
        assert "exit status" in " ".join(result.output.split())


BAD = {
    "unknown data set": (["reproduce", "nonsense"], "nonsense"),
    "unknown option": (["reproduce", "digits", "--nonsense"], "--nonsense"),
    "unknown command": (["nonsense"], "nonsense"),
    "keep above 1": (["reproduce", "digits", "--keep", "1.5"], "keep must lie in (0, 1], got 1.5"),
    "keep of 0": (["reproduce", "digits", "--keep", "0"], "keep must lie in (0, 1], got 0"),
    "negative keep": (["reproduce", "digits", "--keep=-0.1"], "keep must lie in (0, 1], got -0.1"),
    "keep is NaN": (["reproduce", "digits", "--keep", "nan"], "keep must lie in (0, 1], got nan"),
    "keep is a word": (["reproduce", "digits", "--keep", "some"], "some"),
    "keep twice": (["reproduce", "digits", "--keep", "0.1", "--keep", "0.1"], "once"),
    "keep of the wrong number of layers": (["reproduce", "digits", "--keep", "0.1,0.2", *SMALL], "3 ratios"),
    "too many members": (["reproduce", "digits", "--members", "5000"], "1797"),
    "all members of a set without": (["reproduce", "digits", "--members", "all"], "all"),
    "one member": (["reproduce", "digits", "--members", "1"], "members"),
    "members is a word": (["reproduce", "digits", "--members", "few"], "few"),
    "no seeds": (["reproduce", "digits", "--seeds", "0"], "seeds"),
    "negative lambda": (["reproduce", "digits", "--minmax=-1"], "minmax"),
    "unknown network": (["reproduce", "digits", "--network", "resnet"], "resnet"),
    "a network for images": (["reproduce", "digits", "--network", "lenet-5"], "images"),
    "unknown device": (["reproduce", "digits", "--device", "abacus"], "abacus"),
    "no threads": (["reproduce", "digits", "--threads", "0"], "threads"),
    "no data": (["reproduce", "mnist", "--data-dir", "nowhere"], "nowhere"),
    "no model": (["prune", "nowhere.h5", "--keep", "0.1", "--out", "o.h5"], "nowhere.h5"),
    "too few members for an attacker": (["reproduce", "digits", "--members", "6"], "4 of each"),
    "a game without a reference set": (["reproduce", "digits", "--minmax", "1", "--reference", "0"], "reference"),
    "a folder as the model file": (["train", "digits", "--out", "."], "is a folder"),
    "no results": (["report", "nowhere"], "nowhere"),
    "negative weight decay": (["reproduce", "digits", "--weight-decay=-1"], "weight_decay"),
    "nothing to fetch": (["data", "fetch", "nonsense"], "nonsense"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_line_and_status_2(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, named = BAD[case]
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert named in line
    assert not list(tmp_path.rglob("*.*"))  # no half-written file


@pytest.mark.parametrize(
    "content", [b"", b"not gzip", gzip.compress(b"\x00\x00\x08\x03", mtime=0), gzip.compress(b"x" * 99, mtime=0)]
)
def test_a_damaged_data_file_is_named(content, tmp_path):
    (tmp_path / "mnist").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "mnist" / f"{name}-ubyte.gz").write_bytes(content)
    result = run("reproduce", "mnist", "--data-dir", tmp_path, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "-ubyte.gz" in result.stderr
    assert not (tmp_path / "out").exists()


def test_fetch_from_a_server_and_use_what_it_brought(data_dir, tmp_path):
    handler = functools.partial(QuietHandler, directory=data_dir / "location30")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        mirror = f"http://127.0.0.1:{server.server_port}/"
        result = run("data", "fetch", "location30", "--data-dir", tmp_path, "--mirror", mirror)
        again = run("data", "fetch", "location30", "--data-dir", tmp_path, "--mirror", "http://127.0.0.1:9/")
    finally:
        server.shutdown()
        server.server_close()
    assert result.exit_code == 0, result.output
    assert "fetched and checked" in result.output
    assert again.exit_code == 0  # it is there: nothing is asked of the mirror
    out = tmp_path / "m.h5"
    result = run("train", "location30", "--data-dir", tmp_path, "--members", 60, "--epochs", 1, "--out", out)
    assert result.exit_code == 0, result.output


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_fetching_the_embedded_digits_needs_nothing(tmp_path):
    result = run("data", "fetch", "digits", "--data-dir", tmp_path)
    assert result.exit_code == 0
    assert "comes with nanoprune" in result.output


def test_gpu_without_one_is_refused(tmp_path):
    try:
        use_device("gpu")
    except DeviceError:
        use_device("cpu")
    else:
        use_device("cpu")
        pytest.skip("this machine has a GPU")
    result = run("reproduce", "digits", "--device", "gpu", "--out", tmp_path)
    assert result.exit_code == 2
    assert "device gpu: " in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    result = run("reproduce", "digits", "--out", tmp_path / "file" / "results")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_a_diverging_run_names_method_and_iteration_and_writes_nothing(tmp_path):
    result = run("train", "digits", "--lr", "1e18", "--out", tmp_path / "m.h5", "--epochs", "3")
    assert result.exit_code == 2
    assert "train: the loss of replica 0" in result.stderr
    assert "iteration" in result.stderr
    assert not list(tmp_path.iterdir())


def test_one_line_even_as_a_process_of_its_own(tmp_path):
    """Started from a shell, in another working folder."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, ROOT / "cli.py", "train", "digits"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: Missing option '--out'")
    assert done.stderr.count("\n") == 1

"""DP-SGD from the command line."""

import json

import pytest
from click.testing import CliRunner

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.experiment.methods import check_private
from nanoprune.lab.experiment.recipes import RECIPES
from nanoprune.lab.models.model import load_model

SMALL = ("--members", 60, "--reference", 60, "--nonmembers", 60, "--threads", 1)


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def test_reproduce_spends_and_reports_the_given_budget(tmp_path):
    rows = ("--epsilon", 6, "--delta", 1e-4, "--methods", "dp-6+magnitude-0.2")
    result = run("reproduce", "digits", "--out", tmp_path, "--seeds", 1, "--keep", 0.2, "--minmax", 0, *rows, *SMALL)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["methods"]) == ["baseline", "dp-6+magnitude-0.2"]
    privacy = results["methods"]["dp-6+magnitude-0.2"]["privacy"]
    assert 0.998 * 6 <= privacy["epsilon"] <= 6
    assert (privacy["delta"], privacy["clip"]) == (1e-4, RECIPES["digits"].private.clip)
    (note,) = (note for note in results["notes"] if note.startswith("dp-6+magnitude-0.2: "))
    assert "add or remove one record" in note
    assert note in result.output
    assert note.split("; ")[0] in (tmp_path / "report.html").read_text()
    assert 0 <= privacy["lower_bound"] < privacy["epsilon"]
    (check,) = (check for check in results["validity"] if check["name"] == "epsilon")
    assert check["outcome"] == "passed"
    assert "privacy" not in results["methods"]["baseline"]
    assert any(note.startswith("no epsilon covers the choice of recipe") for note in results["notes"])


def test_train_writes_the_budget_into_the_model(tmp_path):
    out = tmp_path / "private.h5"
    result = run("train", "digits", "--epsilon", 6, "--epochs", 4, "--clip", 0.5, "--out", out, *SMALL)
    assert result.exit_code == 0, result.output
    (step,) = load_model(out).steps
    assert step["step"] == "private"
    assert 0.998 * 6 <= step["privacy"]["epsilon"] <= 6
    assert step["privacy"]["clip"] == 0.5
    assert step["privacy"]["phases"][0]["steps"] == 4 * round(60 / RECIPES["digits"].private.batch)
    result = run("prune", out, "--keep", 0.5, "--out", tmp_path / "pruned.h5", "--threads", 1)
    assert result.exit_code == 2
    assert "trained with DP-SGD" in result.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--delta", 1e-6), "of which there are none: see --methods"),
        (("--clip", 1), "of which there are none: see --methods"),
        (("--epsilon", 2, "--methods", "baseline"), "of which there are none: see --methods"),
        (("--epsilon", 2, "--clip", -1), "clip must be positive"),
        (("--epsilon", 2, "--members", 20), "batch must lie in 1..records"),
        (("--shadows", 8), "shadows are for --attacks full"),
    ],
)
def test_reproduce_refuses_what_would_have_no_effect_or_fail_late(options, message, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "nanoprune.lab.workflow.reproduce.train_methods", lambda *_: pytest.fail("trained before it was refused")
    )
    result = run("reproduce", "digits", "--out", tmp_path / "o", *SMALL, *options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_a_network_that_mixes_records_has_no_methods_with_dpsgd():
    with pytest.raises(ArgumentError, match="resnet18 has BatchNorm"):
        check_private(RECIPES["cifar10"], "default,private")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--clip", 1), "give --epsilon"),
        (("--delta", 0), "give --epsilon"),
        (("--epsilon", 1, "--minmax", 1), "without the Min-Max game"),
        (("--epsilon", 0), "epsilon must be positive"),
        (("--epsilon", -1), "epsilon must be positive"),
        (("--epsilon", 1, "--epochs", 2), "epochs of DP-SGD must be at least 3"),
    ],
)
def test_train_refuses_what_is_not_private(options, message, tmp_path):
    result = run("train", "digits", "--out", tmp_path / "model.h5", *options, *SMALL)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "model.h5").exists()

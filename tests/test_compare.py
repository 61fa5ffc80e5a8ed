"""Several models audited on the same records: what is compared, how often it errs, and the command."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.attack.threshold import best_threshold
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit import Predictions, audit_predictions, compare, compare_predictions, read_predictions
from nanoprune.lab.audit.attack_choice import choose, scored_rows
from nanoprune.lab.audit.compare import paired
from nanoprune.lab.audit.prediction_attacks import folds, run_attacks
from nanoprune.lab.report import compare_table, compare_verdict, leakage_line, write_comparison_page
from nanoprune.lab.statistics import accuracy_difference


def model_files(folder, leaks, n=400, classes=4, seed=0):
    """Predictions of models for the same records, which leak as much as `leaks` says, by name."""
    rng = np.random.default_rng(seed)
    y, member = rng.integers(0, classes, n), rng.permutation(n) < n // 2
    base = rng.normal(size=(n, classes))
    for name, leak in leaks.items():
        z = base + 0.5 * rng.normal(size=(n, classes))
        z[np.arange(n), y] += 1 + leak * member * rng.exponential(1, n)
        np.savez(folder / name, target_logits=z, target_labels=y, target_member=member)
    return [folder / name for name in leaks]


def run(*arguments):
    return CliRunner().invoke(cli.main, [*map(str, arguments)], prog_name="nanoprune")


def test_models_that_leak_equally_are_told_apart_no_more_often_than_alpha():
    """The whole path: each one's attack is chosen and fitted by cross-fitting, then the two are compared."""
    rng, alpha, draws, n, errors = np.random.default_rng(0), 0.2, 60, 240, {}
    for _ in range(draws):
        y, member = rng.integers(0, 3, n), rng.permutation(n) < n // 2
        base, chosen = rng.normal(size=(n, 3)), []
        for _ in range(2):
            z = base + rng.normal(size=(n, 3))
            z[np.arange(n), y] += 1 + member * rng.exponential(1, n)
            target = predictions(z, y, member)
            parts = folds(target, None, np.random.default_rng(7))
            chosen.append(choose(run_attacks(target, parts, 0, 1, quick=True), scored_rows(parts)))
        found = paired(*chosen, member, alpha)
        for kind, entry in (found | found.pop("tpr_at_fpr")).items():
            if entry:
                errors[kind] = errors.get(kind, 0) + bool(entry["low"] > 0 or entry["high"] < 0)
    assert set(errors) == {"accuracy", "auc", "0.01"}
    assert max(errors.values()) <= draws * alpha + 4 * math.sqrt(draws * alpha * (1 - alpha)), errors


def told_apart(sides, leak, correlation, alpha, draws, seed=1):
    """How often two models that leak equally are told apart by thresholds alone, each half of the records attacked by
    those of the other: with what is due to the fit left out of the interval, and in it."""
    rng, errors, member = np.random.default_rng(seed), np.zeros(2, int), np.arange(sum(sides)) < sides[0]
    n, half, quarter = len(member), np.arange(len(member)) % 2 == 0, np.arange(len(member)) // 2 % 4
    for _ in range(draws):
        common, said, refitted = math.sqrt(correlation) * rng.normal(size=n), [], []
        for _ in range(2):
            s = common + math.sqrt(1 - correlation) * rng.normal(size=n) + leak * member * rng.exponential(1, n)
            decided = np.zeros((5, n), bool)  # by all records of the other half, and without each quarter of them
            for known in (half, ~half):
                for q in range(5):
                    rows = known & (quarter != q - 1)
                    decided[q, ~known] = s[~known] >= best_threshold(s[rows & member], s[rows & ~member])
            said.append(decided[0])
            refitted.append(decided[1:])
        for i, given in enumerate((None, tuple(refitted))):
            entry = accuracy_difference(*said, member, alpha, given)
            errors[i] += entry["low"] > 0 or entry["high"] < 0
    return errors


@pytest.mark.parametrize(
    ("sides", "leak", "correlation"),
    [((60, 60), 1.5, 0.0), ((200, 200), 0.7, 0.5), ((1000, 100), 0.5, 0.0), ((1000, 1000), 1.5, 0.0)],
)
def test_what_thresholds_owe_to_the_records_they_are_fitted_on_is_in_the_interval(sides, leak, correlation):
    """The rate of errors is at most alpha; with the fit left out more often than with it."""
    alpha, draws = 0.05, 400
    without, errors = told_apart(sides, leak, correlation, alpha, draws)
    assert errors <= draws * alpha + 3 * math.sqrt(draws * alpha * (1 - alpha)), errors
    assert without > errors


def test_the_benchmark_of_comparisons_runs():
    command = [sys.executable, "benchmarks/null_comparisons.py", "--draws", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("| 1,000 | 100 |") == 3


def predictions(z, y, member):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return Predictions(p / p.sum(axis=1, keepdims=True), y, member, logits=z)


def test_differences_are_of_the_figures_of_the_audits_themselves(tmp_path):
    models = {path.name: read_predictions(path) for path in model_files(tmp_path, {"a.npz": 2, "b.npz": 1, "c.npz": 0})}
    compared = compare_predictions(models, quick=True, seed=3)
    assert compared.first == "a.npz"
    assert list(compared.differences) == ["b.npz", "c.npz"]
    alone = {name: audit_predictions(*of, quick=True, seed=3) for name, of in models.items()}
    for name, found in compared.differences.items():
        before, after = (alone[of].results for of in ("a.npz", name))
        assert found["accuracy"]["value"] == pytest.approx(
            after["strongest"]["accuracy"]["value"] - before["strongest"]["accuracy"]["value"]
        )
        assert found["auc"]["value"] == pytest.approx(
            after["strongest"]["auc"]["value"] - before["strongest"]["auc"]["value"]
        )
        assert found["test_accuracy"] == pytest.approx(after["test_accuracy"] - before["test_accuracy"])
    c = compared.differences["c.npz"]
    assert c["accuracy"]["high"] < 0
    pair = compare({name: alone[name] for name in ("a.npz", "c.npz")}).differences["c.npz"]
    width = {kind: pair[kind]["high"] - pair[kind]["low"] for kind in ("accuracy", "auc")}
    assert all(c[kind]["high"] - c[kind]["low"] > width[kind] for kind in width)  # alpha is shared by two models
    assert json.loads(json.dumps(compared.to_dict(), allow_nan=False))["first"] == "a.npz"
    assert set(compared.curves) == set(models)


@pytest.fixture
def two(tmp_path):
    return model_files(tmp_path, {"dense.npz": 2.5, "pruned.npz": 0.3})


def changed(path, **arrays):
    with np.load(path) as file:
        contents = dict(file)
    np.savez(path, **contents | {name: change(contents[name]) for name, change in arrays.items()})


def test_other_records_are_refused_in_one_line_that_says_what_differs(two, tmp_path):
    first, second = two
    whole = second.read_bytes()
    for arrays, named in (
        (
            {"target_labels": lambda y: np.where(np.arange(400) == 17, (y + 1) % 4, y)},
            "label differs from dense.npz in 1",
        ),
        (
            {"target_member": lambda m: np.where(np.isin(np.arange(400), (5, 9)), ~m, m)},
            "member differs from dense.npz",
        ),
        ({name: lambda a: a[:300] for name in ("target_logits", "target_labels", "target_member")}, "has 300 records"),
    ):
        second.write_bytes(whole)
        changed(second, **arrays)
        result = run("audit", first, second, "--quick")
        assert result.exit_code == 2
        (line,) = result.stderr.splitlines()
        assert named in line
        assert "the same records in the same order" in line
    with pytest.raises(DataError, match="first in row 17 "):
        relabelled(first, tmp_path)
    for files, named in (([first, first], "named twice"), ([], "SCORES")):
        result = run("audit", *files, "--quick")
        assert (result.exit_code, named in result.stderr) == (2, True)
    with pytest.raises(ArgumentError, match="at least two"):
        compare({})


def relabelled(path, folder):
    other = folder / "other.npz"
    other.write_bytes(path.read_bytes())
    changed(other, target_labels=lambda y: np.where(np.arange(400) == 17, (y + 1) % 4, y))
    compare_predictions({"a": read_predictions(path), "b": read_predictions(other)}, quick=True)


def test_files_with_and_without_a_shadow_are_not_compared(two):
    (first, _), (second, _) = (read_predictions(path) for path in two)
    shadow, _ = read_predictions(two[0])
    with pytest.raises(DataError, match="some files have shadow predictions and some have none"):
        compare_predictions({"a": (first, shadow), "b": (second, None)}, quick=True)


def test_the_command_compares(two, tmp_path):
    out, page = tmp_path / "c.json", tmp_path / "c.html"
    result = run("audit", *two, "--quick", "--json", out, "--report", page)
    assert result.exit_code == 0, result.output
    said = result.stdout.splitlines()[0]
    assert said.startswith("pruned.npz leaks less than dense.npz: the strongest attack's accuracy is ")
    results = json.loads(out.read_text())
    assert set(results) == {"alpha", "first", "differences", "audits", "sources", "command"}
    assert set(results["sources"]) == {"dense.npz", "pruned.npz"}
    assert results["audits"]["dense.npz"]["verdict"]["degree"] in ("clear", "severe")
    text = page.read_text()
    assert text.count("<svg") == 1
    assert f"{said[:60]}" in text.replace("&#39;", "'")
    for name in ("dense.npz", "pruned.npz"):
        assert f'<th scope="row">{name}</th>' in text
    assert str(tmp_path) not in text + out.read_text()
    assert run("audit", *two, "--json", two[0], "--overwrite").exit_code == 2  # not over what is read


def test_equal_models_are_not_called_different(tmp_path):
    first, second = model_files(tmp_path, {"a.npz": 1, "b.npz": 1}, seed=4)
    changed(second, target_logits=lambda z: np.load(first)["target_logits"] + 1e-9 * z)
    compared = compare_predictions({p.name: read_predictions(p) for p in (first, second)}, quick=True).to_dict()
    assert compare_verdict(compared)[0].startswith("b.npz shows no detectable difference from a.npz: ")
    assert "not distinguishable from no change" in leakage_line(compared)


def test_names_are_text_and_no_markup(two, tmp_path):
    """Names of files are foreign text on the page and in the terminal."""
    models = dict(zip(("<b>x</b>$", "[red]y[/red]"), map(read_predictions, two), strict=True))
    compared = compare_predictions(models, quick=True)
    write_comparison_page(compared.to_dict(), compared.curves, tmp_path / "a.html")
    assert "<b>x" not in (tmp_path / "a.html").read_text()
    assert len(compare_table(compared.to_dict()).rows) == 2


def test_fail_on_looks_at_what_is_compared_not_at_the_first(tmp_path):
    leaky, tight, between = model_files(tmp_path, {"leaky.npz": 4, "tight.npz": 0, "clear.npz": 1.5}, n=600, seed=5)
    for files, degree, status in (
        ([leaky], "slight", 3),
        ([leaky], "severe", 3),
        ([tight], "slight", 0),
        ([leaky, tight], "slight", 0),
        ([tight, leaky], "clear", 3),
        ([between], "slight", 3),
        ([between], "clear", 3),  # at the degree itself
        ([between], "severe", 0),
    ):
        result = run("audit", *files, "--quick", "--fail-on", degree)
        assert result.exit_code == status, result.output
        assert ("exit status 3" in result.stderr) == (status == 3)
    member = np.load(tight)["target_member"]
    twins = {name: np.load(tight)[name] for name in ("target_logits", "target_labels")}
    for values in twins.values():
        values[~member] = values[member]
    changed(tight, **{name: lambda _, values=values: values for name, values in twins.items()})
    void = run("audit", tight, "--quick", "--fail-on", "severe")
    assert "void" in void.stderr
    assert void.exit_code == 3


def test_json_on_standard_output_is_alone_there(two):
    for files in (two[:1], two):
        result = run("audit", *files, "--quick", "--json", "-")
        assert result.exit_code == 0, result.output
        assert "verdict" in (
            json.loads(result.stdout) if len(files) == 1 else json.loads(result.stdout)["audits"]["dense.npz"]
        )
        assert "strongest attack" in result.stderr

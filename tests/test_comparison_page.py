"""Sweeps as tables: methods less their controls, every attack at one accuracy; docs/comparison.md is of the sweeps."""

import json
import pathlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nanoprune.lab.experiment.pareto import Family, differences, front
from nanoprune.lab.report.equal_accuracy import attack_table, control_table, most_reached, setting_table

ROOT = pathlib.Path(__file__).parents[1]
SEEDS = 5


def swept(points):
    """A sweep of {family: [(test, attack), ...]}; seeds differ a little, and the attack "label_only" has half."""
    rng = np.random.default_rng(0)
    families, records = [], []
    for name, of in points.items():
        noise = 1e-3 * rng.standard_normal((2, len(of), SEEDS))
        test, attack = np.array(of).T[..., None] + noise  # (settings, seeds)
        families.append(Family(name, "keep", tuple(map(str, range(len(of)))), test, attack))
        records.append(
            {
                "name": name,
                "hyperparameter": "keep",
                "front": front(test.mean(axis=1), attack.mean(axis=1)).tolist(),
                "left_out": {},
                "points": [
                    {
                        "setting": str(i),
                        "test_accuracy": t.tolist(),
                        "attack_accuracy": a.tolist(),
                        "attacks": {"confidence": a.tolist(), "label_only": (a / 2).tolist(), "entropy (max)": [0]},
                    }
                    for i, (t, a) in enumerate(zip(test, attack, strict=True))
                ],
            }
        )
    return {"families": records, "differences": differences(families)}


def rows(table):
    return {
        cells[0]: cells[1:]
        for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:])
    }


LINES = {  # leaks 0.1 less than early stopping at every accuracy; 0.3 more; elsewhere
    "early-stop": [(0.4, 0.6), (0.6, 0.8)],
    "prune": [(0.4, 0.5), (0.6, 0.7)],
    "worse": [(0.4, 0.9), (0.6, 1.1)],
    "useless": [(0.1, 0.5), (0.2, 0.6)],
    "alone": [(0.5, 0.5)],
}


def test_differences_are_of_the_method_less_its_control_whatever_their_order():
    for order in (list(LINES), list(reversed(LINES))):
        found = rows(control_table(swept({name: LINES[name] for name in order})))
        assert [float(found[name][3].split()[0]) for name in ("prune", "worse")] == pytest.approx([-10, 30], abs=0.2)
        assert float(found["early-stop"][4].split()[0]) == pytest.approx(10, abs=0.2)
        low, high = (float(x) for x in found["prune"][3].split("(")[1].strip(")").split(" to "))
        assert low < float(found["prune"][3].split()[0]) < high
        assert found["useless"][3:5] == ["-", "-"]
        assert found["alone"][3:5] == ["-", "-"]
        assert found["prune"][4] == "-"
        assert list(found)[:2] == ["prune", "worse"]  # by the difference to early stopping, those without one last


def test_a_difference_whose_interval_contains_zero_is_marked():
    same = {"early-stop": LINES["early-stop"], "prune": LINES["early-stop"]}
    assert "n.s." in rows(control_table(swept(same)))["prune"][3]


def test_the_ends_of_a_front_are_those_of_its_settings_that_are_not_beaten():
    found = rows(control_table(swept({"early-stop": [(0.4, 0.6), (0.6, 0.8), (0.5, 0.9)]})))
    assert found["early-stop"][:3] == ["keep 0 1 2", "40.0 to 60.0", "60.0 to 80.0"]


def test_every_attack_is_interpolated_at_one_accuracy():
    level, table = attack_table(swept(LINES))
    assert level == pytest.approx(0.6, abs=2e-3)
    assert table.splitlines()[0] == "| method | strongest | confidence | label only |"
    found = rows(table)
    assert set(found) <= {"early-stop", "prune", "worse"}
    for name, cells in found.items():
        at = 100 * dict(LINES[name])[0.6]
        np.testing.assert_allclose([float(cell) for cell in cells], [at, at, at / 2], atol=0.3)


def test_settings_are_paired_by_seed_with_the_schedule_and_with_early_stopping_where_it_is_most_accurate():
    points = {"early-stop": [(0.4, 0.6), (0.6, 0.8), (0.5, 0.7)], "prune": [(0.58, 0.7)], "prune-1": [(0.62, 0.9)]}
    found = swept(points)
    table = setting_table(found)
    assert "early stopping after 1 epochs" in table
    (cells,) = rows(table).values()
    by_name = {of["name"]: of["points"] for of in found["families"]}
    for i, control in ((0, by_name["prune-1"][0]), (2, by_name["early-stop"][1])):
        for j, of in enumerate(("attack_accuracy", "test_accuracy")):
            d = 100 * np.subtract(by_name["prune"][0][of], control[of])
            half = stats.ttest_1samp(d, 0).confidence_interval().high - d.mean()
            value, spread = (float(x) for x in cells[i + j].removesuffix(" n.s.").split(" ± "))
            assert value == pytest.approx(d.mean(), abs=0.06)
            assert spread == pytest.approx(half, abs=0.06)
    assert setting_table(swept({"early-stop": [(0.4, 0.6)]})) == ""
    points["early-stop"] += [
        (0.594, 0.7),
        (0.58, 0.5),
    ]  # within a point of the best; further away
    assert "early stopping after 3 epochs" in setting_table(swept(points))


ENDS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(sorted), min_size=1, max_size=8)


@settings(deadline=None)
@given(ENDS)
def test_the_accuracy_is_the_highest_that_most_fronts_reach(ends):
    families = [
        {"front": [0, 1], "points": [{"test_accuracy": [low, low]}, {"test_accuracy": [high, high]}]}
        for low, high in ends
    ]

    def reached(level):
        return sum(low <= level <= high for low, high in ends)

    levels = np.arange(0, 20.5, 0.5)
    most = max(map(reached, levels))
    assert most_reached(families) == max(level for level in levels if reached(level) == most)


def test_attacks_of_results_folders_are_kept_together(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import comparison_page

    monkeypatch.setattr(comparison_page, "SWEEPS", tmp_path)
    for i, method in enumerate(("baseline", "prune-0.1")):
        accuracies = dict.fromkeys(comparison_page.ATTACKS, 0.6 - i / 10) | {
            "mask_alone": 0.9,
            "rmia (non-adaptive)": 1.0,
        }
        attacks = {
            name: {"accuracy": {"values": [of]}, "tpr_at_fpr": {"0.01": {"values": [of / 10]}}}
            for name, of in accuracies.items()
        }
        entry = {"test_accuracy": {"values": [0.8]}, "shadow_attacks": attacks}
        results = {"dataset": "digits", "command": f"command {i}", "methods": {method: entry}}
        (tmp_path / "results.json").write_text(json.dumps(results))
        comparison_page.keep(tmp_path)
    text = comparison_page.shadow_section(json.loads((tmp_path / "shadows-digits.json").read_text()))
    assert text.startswith("    command 0\n    command 1\n\n")
    table = rows(text.split("\n\n")[1])
    assert list(table) == ["prune-0.1", "baseline"]  # what is found least first; not by who has more than the outputs
    assert [cells[:3] for cells in table.values()] == [["80.0", "5.0", "50.0"], ["80.0", "6.0", "60.0"]]


def test_the_page_is_of_the_sweeps_and_the_notes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import comparison_page

    assert comparison_page.PAGE.read_text() == comparison_page.page()
    assert "TABLES" not in comparison_page.PAGE.read_text()

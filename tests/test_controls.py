"""Each method beside its controls in the results, the tables and the report."""

import numpy as np
import pytest

from nanoprune.lab.experiment.methods import Method
from nanoprune.lab.experiment.results import with_changes
from nanoprune.lab.report.controls import control_rows, controls_table, markdown_controls
from nanoprune.lab.report.schema import METHOD, faults
from nanoprune.lab.report.table import table_caption, table_rows
from nanoprune.lab.statistics import summary


def entry(attack, test):
    return {"strongest_attack_accuracy": summary(attack), "test_accuracy": summary(test)}


METHODS = {
    "baseline": entry([0.80, 0.82, 0.81], [0.60, 0.62, 0.61]),
    "prune-1": entry([0.79, 0.80, 0.795], [0.61, 0.62, 0.62]),
    "prune-0.1": entry([0.70, 0.71, 0.70], [0.61, 0.62, 0.61]),
}
WANTED = [
    Method("prune-1", None, controls=(("baseline", "the schedule"),)),
    Method("prune-0.1", None, controls=(("prune-1", "pruning"), ("magnitude-0.1", "ADMM"))),
]


def test_changes_are_paired_with_the_controls_that_ran():
    found = with_changes(METHODS, WANTED)
    assert "controls" not in found["baseline"]
    assert list(found["prune-0.1"]["controls"]) == ["prune-1"]  # magnitude-0.1 was not asked for
    of = found["prune-0.1"]["controls"]["prune-1"]
    assert of["difference"] == "pruning"
    np.testing.assert_allclose(of["attack_accuracy_change"]["values"], [-0.09, -0.09, -0.095])
    np.testing.assert_allclose(of["test_accuracy_change"]["values"], [0.0, 0.0, -0.01])
    controls = {"controls": found["prune-0.1"]["controls"]}
    assert not list(faults(controls, {"controls": METHOD["controls"]}))
    controls["controls"]["prune-1"]["difference"] = 3
    assert list(faults(controls, {"controls": METHOD["controls"]}))


def results(seeds=3):
    rest = {"weights": 10, "nonzero": 10, "compression": 1.0, "train_accuracy": None, "strongest_attack": "confidence"}
    methods = {name: rest | of for name, of in with_changes(METHODS, WANTED).items()}
    return {"dataset": "d", "network": "n", "seeds": list(range(seeds)), "methods": methods}


def test_tables_name_the_controls_and_mark_changes_whose_interval_holds_zero():
    rows = control_rows(results())
    assert [row[:3] for row in rows] == [("prune-1", "baseline", "the schedule"), ("prune-0.1", "prune-1", "pruning")]
    for row, (name, control) in zip(rows, (("prune-1", "baseline"), ("prune-0.1", "prune-1")), strict=True):
        of = results()["methods"][name]["controls"][control]
        for cell, change in zip(row[3:], (of["attack_accuracy_change"], of["test_accuracy_change"]), strict=True):
            assert cell.endswith("n.s.") == (change["low"] <= 0 <= change["high"])
    assert any("n.s." in cell for row in rows for cell in row)
    assert not all("n.s." in row[3] for row in rows)
    assert len(controls_table(results()).rows) == 2
    assert len(markdown_controls(results()).strip().splitlines()) == 4
    without = results()
    for of in without["methods"].values():
        of.pop("controls", None)
    assert controls_table(without) is None


@pytest.mark.parametrize(("seeds", "said"), [(2, "12.7 standard errors"), (3, "4.3"), (4, "3.2"), (5, None), (8, None)])
def test_fewer_than_five_seeds_are_marked_as_weak_evidence(seeds, said):
    caption = table_caption(results(seeds))
    assert ("seeds are wide" in caption) == (said is not None)
    assert said is None or said in caption


def test_the_caption_explains_the_mark_where_it_is_used():
    found = results()
    assert "n.s.: not significant" in table_caption(found)  # prune-0.1's accuracy, or another
    for of in found["methods"].values():
        of.pop("controls", None)
        if "attack_accuracy_change" in of:
            of["attack_accuracy_change"] = summary([-0.1, -0.11, -0.1])
    assert "n.s." not in table_caption(found)
    assert not any("n.s." in cell for row in table_rows(found) for cell in row)

"""Sweeps as tasks: what is gathered from them is what a plain sweep measures, and other files are refused."""

import dataclasses
import json
import pathlib

import pytest
from click.testing import CliRunner

import cli
from benchmarks import pareto
from nanoprune.attack import network
from nanoprune.errors import ArgumentError, DataError, DivergenceError
from nanoprune.lab.data import load
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.experiment.sweep import Sweep, chosen_sweeps
from nanoprune.lab.storage.checkpoint import write_checkpoint
from nanoprune.lab.tasks import sweep as tasks
from nanoprune.lab.tasks.perform import perform
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.tasks.sweep import BASELINE, GatheredFamilies, family_tasks, read_family

WORDS = ["digits", "--seeds", "2", "--members", "40", "--reference", "20", "--nonmembers", "40", "--epochs", "3", "10"]
WORDS += ["2", "--keep", "0.3", "--lambdas", "1", "2", "--families", "early-stop,prune,minmax", "--threads", "1"]
PATIENCE = network.PATIENCE


@pytest.fixture(scope="module", autouse=True)
def _impatient():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "PATIENCE", network.MIN_PATIENCE)
        yield


def content(folder: pathlib.Path) -> dict:
    return {
        name: of for name, of in json.loads((folder / "pareto-digits.json").read_text()).items() if name != "command"
    }


def test_gathered_from_tasks_the_measurements_are_those_of_a_plain_sweep(tmp_path, capsys, monkeypatch):
    """Where `task` performed them; gathering performs nothing again."""
    monkeypatch.setattr(pareto, "show", lambda *_: None)  # there is no figure of so few epochs
    pareto.main([*WORDS, "--out", str(tmp_path / "plain")])
    pareto.main([*WORDS, "--plan", str(tmp_path / "plan")])
    assert "task-0.json to task-5.json" in capsys.readouterr().out  # three families, two seeds
    store = tmp_path / "store"
    files = [str(path) for path in (tmp_path / "plan").iterdir()]
    result = CliRunner().invoke(cli.main, ["task", *files, "--store", str(store)])
    assert result.exit_code == 0, result.output
    before = {path.name: path.stat().st_mtime_ns for path in store.iterdir()}
    pareto.main([*WORDS, "--out", str(tmp_path / "gathered"), "--store", str(store)])
    assert {path.name: path.stat().st_mtime_ns for path in store.iterdir()} == before
    assert content(tmp_path / "gathered") == content(tmp_path / "plain")
    assert sum(len(family["points"]) for family in content(tmp_path / "plain")["families"]) > 4


def test_an_executor_performs_the_tasks_that_the_store_lacks(tmp_path, monkeypatch):
    """By worker processes, which are as patient as the module is; a task that was performed before is kept."""
    monkeypatch.setattr(network, "PATIENCE", PATIENCE)
    monkeypatch.setattr(pareto, "show", lambda *_: None)
    few = [*WORDS, "--families", "prune"]
    words = [*few, "--store", str(tmp_path / "store")]
    with pytest.raises(ArgumentError, match=r"^--executor must be local, mpi, .*, got ray$"):
        pareto.main([*words, "--out", str(tmp_path / "none"), "--executor", "ray"])
    pareto.main([*words, "--plan", str(tmp_path / "plan")])
    first = str(tmp_path / "plan" / "task-0.json")
    result = CliRunner().invoke(cli.main, ["task", first, "--store", str(tmp_path / "store")])
    assert result.exit_code == 0, result.output
    (kept,) = (tmp_path / "store").iterdir()
    before = kept.stat().st_mtime_ns
    pareto.main([*words, "--out", str(tmp_path / "gathered"), "--executor", "local", "--threads", "2"])
    assert len(list((tmp_path / "store").iterdir())) == 2
    assert kept.stat().st_mtime_ns == before
    pareto.main([*few, "--out", str(tmp_path / "plain")])
    assert content(tmp_path / "gathered") == content(tmp_path / "plain")


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def some_tasks(digits, families=("minmax",)):
    recipe = recipe_for(digits, 40, network="mlp", reference=20, nonmembers=40)
    plan = dataclasses.replace(recipe.dense, epochs=2)
    recipe = dataclasses.replace(recipe, dense=plan, prune=plan, retrain=plan)
    return recipe, family_tasks(digits, recipe, [0, 1], families, [0.3], [1.0, 2.0])


def test_a_setting_that_diverges_is_left_out_with_its_reason(digits, tmp_path, monkeypatch):
    recipe, of = some_tasks(digits)

    def train(experiment, baseline, setting):
        if setting == 2.0 and experiment.seeds == [1]:
            raise DivergenceError("minmax: seed 1: its loss is not finite")
        return experiment.dense("minmax", lam=setting)

    monkeypatch.setattr(tasks, "chosen_sweeps", lambda *_: [Sweep("minmax", "lambda", (1.0, 2.0), train)])
    store = Store(tmp_path)
    for task in of:
        store.put(task, perform(task.text))
    gathered = GatheredFamilies(of, [(store.path(task), store.read(task)) for task in of])
    (sweep,) = chosen_sweeps(recipe, ["minmax"], [0.3], [1.0, 2.0])
    assert gathered.left_out(sweep, 1.0) is None
    assert gathered.left_out(sweep, 2.0) == "minmax: seed 1: its loss is not finite"
    assert gathered.left_out(sweep, BASELINE) is None
    gathered.checkpoints(sweep, 1.0)
    with pytest.raises(DataError, match="has no 2; delete it"):
        gathered.checkpoints(sweep, 2.0)


def test_families_with_noise_are_no_tasks(digits):
    with pytest.raises(ArgumentError, match=r"the noise of dp\+synflow-0.05 is never repeated"):
        some_tasks(digits, ("prune", "dp+synflow-0.05"))


@pytest.mark.parametrize(
    ("about", "parts", "reason"),
    [
        ({"task": "another", "left_out": {}}, {BASELINE: {}}, "another task"),
        ({"task": "this"}, {BASELINE: {}}, "not those of a sweep"),
        ({"task": "this", "left_out": {"1": 2}}, {BASELINE: {}}, "not those of a sweep"),
        ({"task": "this", "left_out": {}}, {"1": {}}, "not those of a sweep"),
        ({"task": "this", "left_out": {}}, {BASELINE: {"dense": {"0-1": {"replicas": [0]}}}}, "its parts are not"),
    ],
)
def test_a_file_that_is_no_result_is_refused_by_name(about, parts, reason, tmp_path):
    path = tmp_path / "result.h5"
    write_checkpoint(path, about, parts)
    with pytest.raises(DataError, match=f"result.h5: .*{reason}"):
        read_family(path, "this")


@pytest.mark.parametrize(
    ("field", "value"), [("family", 3), ("keeps", [0.1, "x"]), ("keeps", 0.1), ("lambdas", [True]), ("seed", -1)]
)
def test_a_task_with_a_field_of_another_kind_is_refused(field, value, digits, tmp_path):
    path = tmp_path / "task.json"
    path.write_text(json.dumps(some_tasks(digits)[1][0].content | {field: value}))
    result = CliRunner().invoke(cli.main, ["task", str(path), "--store", str(tmp_path / "store")])
    assert result.exit_code == 2
    assert f"{field} is " in result.stderr

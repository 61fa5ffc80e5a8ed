"""The comparison as tasks, one for each seed: gathered, they are the run that trains all seeds together."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from test_resume import comparable, quick, small_attackers  # noqa: F401  the fixture makes attack networks small

import cli
import nanoprune.lab.experiment.evaluate
import nanoprune.lab.experiment.shard
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import load
from nanoprune.lab.engine.run_folder import Run
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.recipe_file import write_recipe
from nanoprune.lab.experiment.results import write_results
from nanoprune.lab.experiment.shard import Shard
from nanoprune.lab.storage.checkpoint import read_checkpoint, write_checkpoint
from nanoprune.lab.storage.hdf5 import Sparse
from nanoprune.lab.tasks.comparison import read_parts, seed_tasks
from nanoprune.lab.tasks.fleet import Fleet
from nanoprune.lab.tasks.perform import Machine, perform
from nanoprune.lab.tasks.task import Task, canonical, read_task
from nanoprune.lab.workflow.reproduce import reproduce

SEEDS = [4, 5, 6]
METHODS = "default,validation-stop,relaxloss,memguard,snip-0.3,gradual-0.3,rewind-0.3,distil-0.3,selena,past,alps-0.3"


@pytest.fixture(scope="module")
def digits():
    return load("digits")


@pytest.fixture(scope="module")
def recipe():
    return quick(keep=(0.3, 0.2), minmax=1.0)


@pytest.fixture(scope="module")
def store(digits, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    perform_all(digits, recipe, folder)
    return folder


def perform_all(digits, recipe, folder, methods=METHODS):
    with Fleet(folder, "local", 1, Machine()) as fleet:
        return fleet.gather(seed_tasks(digits, recipe, SEEDS, methods), Progress())


def compared(digits, recipe, folder, gathered=None, methods=METHODS):
    """The results, and every byte of the curves, of a run in `folder`."""
    with Run(folder) as run:
        results, curves = reproduce(digits, recipe, SEEDS, 1, run=run, methods=methods, gathered=gathered)
    write_results(results, curves, folder)
    return comparable(results), (folder / "curves.h5").read_bytes()


def no_training(monkeypatch):
    for module, name in (
        (nanoprune.lab.experiment.shard, "train"),
        (nanoprune.lab.experiment.evaluate, "fit_attack_network"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("trained again"))


def test_gathered_seeds_are_the_run_of_all_seeds(digits, recipe, store, tmp_path, monkeypatch):
    expected = compared(digits, recipe, tmp_path / "whole")
    no_training(monkeypatch)
    assert compared(digits, recipe, tmp_path / "gathered", perform_all(digits, recipe, store)) == expected


def test_early_stopping_ends_its_curves(digits, recipe, store):
    """Seeds stop at epochs of their own: what a curve has beyond is no part of the network."""
    found = Experiment(digits, recipe, SEEDS, 1).stopped_after("early-stop", np.array([1, 3, 2]))
    expected = np.array([[False, True, True], [False, False, False], [False, False, True]])
    for name in ("loss", "test_accuracy"):
        np.testing.assert_array_equal(np.isnan(found.curves[name]), expected)


LOST = {"baseline": "baseline", "a later method": "prune+minmax"}


@pytest.mark.parametrize("case", LOST)
def test_a_seed_that_diverges_is_dropped_from_all_methods(case, digits, tmp_path, monkeypatch):
    recipe, methods = quick(keep=(0.3, 0.2), minmax=1.0, via=()), "default,magnitude-0.3"
    usual = Shard.__post_init__

    def spoilt(self):
        usual(self)
        for r in np.flatnonzero(np.array(self.seeds) == 5)[-1:] if self.method == LOST[case] else ():
            self.net.theta[r] = 1e30  # of one ratio alone, where there are several

    monkeypatch.setattr(Shard, "__post_init__", spoilt)
    expected = compared(digits, recipe, tmp_path / "whole", methods=methods)
    gathered = perform_all(digits, recipe, tmp_path / "parts", methods)
    found = compared(digits, recipe, tmp_path / "gathered", gathered, methods)
    assert [(of["seed"], of["method"]) for of in found[0]["dropped"]] == [(5, LOST[case])]
    assert without_reasons(found[0]) == without_reasons(expected[0])
    assert found[1] == expected[1]


def without_reasons(results):
    """A reason has the number of the first replica that diverged in its shard, whose size depends on the engine."""
    notes = [note for note in results["notes"] if "dropped" not in note]
    return results | {"dropped": [of | {"reason": ""} for of in results["dropped"]], "notes": notes}


def test_a_task_is_the_same_for_any_number_of_seeds(digits, recipe):
    three = seed_tasks(digits, recipe, SEEDS, METHODS)
    more = seed_tasks(digits, dataclasses.replace(recipe, seeds=20), range(4, 24), METHODS)
    assert [task.text for task in three] == [task.text for task in more[:3]]
    assert len({task.sha256 for task in more}) == 20


def test_private_methods_are_no_tasks(digits, recipe):
    with pytest.raises(ArgumentError, match=r"the noise of dp-8 is never repeated"):
        seed_tasks(digits, recipe, SEEDS, "baseline,private")


def test_results_of_other_tasks_and_damaged_ones_are_refused(digits, recipe, store, tmp_path):
    folder = tmp_path / "parts"
    shutil.copytree(store, folder)
    tasks = seed_tasks(digits, recipe, SEEDS, METHODS)
    with Fleet(folder, "local", 1, Machine()) as fleet:
        first, second, third = (fleet.store.path(task) for task in tasks)
        shutil.copy(first, second)
        with pytest.raises(DataError, match=f"{second.name}: is the result of another task"):
            fleet.gather(tasks, Progress())
        third.write_bytes(first.read_bytes()[:-1000])
        with pytest.raises(DataError, match=third.name):
            fleet.gather([tasks[0], tasks[2]], Progress())


def test_networks_that_were_trained_otherwise_are_refused(digits, recipe, store, tmp_path, monkeypatch):
    """The comparison has a stronger game than the tasks whose results it is given."""
    gathered = perform_all(digits, recipe, store)
    no_training(monkeypatch)
    stronger = dataclasses.replace(recipe, minmax=2.0)
    with pytest.raises(DataError, match=r"\.h5: has a minmax that was trained otherwise: made was .*; delete it$"):
        compared(digits, stronger, tmp_path / "gathered", gathered)


DAMAGED = {
    "a replica is missing": lambda shards: shards["0-1"]["replicas"].clear(),
    "rows of more replicas": lambda shards: shards["0-1"]["net"].update(theta=np.zeros((2, 5), np.float32)),
    "no curves": lambda shards: shards["0-1"].pop("curves"),
    "another name": lambda shards: shards.update({"all": shards.pop("0-1")}),
    "not how it was trained": lambda shards: shards["0-1"].pop("made"),
    "how another number was trained": lambda shards: shards["0-1"]["made"].append([]),
    "no record": lambda shards: shards.update({"0-1": 7}),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_parts_that_no_task_makes_are_refused(case, digits, recipe, store, tmp_path):
    """Whole files, with their hash, of somebody who can write into the store."""
    (task,) = seed_tasks(digits, recipe, [4], METHODS)
    about, parts = read_checkpoint(store / f"{task.sha256}.h5")
    DAMAGED[case](parts["baseline"])
    write_checkpoint(tmp_path / "x.h5", about, {"baseline": dense(parts["baseline"])})
    with pytest.raises(DataError, match=r"x\.h5: its parts are not those of a comparison"):
        read_parts(tmp_path / "x.h5", task.text)


def dense(state):
    """The same with sparse arrays expanded, as they are written."""
    if isinstance(state, dict):
        return {name: dense(of) for name, of in state.items()}
    return state.dense() if isinstance(state, Sparse) else state


CHANGES = {
    "other records": ({"data_sha256": "0" * 64}, "digits has other records"),
    "an unknown field of the recipe": ({"recipe": {"colour": "red"}}, "a recipe has no colour"),
    "a value of another type": ({"recipe": {"scope": 7}}, "scope is 7, expected a text"),
    "a path for a data set": ({"dataset": "/etc/passwd"}, "name its file with --data"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_does_not_fit_is_refused_before_any_training(case, digits, recipe, monkeypatch):
    changes, said = CHANGES[case]
    (task,) = seed_tasks(digits, recipe, [4], "baseline")
    no_training(monkeypatch)
    with pytest.raises(DataError, match=said):
        perform(canonical(task.content | changes))


FIELDS = {
    "methods": (7, "methods is 7"),
    "seed": (-1, "seed is -1"),
    "recipe": ([], "recipe is"),
    "table": ("x", "table is"),
    "extra": (1, "extra is not a field"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_files_that_are_no_tasks_are_refused_by_field(name, digits, recipe, tmp_path):
    value, said = FIELDS[name]
    (task,) = seed_tasks(digits, recipe, [4], "baseline")
    (tmp_path / "t.json").write_text(json.dumps(task.content | {name: value}))
    with pytest.raises(DataError, match=said):
        read_task(tmp_path / "t.json")


def test_the_commands(digits, recipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_recipe(dataclasses.replace(recipe, keep=(0.3,)), "r.json", False)
    words = ["reproduce", "digits", "--recipe", "r.json", "--seeds", "2", "--methods", "prune-0.3"]

    def run(*more):
        return CliRunner().invoke(cli.main, [*map(str, more)])

    result = run(*words, "--plan", "tasks", "--save-recipe", "saved.json")
    assert result.exit_code == 0, result.output
    assert result.stdout == "tasks: task-0.json to task-1.json; one for each seed\n"
    assert (tmp_path / "saved.json").exists()
    result = run("task", "tasks/task-0.json", "tasks/task-1.json", "--store", "parts")
    assert result.exit_code == 0, result.output
    found = {}
    with monkeypatch.context() as patch:
        no_training(patch)
        assert run(*words, "--store", "parts", "--out", "gathered").exit_code == 0
    assert run(*words, "--out", "whole").exit_code == 0
    for name in ("gathered", "whole"):
        results = json.loads((tmp_path / name / "results.json").read_text())
        found[name] = comparable({key: of for key, of in results.items() if key != "command"})
    assert found["gathered"] == found["whole"]
    for more, said in (
        (["--plan", "p", "--store", "s"], "--store has no effect"),
        (["--executor", "local"], "--store"),
        (["--store", "s", "--attacks", "full"], "not as tasks"),
        (["--plan", "p", "--methods", "private"], "never repeated"),
        (["--plan", "p", "--resume"], "--resume has no effect"),
    ):
        result = run(*words, *more)
        assert result.exit_code == 2, result.output
        (line,) = result.stderr.splitlines()
        assert said in line


def test_a_task_of_a_comparison_is_one_text(digits, recipe):
    (task,) = seed_tasks(digits, recipe, [4], METHODS)
    assert Task(canonical(json.loads(json.dumps(task.content, indent=2)))).text == task.text

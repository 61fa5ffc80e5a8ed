"""Tasks: their text has one form, performing it gives the same bytes or a reason, and the store has them or not."""

import copy
import dataclasses
import errno
import hashlib
import json
import math
import os
import pathlib
import pickle
import random
import subprocess
import sys
import threading

import h5py
import numpy as np
import pytest
import threadpoolctl
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import cli
from nanoprune.errors import ArgumentError, DataError, NanopruneError, WorkerError
from nanoprune.lab.audit.shadows import outputs, train_shadows
from nanoprune.lab.audit.target import NON_ADAPTIVE, attack_model, attackers
from nanoprune.lab.data import Dataset, load
from nanoprune.lab.experiment.experiment import Experiment, Progress
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import Model, save_model
from nanoprune.lab.tasks import driver, fleet, perform
from nanoprune.lab.tasks.driver import run_tasks
from nanoprune.lab.tasks.engines import Engine
from nanoprune.lab.tasks.fleet import Fleet, plan, shadow_tasks
from nanoprune.lab.tasks.local import InProcess
from nanoprune.lab.tasks.perform import Machine
from nanoprune.lab.tasks.store import Store
from nanoprune.lab.tasks.task import Task, canonical, read_task
from nanoprune.lab.workflow.single_model import prune_model, train_model
from nanoprune.lab.zoo import build, describe
from nanoprune.prune import ADMMSettings
from nanoprune.records import Records, predict
from nanoprune.schedule import Schedule

ROOT = pathlib.Path(__file__).parents[1]
K = 6  # shadow models
ONE = Engine("local", InProcess(), lambda: 1, lambda: None)

quick = settings(deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def small(dataset, **changes):
    short = Schedule(epochs=2, batch=20, lr=0.1)
    plain = {"network": "mlp", "widths": (12,), "members": 40, "reference": 20, "nonmembers": 40}
    plain |= {"dense": short, "prune": short, "retrain": short, "admm": ADMMSettings(iterations=2)}
    base = recipe_for(dataset, changes.get("members", 40), network="mlp")
    return dataclasses.replace(base, **plain | {"minmax": 0.0} | changes)


@pytest.fixture(scope="module")
def dense(digits):
    return train_model(digits, small(digits), 0, 1)


@pytest.fixture(scope="module")
def pruned(digits):
    """Defended twice: by the game and by pruning."""
    recipe = small(digits, minmax=1.0)
    return prune_model(train_model(digits, recipe, 0, 1), digits, recipe, 0.3, 1)


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def refused(result, *words):
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    return True


def written(task: Task, path: pathlib.Path, **changes) -> pathlib.Path:
    path.write_text(json.dumps(task.content | changes))
    return path


def alike(a, b) -> bool:
    """Whether two shadows have the same bits in the same stages."""
    for kind in ("logits", "population"):
        first, second = getattr(a, kind), getattr(b, kind)
        if list(first) != list(second) or any(first[s].tobytes() != second[s].tobytes() for s in first):
            return False
    same_paths = (a.paths is None) == (b.paths is None) and (a.paths is None or a.paths.tobytes() == b.paths.tobytes())
    return same_paths and np.array_equal(a.inside, b.inside) and a.sensitivity.tobytes() == b.sensitivity.tobytes()


# --- the text --------------------------------------------------------------------------------------------------------

leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
leaves |= st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def respelled(value, rng: random.Random) -> str:
    """The same value as JSON of another spelling: keys in another order, spaces, floats with more digits, escapes."""
    space = rng.choice(["", " ", "\n  "])
    if isinstance(value, dict):
        items = [f"{respelled(k, rng)}:{space}{respelled(v, rng)}" for k, v in value.items()]
        rng.shuffle(items)
        return "{" + f",{space}".join(items) + "}"
    if isinstance(value, list):
        return "[" + f"{space},".join(respelled(v, rng) for v in value) + space + "]"
    if type(value) is float:
        return rng.choice([f"{value:.17e}", f"{value:.25E}", repr(value)])
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)


def strictly_equal(a, b) -> bool:
    """Equality that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(strictly_equal(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(strictly_equal, a, b))
    return a == b and (type(a) is not float or math.copysign(1, a) == math.copysign(1, b))


@quick
@given(values, st.randoms())
def test_one_value_has_one_text_however_it_is_spelled(value, rng):
    text = canonical(value)
    assert text.isascii()
    assert canonical(json.loads(respelled(value, rng))) == text
    assert strictly_equal(json.loads(text), value)


@quick
@given(values, values)
def test_other_values_have_other_texts(a, b):
    assert (canonical(a) == canonical(b)) == strictly_equal(a, b)


@pytest.mark.parametrize("value", [math.nan, math.inf, {"a": {1, 2}}, [b"x"], np.float32(1), {(1, 2): 3}])
def test_what_json_does_not_have_is_refused(value):
    with pytest.raises(ArgumentError, match="not plain data"):
        canonical(value)


def paths_of(value, path=()):
    """The place of every leaf of plain data."""
    if not isinstance(value, (dict, list)) or not value:
        yield path
        return
    for key in value if isinstance(value, dict) else range(len(value)):
        yield from paths_of(value[key], (*path, key))


def test_any_changed_field_changes_the_hash(pruned):
    task = shadow_tasks(pruned, K)[0]
    seen = {task.sha256}
    for path in paths_of(task.content):
        content = copy.deepcopy(task.content)
        inner = content
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "another"
        seen.add(Task(canonical(content)).sha256)
    assert len(seen) == 1 + len(list(paths_of(task.content)))


def test_a_file_of_another_spelling_is_the_same_task(pruned, tmp_path):
    task = shadow_tasks(pruned, K)[1]
    path = tmp_path / "t.json"
    path.write_text(respelled(task.content, random.Random(0)))
    assert path.read_text() != task.text
    assert read_task(path).text == task.text
    assert task.sha256 == hashlib.sha256(task.text.encode()).hexdigest()


def test_the_outcome_of_a_training_is_no_part_of_its_tasks(pruned):
    other = dataclasses.replace(pruned, steps=[step | {"accuracy": {"train": 0.5}} for step in pruned.steps])
    assert [t.text for t in shadow_tasks(other, K)] == [t.text for t in shadow_tasks(pruned, K)]


def without(name):
    return lambda content: {key: value for key, value in content.items() if key != name}


def in_model(**changes):
    return lambda content: content | {"model": content["model"] | changes}


BAD = {
    "a list": (lambda content: [content], "not a task"),
    "another kind": (lambda content: content | {"kind": "command"}, "not a task"),
    "another format": (lambda content: content | {"format": 2}, "format 2, this version performs 1"),
    "no rows": (without("rows"), "rows is missing"),
    "no environment": (without("environment"), "environment is missing"),
    "a field of no meaning": (lambda content: content | {"out": "/tmp/x"}, "out is not a field"),
    "a field of no meaning in the model": (in_model(path="/tmp/x"), "path is not a field"),
    "rows beyond the last": (lambda content: content | {"rows": [4, 8]}, "rows is [4, 8]"),
    "no rows between": (lambda content: content | {"rows": [2, 2]}, "rows is [2, 2]"),
    "rows that are no integers": (lambda content: content | {"rows": [False, 2]}, "rows is [False, 2]"),
    "an odd number of shadows": (lambda content: content | {"shadows": 7}, "shadows is 7"),
    "very many shadows": (lambda content: content | {"shadows": 10**12}, "shadows is 1000000000000"),
    "an unknown network": (lambda content: content | {"network": content["network"] | {"network": "oracle"}}, "oracle"),
    "a network without sizes": (lambda content: content | {"network": {"network": "mlp"}}, "network is not a"),
    "a network that is none": (lambda content: content | {"network": 5}, "network is not a description"),
    "a seed that is a word": (in_model(seed="none"), "model.seed is 'none'"),
    "steps of code": (in_model(steps=[{"step": "exec"}]), "'exec'"),
    "an environment that is a word": (lambda content: content | {"environment": "any"}, "environment"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_file_that_is_no_task_is_refused_in_one_line(case, dense, tmp_path, monkeypatch):
    monkeypatch.setattr(Progress, "start", lambda *_: pytest.fail("began to work"))
    change, named = BAD[case]
    path = tmp_path / "task.json"
    path.write_text(json.dumps(change(shadow_tasks(dense, K)[0].content)))
    assert refused(run("task", path, "--store", tmp_path / "store"), "task.json", named)


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"kind": "shadows", "kind": "shadows"}', '{"a": NaN}', "[" * 10**5, '{"a": 1' + "0" * 5000 + "}"],
    ids=["nothing", "half", "a key twice", "NaN", "deep", "digits"],
)
def test_text_that_is_no_json_is_refused_in_one_line(text, tmp_path):
    path = tmp_path / "task.json"
    path.write_text(text)
    assert refused(run("task", path, "--store", tmp_path / "store"), "task.json", "not JSON")


def test_a_number_beyond_every_float_is_refused(dense, tmp_path):
    path = tmp_path / "task.json"
    text = json.dumps(shadow_tasks(dense, K)[0].content)
    path.write_text(text.replace('"lr": 0.1', '"lr": 1e999'))
    assert path.read_text() != text
    assert refused(run("task", path, "--store", tmp_path / "store"), "task.json")


# --- performed, or refused -------------------------------------------------------------------------------------------


def test_the_same_bytes_each_time(pruned, digits):
    task = shadow_tasks(pruned, K)[0]
    first = perform.perform(task.text)
    assert perform.perform(task.text) == first
    assert first.startswith(b"\x89HDF")


@pytest.fixture(scope="module")
def whole(pruned, digits):
    """The shadows of `pruned` as a plain attack trains them: all at once, by two processes."""
    return train_shadows(pruned, digits, K, 2, Progress())


@pytest.mark.parametrize("per_task", [1, 2, 4, K])
def test_every_partition_has_the_bits_of_the_whole_fleet(per_task, pruned, digits, whole, tmp_path):
    with Fleet(tmp_path, "local", 1, Machine(), per_task) as of:
        assert alike(of.train(pruned, digits, K, 1, Progress()), whole)
    assert len(list(tmp_path.glob("*.h5"))) == -(-K // per_task)


def test_a_mask_before_training_is_repeated_to_the_same_bits(digits, tmp_path):
    """Its random mask is drawn from each shadow model's own seed."""
    recipe = small(digits, keep=(0.25,))
    experiment = Experiment(digits, recipe, [0], 1)
    trained = experiment.masked("random-0.25", "random", 0.25)
    sizes = (recipe.members, recipe.reference, recipe.nonmembers)
    model = Model(trained.net, digits.name, digits.sha256, *sizes, 0, trained.steps[0])
    whole = train_shadows(model, digits, K, 1, Progress())
    with Fleet(tmp_path, "local", 1, Machine()) as of:
        assert alike(of.train(model, digits, K, 1, Progress()), whole)


def test_the_bits_of_predictions_do_not_depend_on_the_number_of_blas_threads():
    """LeNet-5: OpenBLAS adds in another order with two threads than with one."""
    rng, index = np.random.default_rng(0), np.arange(400)
    images = rng.integers(0, 256, (400, 28, 1, 28)).astype(np.uint8)
    data = Dataset.of("images", images, index % 10, 10, 255)
    net = build(describe("lenet-5", data.x.shape[1:], 10), 2).initialise([np.random.default_rng(r) for r in range(2)])
    with threadpoolctl.threadpool_limits(1, user_api="blas"):
        expected = predict(net, Records(data.x, data.y), np.tile(index, (2, 1)))
    for threads in (1, 2, 4):
        with threadpoolctl.threadpool_limits(threads, user_api="blas"):
            np.testing.assert_array_equal(outputs(net, data, index, 1), expected)


def test_an_attack_from_a_store_has_the_results_of_a_plain_one(pruned, digits, tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.attack.network.RATES", (1e-3,))
    monkeypatch.setattr("nanoprune.attack.network.PATIENCE", 1)
    monkeypatch.setattr("nanoprune.attack.network.MIN_PATIENCE", 1)

    def timeless(results):
        return {name: value for name, value in results.items() if name != "seconds"}

    expected, curves = attack_model(pruned, digits, K)
    for task in plan(pruned, digits, K)[::2]:  # every other one was performed before
        Store(tmp_path).put(task, perform.perform(task.text))
    with Fleet(tmp_path, "local", 1, Machine()) as of:
        found, again = attack_model(pruned, digits, K, train=of.train)
    assert timeless(found) == timeless(expected)
    assert "lira_online" + NON_ADAPTIVE in found["attacks"]
    for name, points in curves.items():
        for axis, array in points.items():
            np.testing.assert_array_equal(again[name][axis], array)


def test_records_in_groups_of_ones_own_file(tmp_path, monkeypatch):
    """The halves of groups are not equal, so that records are drawn twice, by draws that depend on all shadows."""
    rng = np.random.default_rng(0)
    path = tmp_path / "mine.npz"
    x, group = rng.random((240, 8), dtype=np.float32), rng.integers(0, 60, 240)
    np.savez(path, x=x, y=rng.integers(0, 3, 240), group=group)
    data = load(str(path))
    model = train_model(data, small(data, members=60, nonmembers=60), 0, 1)
    whole = train_shadows(model, data, K, 1, Progress())
    assert len(set(whole.inside.sum(axis=1))) > 1
    task = shadow_tasks(model, K)[2]
    with pytest.raises(DataError, match="name its file with --data"):
        perform.perform(task.text)
    monkeypatch.chdir(tmp_path)  # where a file of that name is
    with pytest.raises(DataError, match="name its file with --data"):
        perform.perform(task.text)
    with Fleet(tmp_path / "store", "local", 1, Machine(data=str(path))) as of:
        assert alike(of.train(model, data, K, 1, Progress()), whole)


@pytest.mark.parametrize("name", ["../mine", "/etc/passwd", "mine.csv", "..", "digits/../digits", "file:///etc/passwd"])
def test_a_name_in_a_task_is_never_a_path(name, dense, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(perform, "load", lambda *names, **_: opened.append(names))
    task = shadow_tasks(dense, K)[0]
    path = written(task, tmp_path / "t.json", **in_model(dataset=name)(task.content))
    assert refused(run("task", path, "--store", tmp_path / "store"), "name its file with --data")
    assert opened == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store", "t.json"]
    assert list((tmp_path / "store").iterdir()) == []


def test_other_data_are_refused(dense, tmp_path):
    task = shadow_tasks(dense, K)[0]
    path = written(task, tmp_path / "t.json", **in_model(data_sha256="0" * 64)(task.content))
    assert refused(run("task", path, "--store", tmp_path / "store"), "digits: not the records")


@pytest.mark.parametrize("name", ["numpy", "python", "code", "device", "precision", "nanoprune"])
def test_another_version_is_refused_and_named(name, dense, tmp_path, monkeypatch):
    task = shadow_tasks(dense, K)[0]
    path = written(task, tmp_path / "t.json", environment=task.content["environment"] | {name: "0.0"})
    monkeypatch.setattr(Progress, "start", lambda *_: pytest.fail("began to work"))
    assert refused(run("task", path, "--store", tmp_path / "store"), "t.json", f'{name} was "0.0", is ')


def test_the_kernels_of_another_processor_are_refused(dense, tmp_path):
    """OpenBLAS is told to take those of an old processor, whose sums have other bits."""
    path = tmp_path / "t.json"
    path.write_text(shadow_tasks(dense, K)[0].text)
    command = [sys.executable, str(ROOT / "cli.py"), "task", str(path), "--store", str(tmp_path / "store")]
    environment = os.environ | {"OPENBLAS_CORETYPE": "Prescott", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if result.returncode == 0:
        pytest.skip("this BLAS has no other kernels")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "t.json" in line
    assert "blas was " in line


def test_a_private_training_is_no_task(dense, tmp_path):
    model = dataclasses.replace(dense, steps=[{"step": "private"}])
    with pytest.raises(ArgumentError, match="never repeated"):
        shadow_tasks(model, K)


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.fixture
def stored(tmp_path, pruned):
    save_model(pruned, tmp_path / "m.h5")
    return tmp_path / "m.h5"


def test_a_plan_has_the_tasks_of_both_attackers(stored, pruned, digits, tmp_path):
    out = tmp_path / "plan"
    result = run("attack", stored, "--shadows", K, "--plan", out)
    assert result.exit_code == 0, result.output
    assert "task-0.json to task-5.json" in result.stdout
    found = [read_task(out / f"task-{i}.json") for i in range(K)]
    assert [task.text for task in found] == [task.text for task in plan(pruned, digits, K)]
    assert [task.content["rows"] for task in found] == [[0, 2], [2, 4], [4, 6]] * 2
    assert len(attackers(pruned)) == 2
    assert len({task.sha256 for task in found}) == K
    again = run("attack", stored, "--shadows", K, "--plan", out)  # the same plan again
    assert again.exit_code == 0, again.output
    assert refused(run("attack", stored, "--shadows", K + 2, "--plan", out), "of another plan")
    assert refused(run("attack", stored, "--shadows", 7, "--plan", out), "even number")


def test_a_store_is_filled_by_files_and_gathered(stored, pruned, digits, whole, tmp_path, monkeypatch):
    out, store = tmp_path / "plan", tmp_path / "store"
    assert run("attack", stored, "--shadows", K, "--plan", out, "--per-task", 3).exit_code == 0
    result = run("task", *sorted(out.iterdir()), "--store", store)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"4 tasks are done: {store}\n"
    monkeypatch.setattr(driver, "perform", lambda *_: pytest.fail("done again"))
    assert run("task", *sorted(out.iterdir()), "--store", store).exit_code == 0
    with Fleet(store, "local", 1, Machine(), per_task=3) as of:
        assert alike(of.train(pruned, digits, K, 1, Progress()), whole)


USELESS = {
    "--plan with --store": (["--plan", "P", "--store", "S"], "--store has no effect"),
    "--plan with --json": (["--plan", "P", "--json", "J"], "--json has no effect"),
    "--plan with --dense": (["--plan", "P", "--dense", "D"], "--dense has no effect"),
    "--plan with --attacks": (["--plan", "P", "--attacks", "base"], "--attacks has no effect"),
    "--executor alone": (["--executor", "local"], "--store"),
    "--per-task alone": (["--per-task", 2], "--plan or --store"),
    "--store with --cache": (["--store", "S", "--cache", "C"], "give one"),
    "an engine that is none": (["--store", "S", "--executor", "cloud"], "must be local, mpi"),
}


@pytest.mark.parametrize("case", USELESS)
def test_options_without_effect_are_refused(case, stored, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words, named = USELESS[case]
    assert refused(run("attack", stored, "--shadows", K, *words), named)
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


# --- the store -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result(dense):
    task = shadow_tasks(dense, K)[0]
    return task, perform.perform(task.text)


def fails(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def half(path, data):
    with open(path, "wb") as file:
        file.write(data[: len(data) // 2])
    fails()


@pytest.mark.parametrize(
    ("what", "instead"), [("os.replace", fails), ("os.fsync", fails), ("pathlib.Path.write_bytes", half)]
)
def test_a_full_disk_leaves_nothing(what, instead, result, tmp_path, monkeypatch):
    task, data = result
    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(what, instead)
        with pytest.raises(DataError, match="No space left"):
            store.put(task, data)
    assert list(tmp_path.iterdir()) == []
    store.put(task, data)
    assert store.path(task).read_bytes() == data


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("what", ["os.replace", "os.fsync", "pathlib.Path.write_bytes"])
def test_a_process_that_is_killed_while_it_stores_leaves_a_whole_result_or_none(what, result, tmp_path, monkeypatch):
    task, data = result
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(what, lambda *_: os._exit(9))
        Store(tmp_path).put(task, data)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    store = Store(tmp_path)
    assert not store.has(task)
    assert list(tmp_path.iterdir()) == []  # what was left half-written has been removed
    store.put(task, data)
    assert alike(store.read(task), store.read(task))


class Trap:
    def __reduce__(self):
        return os.mkdir, ("unpickled",)


def linked(path: pathlib.Path, data: bytes) -> None:
    with h5py.File(path, "w") as file:
        file["made_by"] = h5py.ExternalLink("/etc/hostname", "x")


def npz(path: pathlib.Path, data: bytes) -> None:
    with path.open("wb") as file:
        np.savez(file, inside=np.zeros(3))


FOREIGN = {
    "a pickle": lambda path, data: path.write_bytes(pickle.dumps(Trap())),
    "arrays of another format": npz,
    "nothing": lambda path, data: path.write_bytes(b""),
    "half of it": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "links": linked,
    "a folder": lambda path, data: path.mkdir(),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_a_foreign_file_in_the_store_is_refused_by_name(case, result, dense, digits, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "store")
    path = store.path(result[0])
    FOREIGN[case](path, result[1])
    with Fleet(store.folder, "local", 1, Machine()) as of, pytest.raises(NanopruneError) as error:
        of.train(dense, digits, K, 1, Progress())
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "unpickled").exists()


def test_the_result_of_another_task_is_refused(dense, digits, result, tmp_path):
    store, other = Store(tmp_path), shadow_tasks(dense, K)[1]
    store.put(*result)
    store.path(result[0]).rename(store.path(other))
    with pytest.raises(DataError, match="made by another recipe"):
        store.read(other)
    with pytest.raises(DataError, match="what came from the worker is not its result"):
        store.put(shadow_tasks(dense, K)[2], result[1])
    assert not store.has(shadow_tasks(dense, K)[2])


# --- several processes -----------------------------------------------------------------------------------------------


def test_a_task_that_another_process_has_claimed_is_left_to_it(result, tmp_path, monkeypatch):
    task, data = result
    store = Store(tmp_path)
    release = store.claim(task)
    assert store.claim(task) is None
    monkeypatch.setattr(driver, "perform", lambda *_: pytest.fail("performed although it was claimed"))
    ended = threading.Timer(0.5, lambda: (store.put(task, data), release()))
    ended.start()
    run_tasks([task], store, ONE, Machine(), Progress())
    ended.join()
    assert [path.name for path in tmp_path.iterdir()] == [f"{task.sha256}.h5"]


def test_a_task_whose_process_ended_without_a_result_is_done_here(result, tmp_path):
    task, data = result
    store = Store(tmp_path)
    release = store.claim(task)
    gone = threading.Timer(0.5, release)
    gone.start()
    run_tasks([task], store, ONE, Machine(), Progress())
    gone.join()
    assert store.path(task).read_bytes() == data


def test_without_locks_tasks_are_done_all_the_same(result, tmp_path, monkeypatch):
    task, data = result

    def no_locks(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("nanoprune.lab.tasks.store.lock", no_locks)
    run_tasks([task], Store(tmp_path), ONE, Machine(), Progress())
    assert Store(tmp_path).path(task).read_bytes() == data


def test_two_shells_share_the_files(dense, tmp_path):
    """The same files given to both: the bytes of this process, and no task performed twice."""
    tasks = shadow_tasks(dense, 12)
    fleet.write_plan(tasks, tmp_path / "plan")
    words = [sys.executable, str(ROOT / "cli.py"), "task", *map(str, (tmp_path / "plan").iterdir())]
    words += ["--store", str(tmp_path / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    shells = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    said = [shell.communicate(timeout=120)[0] for shell in shells]
    assert [shell.returncode for shell in shells] == [0, 0]
    assert all(text.startswith("6 tasks are done") for text in said)
    found = {path.name: path.read_bytes() for path in (tmp_path / "store").iterdir()}
    assert found == {f"{task.sha256}.h5": perform.perform(task.text) for task in tasks}


def test_what_fails_on_a_worker_is_one_error_that_names_the_task(result, tmp_path, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("of a worker\nand more")

    monkeypatch.setattr(driver, "perform", broken)
    task = dataclasses.replace(result[0], where="task-3.json")
    with pytest.raises(WorkerError) as error:
        run_tasks([task], Store(tmp_path), ONE, Machine(), Progress())
    assert str(error.value) == f"{task.name}: failed on its worker (ZeroDivisionError: of a worker)"
    assert task.name.startswith("task-3.json (")
    assert list(tmp_path.iterdir()) == []  # nor is it claimed any more


def test_tasks_are_taken_as_there_is_room(result, tmp_path, monkeypatch):
    """Of a plan without an end: no more are drawn than the window has room for."""
    drawn = []

    def endless():
        while True:
            drawn.append(dataclasses.replace(result[0], text=f'"{len(drawn)}"'))
            yield drawn[-1]

    def broken(text, *_):
        if text == '"3"':
            raise DataError("enough")  # its task is named
        return b""

    monkeypatch.setattr(driver, "perform", broken)
    monkeypatch.setattr(Store, "put", lambda *_: None)
    with pytest.raises(DataError, match="enough"):
        run_tasks(endless(), Store(tmp_path), dataclasses.replace(ONE, most=lambda: 2), Machine(), Progress())
    assert len(drawn) == 4

"""The folder of a run: refused, resumed, locked, killed, stopped by signals, and in unusable places."""

import contextlib
import dataclasses
import fcntl
import json
import multiprocessing
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from click.testing import CliRunner

import cli
import nanoprune.lab.engine.run_folder as folder_module
from benchmarks.kill_resume import COMMANDS, Trial
from nanoprune.errors import ArgumentError, DataError, VersionError
from nanoprune.lab.data import load, make_split
from nanoprune.lab.engine.lock import lock_folder
from nanoprune.lab.engine.run_folder import Run, identity
from nanoprune.lab.experiment.memory import available, check_memory
from nanoprune.lab.experiment.recipes import recipe_for
from nanoprune.lab.models.model import load_model
from nanoprune.lab.zoo import build, describe

ROOT = pathlib.Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": str(ROOT)}
linux = pytest.mark.skipif(sys.platform != "linux", reason="signals and locks as Linux has them")
TRAIN = ["train", "digits", "--members", "40", "--epochs", "150", "--threads", "1"]


def run(*arguments):
    return CliRunner().invoke(cli.main, [str(a) for a in arguments])


def as_process(*arguments, program="cli.main()", **options):
    """The command line as a process of its own."""
    words = [sys.executable, "-c", f"import cli; {program}", *map(str, arguments)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV, **options)


def wait_until(true, process=None):
    """Wait until the condition holds; fail where the process ends first."""
    until = time.monotonic() + 120
    while not true():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.01)


# --- refused, begun again, gone on with ------------------------------------------------------------------------------


def begun(folder, what=None, **options):
    with Run(folder, **options) as run:
        run.begin({"seeds": [0], "recipe": {"lr": 0.1}} if what is None else what)
        return run


@pytest.mark.parametrize("trace", ["run.json", "results.json", "checkpoints"])
def test_a_folder_with_files_of_a_run_is_refused_and_unchanged(trace, tmp_path):
    path = tmp_path / "o" / trace
    path.parent.mkdir()
    path.mkdir() if trace == "checkpoints" else path.write_text("{}")
    with pytest.raises(ArgumentError, match=f"has a run in it .{trace}.; --resume .* --overwrite .* --out"):
        begun(tmp_path / "o")
    assert path.exists()
    begun(tmp_path / "o", overwrite=True)
    assert sorted(p.name for p in (tmp_path / "o").iterdir()) == ["run.json"]


def test_a_refusal_before_the_run_begins_overwrites_nothing(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with contextlib.suppress(ZeroDivisionError), Run(tmp_path, overwrite=True):
        raise ZeroDivisionError
    assert (tmp_path / "results.json").read_text() == "{}"


def test_other_files_in_the_folder_are_not_a_run(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    begun(tmp_path)
    begun(tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_another_run_is_refused_naming_what_differs(tmp_path):
    begun(tmp_path)
    begun(tmp_path, resume=True)
    for what, named in (
        ({"seeds": [0, 1], "recipe": {"lr": 0.1}}, r"seeds was \[0\], is \[0, 1\]"),
        ({"seeds": [0], "recipe": {"lr": 0.2}}, r"recipe\.lr was 0\.1, is 0\.2"),
        ({"seeds": [0], "recipe": {"lr": 0.1}, "more": 1}, "more was null, is 1"),
    ):
        with pytest.raises(ArgumentError, match=named):
            begun(tmp_path, what, resume=True)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 1, "identity": 3, "finished": false}'])
def test_a_damaged_run_json_is_refused(content, tmp_path):
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(DataError, match=r"run\.json"):
        begun(tmp_path, resume=True)


def test_a_run_of_another_format_is_refused(tmp_path):
    (tmp_path / "run.json").write_text('{"format": 2, "identity": {}, "finished": false}')
    with pytest.raises(VersionError, match="format 2, this version reads 1"):
        begun(tmp_path, resume=True)


def test_results_without_a_run_json_cannot_be_resumed(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ArgumentError, match=r"no run\.json"):
        begun(tmp_path, resume=True)


def test_data_that_changed_between_runs_is_caught(tmp_path):
    data = load("digits")
    recipe = recipe_for(data, members=40, reference=10, nonmembers=40)
    splits = [make_split(data, 40, 10, 40, 0)]
    changed = dataclasses.replace(data, sha256="0" * 64)
    begun(tmp_path, identity(data, recipe, [0], 1, splits))
    with pytest.raises(ArgumentError, match="data_sha256 was"):
        begun(tmp_path, identity(changed, recipe, [0], 1, splits), resume=True)


def test_an_error_before_anything_is_saved_leaves_nothing(tmp_path):
    for folder in (tmp_path / "new", tmp_path):
        with contextlib.suppress(ZeroDivisionError), Run(folder) as run:
            run.begin({})
            raise ZeroDivisionError
        assert not list(tmp_path.iterdir())


def test_half_written_files_of_a_killed_run_are_removed(tmp_path):
    begun(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    for name in (".nanoprune-0123456789abcdef.json", "checkpoints/.nanoprune-00ff00ff00ff00ff.h5"):
        (tmp_path / name).write_text("half")
    others = [".backup.tar.20240101.tar", ".config.settings.json", ".notes.txt.abcdefgh.txt"]
    for name in others:
        (tmp_path / name).write_text("somebody else's")
    begun(tmp_path, resume=True)
    assert sorted(path.name for path in tmp_path.rglob(".*")) == others


# --- finished runs are final ---


class Killed(BaseException):
    """Stands for the end of the process: no later code runs."""


def kill(*_, **__):
    raise Killed


def two_results(folder):
    for name in ("results.json", "curves.h5"):
        (folder / name).write_text(f"of {name}")


def model_run(out, **options):
    return Run(out.with_name(f"{out.name}.run"), product=out, **options)


def test_only_listed_files_are_removed(tmp_path):
    """Not even files in `checkpoints` or `finished` that look like ours."""
    others = ["checkpoints/my_other_models.pt", "checkpoints/dense-0-1.h5", "finished/notes.txt", "notes.txt"]
    for name in others:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    for end in ("removed", "finished"):
        with Run(tmp_path, overwrite=True) as run:
            run.begin({})
            run.checkpoints.slot("game", slice(0, 1), []).save({"epoch": 1})
            run.checkpoints.slot("game", slice(0, 1), []).save({"epoch": 2})
            assert len(list((tmp_path / "checkpoints").glob("game-0-1*.h5"))) == 2
            if end == "finished":
                run.finish(two_results)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {*others, "run.json", "results.json", "curves.h5"}
    assert all((tmp_path / name).read_text() == "mine" for name in others)


PLACES = ["write_json", "remove_noted", "atomic_path", "remove", "os.replace"]


@pytest.mark.parametrize("nth", range(4))
@pytest.mark.parametrize("place", PLACES)
def test_a_finished_model_is_final_wherever_its_clean_up_is_killed(place, nth, tmp_path, monkeypatch):
    """One budget of DP-SGD, one model: a file under the final name is unchanged after --resume."""
    out, trained, seen = tmp_path / "m.h5", [], set()

    def train(resume):
        run = model_run(out, resume=resume).__enter__()
        try:
            run.begin({"seed": 1})
            if not run.finished:
                run.checkpoints.slot("train", slice(0, 1), []).save({"noise": len(trained)})
                trained.append(1)  # with other noise each time
                text = f"model {len(trained)}"
                run.finish(lambda folder: (folder / out.name).write_text(text))
        except Killed:
            run.stack.close()  # as the system closes what a process had open: nothing else is done
            raise
        run.__exit__(None, None, None)

    where = "os.replace" if place == "os.replace" else f"nanoprune.lab.engine.run_folder.{place}"
    usual, calls = (os.replace if place == "os.replace" else getattr(folder_module, place)), []

    def deadly(*arguments, **options):
        calls.append(1)
        if len(calls) == nth + 1 + 1:  # run.json is begun by the first write
            raise Killed
        return usual(*arguments, **options)

    monkeypatch.setattr(where, deadly)
    with contextlib.suppress(Killed):
        train(False)
    monkeypatch.undo()
    if out.exists():
        seen.add(out.read_text())
        assert not list(tmp_path.rglob("checkpoints/*.h5"))  # the noise's state is gone before the model is there
    train(True)
    seen.add(out.read_text())
    assert len(seen) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]
    train(True)
    assert out.read_text() in seen


def test_a_model_is_not_released_where_a_checkpoint_cannot_be_removed(tmp_path, monkeypatch):
    """It has the generators of DP-SGD's noise, with which the noise could be removed from the model."""
    out, unlink = tmp_path / "m.h5", pathlib.Path.unlink

    def busy(path, missing_ok=False):
        if path.suffix == ".h5" and path.parent.name == "checkpoints" and path.name[0] != ".":
            raise OSError(16, "Device or resource busy")
        unlink(path, missing_ok)

    monkeypatch.setattr(pathlib.Path, "unlink", busy)
    with pytest.raises(DataError, match=r"train-0-1\.h5: cannot be removed .*busy.*--resume"), model_run(out) as run:
        finish_after_a_checkpoint(run, out)
    assert not out.exists()
    monkeypatch.undo()
    with model_run(out, resume=True) as run:
        run.begin({})
        assert run.finished
    assert out.read_text() == "model"
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def finish_after_a_checkpoint(run, out):
    run.begin({})
    run.checkpoints.slot("train", slice(0, 1), []).save({"noise": 1})
    run.finish(lambda folder: (folder / out.name).write_text("model"))


@linux
def test_checkpoints_behind_a_symbolic_link_are_removed_too(tmp_path):
    """Such as a link to a larger disk."""
    out, scratch = tmp_path / "m.h5", tmp_path / "scratch"
    scratch.mkdir()
    (tmp_path / "m.h5.run").mkdir()
    (tmp_path / "m.h5.run" / "checkpoints").symlink_to(scratch)
    with model_run(out, overwrite=True) as run:
        finish_after_a_checkpoint(run, out)
    assert out.read_text() == "model"
    assert not list(scratch.iterdir())


def test_results_that_changed_since_the_run_finished_are_refused(tmp_path):
    with Run(tmp_path) as run:
        run.begin({})
        run.finish(two_results)
    with Run(tmp_path, resume=True) as run:
        run.begin({})
        assert run.finished
    for name in ("results.json", "curves.h5"):
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text + " ")
        with pytest.raises(DataError, match=f"{name}: differs from what the finished run wrote; give --overwrite"):
            begun(tmp_path, {}, resume=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "curves.h5").unlink()
    with pytest.raises(DataError, match="differs from what the finished run wrote"):
        begun(tmp_path, {}, resume=True)


@pytest.mark.parametrize("results", [None, 3, {"../m.h5": "0" * 64}, {"m.h5": "0" * 63}, {"run.json": "0" * 64}])
def test_a_run_json_without_the_list_of_results_is_refused(results, tmp_path):
    content = {"format": 1, "finished": True, "identity": {}, "results": results}
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="does not list the files of the finished run"):
        begun(tmp_path, {}, resume=True)


def test_resume_of_a_finished_model_reads_it_and_of_another_is_refused(tmp_path):
    out = tmp_path / "m.h5"
    options = [*TRAIN[:4], "--epochs", "3", "--out", out]
    assert run(*options, "--epsilon", "8").exit_code == 0
    model = out.read_bytes()
    again = run(*options, "--epsilon", "8", "--resume")
    assert (again.exit_code, out.read_bytes()) == (0, model), again.stderr
    for other in (["--epsilon", "7"], ["--epsilon", "8", "--seed", "1"], []):
        refused = run(*options, *other, "--resume")
        assert refused.exit_code == 2
        assert "already exists, and was made in another way" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert out.read_bytes() == model
    assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


def test_files_that_a_run_would_write_over_are_refused_without_overwrite(tmp_path):
    (tmp_path / "report.html").write_text("mine")
    options = {"outputs": ("report.html", "roc.svg")}
    with pytest.raises(ArgumentError, match=r"has report\.html in it; --overwrite replaces it"):
        begun(tmp_path, {}, **options)
    begun(tmp_path, {}, overwrite=True, **options)
    begun(tmp_path, {}, resume=True, **options)


# --- two runs in one folder ------------------------------------------------------------------------------------------


HOLD = """
    import sys, time
    from nanoprune.lab.engine.run_folder import Run
    with Run(sys.argv[1], resume=True) as run:
        run.begin({})
        print("locked", flush=True)
        time.sleep(60)
"""


@linux
def test_two_runs_cannot_use_one_folder_and_the_lock_ends_with_its_holder(tmp_path, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.engine.lock.PATIENCE", 0.1)
    words = [sys.executable, "-c", textwrap.dedent(HOLD), tmp_path]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENV) as holder:
        assert holder.stdout.readline() == "locked\n"
        for options in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(DataError, match="another run is using it"):
                begun(tmp_path, {}, **options)
        holder.kill()
    monkeypatch.setattr("nanoprune.lab.engine.lock.PATIENCE", 5)
    begun(tmp_path, {}, resume=True)


@linux
def test_a_waiting_run_finds_the_results_of_the_one_that_ended(tmp_path):
    """The run removes the folder that the other one has opened and is waiting to lock."""
    out = tmp_path / "m.h5"
    program = """
        import pathlib, sys, time
        from nanoprune.lab.engine.run_folder import Run
        out = pathlib.Path(sys.argv[1])
        with Run(f"{out}.run", product=out) as run:
            run.begin({})
            print("locked", flush=True)
            time.sleep(1)
            run.finish(lambda folder: (folder / out.name).write_text("of the first"))
    """
    words = [sys.executable, "-c", textwrap.dedent(program), out]
    for options in ({}, {"resume": True}):
        out.unlink(missing_ok=True)
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=ENV) as first:
            assert first.stdout.readline() == "locked\n"
            if options:
                with model_run(out, **options) as second:
                    second.begin({})
                    assert second.finished
            else:
                with pytest.raises(ArgumentError, match="already exists"), model_run(out):
                    pass
        assert first.returncode == 0
        assert out.read_text() == "of the first"
        assert [path.name for path in tmp_path.iterdir()] == ["m.h5"]


@linux
def test_a_folder_removed_before_it_is_locked_is_not_locked(tmp_path, monkeypatch):
    """Its name may belong to another folder by then, which would not be locked."""
    folder, flock, removed = tmp_path / "o", fcntl.flock, []

    def slow(handle, how):
        if not removed:
            removed.append(1)
            folder.rmdir()
            folder.mkdir()
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", slow)
    handle, _ = lock_folder(folder)
    try:
        assert os.path.samestat(os.fstat(handle), folder.stat())
    finally:
        os.close(handle)


@linux
def test_the_lock_is_kept_while_a_worker_of_a_killed_run_lives(tmp_path, monkeypatch):
    """A worker may still write, so the next run waits for its end."""
    monkeypatch.setattr("nanoprune.lab.engine.lock.PATIENCE", 0.1)
    with Run(tmp_path) as run:
        run.begin({})
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
    try:
        with pytest.raises(DataError, match="another run"):
            begun(tmp_path, {}, resume=True)
    finally:
        worker.kill()
        worker.join()
    begun(tmp_path, {}, resume=True)


# --- killed and stopped ----------------------------------------------------------------------------------------------


ALL_SIGNALS = [signal.SIGKILL, signal.SIGINT, signal.SIGTERM]


@linux
@pytest.mark.parametrize("command", ["reproduce", "attack", "private"])
def test_after_signals_at_random_moments_a_run_ends_in_the_same_bits_and_one_budget_has_one_model(command, tmp_path):
    trial = Trial(tmp_path, COMMANDS[command], ALL_SIGNALS, random.Random(0), lambda line: None)
    assert trial.test(3) == ""


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_end_of_an_epoch_and_prints_how_to_resume(number, status, tmp_path):
    out, whole = tmp_path / "m.h5", tmp_path / "whole.h5"
    with as_process(*TRAIN, "--out", out) as process:
        wait_until((tmp_path / "m.h5.run" / "run.json").exists, process)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == status
    first, last = said.splitlines()
    assert first == "stopping at the end of the epoch; send the signal again to stop at once"
    assert last.startswith(f"error: stopped by {number.name}; the progress is saved in {out}.run: ")
    assert last.endswith("the same command with --resume continues")
    assert not out.exists()
    assert "--resume" in run(*TRAIN, "--out", out).stderr  # and not begun again by mistake
    resumed = run(*TRAIN, "--out", out, "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert run(*TRAIN, "--out", whole).exit_code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.h5", "whole.h5"]
    refused = run(*TRAIN, "--out", out)
    assert refused.exit_code == 2
    assert "already exists; --overwrite" in refused.stderr
    assert run(*TRAIN, "--out", out, "--overwrite").exit_code == 0


@linux
def test_a_second_signal_ends_the_run_and_its_workers_at_once(tmp_path):
    """Within epochs of a minute: a callback sleeps in every worker."""
    program = """
import time
import nanoprune.lab.experiment.shard as m
def slow(*a):
    open(f"{sys.argv[-1]}/{os.getpid()}", "w").close()
    time.sleep(60)
import os, sys
m.accuracy = slow
words = sys.argv[:-1]
cli.main(words[1:])
"""
    pids = tmp_path / "pids"
    pids.mkdir()
    options = ["reproduce", "digits", "--seeds", 2, "--members", 40, "--reference", 10, "--nonmembers", 40]
    program = f"exec({program!r})"
    with as_process(*options, "--threads", 2, "--out", tmp_path / "o", pids, program=program) as process:
        wait_until(lambda: len(list(pids.iterdir())) == 2, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr.readline().startswith("stopping")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert said == "error: stopped at once; checkpoints written before are kept\n"
    for path in pids.iterdir():
        wait_until(lambda pid=int(path.name): not pathlib.Path(f"/proc/{pid}").exists())


def test_a_finished_comparison_is_not_run_again(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    options = ["reproduce", "digits", "--out", tmp_path, "--seeds", 1]
    refused = run(*options)
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert "--resume" in refused.stderr
    both = run(*options, "--resume", "--overwrite")
    assert "exclude each other" in both.stderr


def test_checkpoints_of_a_finished_but_killed_run_are_removed(tmp_path, monkeypatch):
    """Between the line in run.json and the end of their removal."""
    with contextlib.suppress(Killed), Run(tmp_path) as first:
        first.begin({"seed": 1})
        first.checkpoints.slot("baseline", slice(0, 1), []).save({"epoch": 1})
        monkeypatch.setattr("nanoprune.lab.engine.run_folder.remove_noted", kill)
        first.finish(two_results)
    monkeypatch.undo()
    assert list((tmp_path / "checkpoints").glob("*.h5"))
    with Run(tmp_path, resume=True) as again:
        again.begin({"seed": 1})
        assert again.finished
    assert not (tmp_path / "checkpoints").exists()


# --- bad places and bad times ----------------------------------------------------------------------------------------


FULL = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
cli.main()
"""


@linux
def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    """A limit on the size of files fails a write as a full disk does: half-way."""
    out = tmp_path / "m.h5"
    options = [*TRAIN[:4], "--epochs", "3", "--out", out, "--checkpoint-every", "0"]
    with as_process(*options, program=f"exec({FULL!r})") as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2, said
    assert said.startswith("error: ")
    assert "cannot be written" in said
    assert said.count("\n") == 1
    assert not list(tmp_path.rglob("*.h5"))
    assert run(*options, "--resume").exit_code == 0


def test_an_unwritable_folder_is_refused_before_the_work():
    for options in (["train", "digits", "--out", "/proc/m.h5"], ["reproduce", "digits", "--out", "/proc/o"]):
        refused = run(*options)
        assert refused.exit_code == 2
        assert "cannot be written" in refused.stderr
        assert refused.stderr.count("\n") == 1


@linux
@pytest.mark.parametrize(("mask", "locale"), [(0o077, "C"), (0o002, "tr_TR.UTF-8")])
def test_umask_and_locale_change_nothing_but_the_permissions(mask, locale, tmp_path):
    out, usual = tmp_path / "m.h5", tmp_path / "usual.h5"
    options = [*TRAIN[:4], "--epochs", "2"]
    words = [sys.executable, "-c", "import cli; cli.main()", *options, "--out", out]
    env = ENV | {"LC_ALL": locale, "LANG": locale, "PYTHONUTF8": "0"}
    done = subprocess.run(words, env=env, umask=mask, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert out.stat().st_mode & 0o777 == 0o666 & ~mask
    assert run(*options, "--out", usual).exit_code == 0
    assert out.read_bytes() == usual.read_bytes()


def test_a_run_that_needs_too_much_memory_is_refused_before_it_begins(monkeypatch):
    recipe = recipe_for(load("digits"))
    net = build(describe("mlp", (64,), 10, [4096, 4096]))
    monkeypatch.setattr("nanoprune.lab.experiment.memory.available", lambda: 10**9)
    with pytest.raises(ArgumentError, match=r"needs about [\d.]+ GB of memory, 1\.0 GB are free; lower --threads"):
        check_memory(net, 8, recipe, 4, 0)
    monkeypatch.setattr("nanoprune.lab.experiment.memory.available", lambda: 10**12)
    check_memory(net, 8, recipe, 4, 0)
    monkeypatch.setattr("nanoprune.lab.experiment.memory.available", lambda: None)
    check_memory(net, 8, recipe, 4, 0)


@linux
def test_the_free_memory_is_that_of_the_system():
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < available() <= total


# --- models without their zeros --------------------------------------------------------------------------------------


def test_a_pruned_models_file_is_a_tenth_of_the_dense_ones_and_reads_as_the_same(tmp_path):
    from nanoprune.lab.models.model import Model, save_model

    net = build(describe("lenet-5", (28, 1, 28), 10, [20, 50, 500])).initialise([np.random.default_rng(0)])
    model = Model(net, "mnist", "ab" * 32, None, 0, 10_000, 0, [])
    save_model(model, tmp_path / "dense.h5")
    W = net.W[0]
    W[np.argsort(np.abs(W))[: -(W.size // 20)]] = 0  # 20 times fewer weights
    save_model(model, tmp_path / "pruned.h5")
    assert load_model(tmp_path / "pruned.h5").net.theta.tobytes() == net.theta.tobytes()
    sizes = [(tmp_path / name).stat().st_size for name in ("dense.h5", "pruned.h5")]
    assert sizes[1] <= sizes[0] / 10
    assert json.dumps(load_model(tmp_path / "dense.h5").net.description)

"""A store at a URL has whole results or none, and says in one line what is wrong; fsspec's own file systems stand for
those of clouds."""

import json
import sys

import pytest
from test_tasks import K, alike, dense, digits, run, small  # noqa: F401  fixtures

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.audit.shadows import train_shadows
from nanoprune.lab.experiment.experiment import Progress
from nanoprune.lab.models.model import save_model
from nanoprune.lab.tasks import driver
from nanoprune.lab.tasks.fleet import Fleet, shadow_tasks, write_plan
from nanoprune.lab.tasks.perform import Machine, perform
from nanoprune.lab.tasks.remote import RemoteStore, open_store
from nanoprune.lab.tasks.store import Store

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    if request.param == "file":
        return f"file://{tmp_path}/a/store"
    fsspec.filesystem("memory").store.clear()
    return "memory://bucket/store"


def names(url):
    files, root = fsspec.url_to_fs(url)
    return sorted(path.rpartition("/")[2] for path in files.ls(root, detail=False))


def test_shadows_come_from_a_url(url, dense, digits, monkeypatch):  # noqa: F811
    expected = train_shadows(dense, digits, K, 1, Progress())
    with Fleet(url, "local", 1, Machine()) as fleet:
        assert alike(fleet.train(dense, digits, K, 1, Progress()), expected)
    monkeypatch.setattr(driver, "perform", lambda *_: pytest.fail("done again"))
    with Fleet(url + "/", "local", 1, Machine()) as fleet:
        assert alike(fleet.train(dense, digits, K, 1, Progress()), expected)
    assert names(url) == sorted(f"{task.sha256}.h5" for task in shadow_tasks(dense, K))


def test_a_result_is_whole_or_absent(url, dense, monkeypatch):  # noqa: F811
    task = shadow_tasks(dense, K)[0]
    store, data = open_store(url), perform(task.text)
    for damaged in (data[:-100], b"", b"<html>no access</html>"):
        with pytest.raises(DataError, match="not its result"):
            store.put(task, damaged)
    assert not store.has(task)

    def fails(*_, **__):
        raise PermissionError("no write access")

    with monkeypatch.context() as patch:
        patch.setattr(type(store.files), "mv", fails)
        with pytest.raises(DataError, match=f"{url}: no write access; can this process read and write there"):
            store.put(task, data)
    assert not store.has(task)
    store.put(task, data)
    assert store.has(task)


def test_a_foreign_or_damaged_result_is_refused_by_its_url(url, dense):  # noqa: F811
    first, second = shadow_tasks(dense, K)[:2]
    store = open_store(url)
    data = perform(first.text)
    store.files.pipe_file(f"{store.root}/{second.sha256}.h5", data)
    with pytest.raises(DataError, match=f"{url}/{second.sha256}.h5: stale"):
        store.read(second)
    store.files.pipe_file(f"{store.root}/{second.sha256}.h5", data[: len(data) // 2])
    with pytest.raises(DataError, match=f"{url}/{second.sha256}.h5: damaged"):
        store.read(second)


def test_the_commands_take_a_url(url, dense, tmp_path):  # noqa: F811
    save_model(dense, tmp_path / "m.h5")
    write_plan(shadow_tasks(dense, K), tmp_path / "plan")
    result = run("task", *sorted((tmp_path / "plan").iterdir()), "--store", url)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{K // 2} tasks are done: {url}\n"
    result = run("attack", tmp_path / "m.h5", "--shadows", K, "--store", url, "--json", tmp_path / "a.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "a.json").read_text())["shadows"]["count"] == K


def test_without_scheme_it_is_a_folder(tmp_path):
    assert type(open_store(str(tmp_path / "store"))) is Store


@pytest.mark.parametrize(
    ("url", "said"), [("nonsense://x/y", "nonsense"), ("s3://bucket/x", "install the extra remote")]
)
def test_what_cannot_be_opened_is_one_line(url, said, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ArgumentError, match=said) as error:
        RemoteStore(url)
    assert str(error.value).startswith(url)
    assert "\n" not in str(error.value)


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ArgumentError, match="install the extra remote"):
        open_store("memory://x")

"""Model files: round trips, and refusal of damaged and hostile files with the package's own errors."""

import contextlib
import json
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoprune.errors import DataError
from nanoprune.lab.models.model import Model, load_model, save_model
from nanoprune.lab.storage.hdf5 import write_text
from nanoprune.lab.zoo import build, describe


def a_model(seed=0, widths=(6, 5)):
    net = build(describe("mlp", (4,), 3, list(widths))).initialise([np.random.default_rng(seed)])
    return Model(net, "digits", "ab" * 32, 20, 10, 30, seed, [{"step": "train", "epochs": 3}])


@given(seed=st.integers(0, 2**32), widths=st.lists(st.integers(1, 20), max_size=3))
@settings(max_examples=20, deadline=None)
def test_round_trip(seed, widths, tmp_path_factory):
    path = tmp_path_factory.mktemp("m") / "m.h5"
    model = a_model(seed, widths)
    save_model(model, path)
    back = load_model(path)
    assert np.array_equal(back.net.theta, model.net.theta)
    assert back.net.description == model.net.description
    assert (back.dataset, back.data_sha256, back.seed, back.steps) == ("digits", "ab" * 32, seed, model.steps)
    assert (back.members, back.reference, back.nonmembers) == (20, 10, 30)


def a_model_with_running_statistics():
    net = build(describe("resnet18", (8, 1, 8), 3, 0.05)).initialise([np.random.default_rng(0)])
    net.state[...] = 1 + np.arange(net.state.size) / 7
    return Model(net, "digits", "ab" * 32, 20, 10, 30, 0, [])


def test_running_statistics_and_width_come_back(tmp_path):
    model = a_model_with_running_statistics()
    save_model(model, tmp_path / "m.h5")
    back = load_model(tmp_path / "m.h5")
    assert back.net.description == model.net.description
    np.testing.assert_array_equal(back.net.theta, model.net.theta)
    np.testing.assert_array_equal(back.net.state, model.net.state)


@pytest.mark.parametrize("width", [0.06, 0, -1, 1e9, "0.05", True, None, [5]])
def test_another_width_than_the_parameters_have_is_refused(width, tmp_path):
    save_model(a_model_with_running_statistics(), tmp_path / "m.h5")
    set_text(tmp_path / "m.h5", "network", changed(tmp_path / "m.h5", width=width))
    refused(tmp_path / "m.h5")


@pytest.mark.parametrize("value", [3, [], [[0.5]], [[0.5], [0]], [[0.5, 0.5], [1, 1]], [["a"], ["b"]], [[0.5], [1], 2]])
def test_a_damaged_standardisation_is_refused(value, tmp_path):
    save_model(a_model_with_running_statistics(), tmp_path / "m.h5")
    set_text(tmp_path / "m.h5", "network", changed(tmp_path / "m.h5", standardise=[[0.5], [0.25]]))
    assert load_model(tmp_path / "m.h5").net.description["standardise"] == [[0.5], [0.25]]
    set_text(tmp_path / "m.h5", "network", changed(tmp_path / "m.h5", standardise=value))
    refused(tmp_path / "m.h5")


def test_statistics_that_are_missing_too_many_or_impossible_are_refused(tmp_path):
    path = tmp_path / "m.h5"
    for values in (None, np.ones(3, np.float32), np.full(480, np.nan, np.float32), np.full(480, -1, np.float32)):
        save_model(a_model_with_running_statistics(), path)
        with h5py.File(path, "r+") as file:
            assert file["state"].shape == (480,)
            del file["state"]
            if values is not None:
                file["state"] = values
        refused(path, "state")


@pytest.fixture
def path(tmp_path):
    save_model(a_model(), tmp_path / "m.h5")
    return tmp_path / "m.h5"


def refused(path, *words):
    with pytest.raises(DataError) as error:
        load_model(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert all(word in message for word in words)


def set_text(path, name, text):
    with h5py.File(path, "r+") as file:
        del file[name]
        write_text(file, name, text)


def changed(path, **changes):
    with h5py.File(path) as file:
        return json.dumps(json.loads(file["network"][()]) | changes)


def test_missing_truncated_and_foreign_files(path, tmp_path):
    refused(tmp_path / "nowhere.h5", "not found")
    path.write_bytes(path.read_bytes()[:-200])
    refused(path, "HDF5")
    path.write_bytes(b"not HDF5 at all")
    refused(path, "HDF5")
    with h5py.File(path, "w") as file:
        file["other"] = 1
    refused(path, "attribute format is missing")


def test_another_format_is_refused_by_its_number(path):
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = 99
    refused(path, "format 99", "1")


@pytest.mark.parametrize("network", ["{", "[]", "null", '{"network": "mlp"}'])
def test_a_damaged_description_is_refused(path, network):
    set_text(path, "network", network)
    refused(path)


def test_a_small_file_that_asks_for_much_memory_is_refused_before_it_is_given(path):
    for change in ({"widths": [900_000, 900_000]}, {"widths": [-5, 5]}, {"widths": [1e3, 5]}, {"classes": 2}):
        set_text(path, "network", changed(path, **change))
        tracemalloc.start()
        refused(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50e6


def test_parameters_that_are_not_finite_or_not_float32_are_refused(path):
    with h5py.File(path, "r+") as file:
        file["theta"][3] = np.nan
    refused(path, "NaN")
    with h5py.File(path, "r+") as file:
        values = file["theta"][()].astype(np.float64)
        del file["theta"]
        file["theta"] = values
    refused(path, "float64")


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_is_done_to_a_file_only_our_error_comes_out(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "m.h5"
    save_model(a_model(), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    with contextlib.suppress(DataError):
        assert np.isfinite(load_model(path).net.theta).all()

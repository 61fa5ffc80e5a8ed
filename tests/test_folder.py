"""Folders of class folders of images, in memory."""

import numpy as np
import pytest

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import load
from nanoprune.lab.data.folder import load_folder
from nanoprune.lab.experiment.recipes import recipe_for

Image = pytest.importorskip("PIL.Image")
COLOURS = {"coat": (200, 10, 10), "hat": (10, 200, 10)}


def fill(folder, count=4, size=(80, 100)):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{i}.jpg", quality=95)


def test_classes_are_the_folders_and_pixels_the_images(tmp_path):
    fill(tmp_path / "clothes")
    data = load(str(tmp_path / "clothes"))
    assert (data.name, data.class_names, data.x.shape) == ("clothes", ("coat", "hat"), (8, 64, 3, 64))
    for image, c in zip(data.x, data.y, strict=True):
        expected = np.array(COLOURS[data.class_names[c]])[None, :, None] / 255
        assert np.abs(image - expected).max() < 0.02  # JPEG rounds
    assert recipe_for(data).network == "resnet18"


def test_train_and_val_are_official_parts(tmp_path):
    fill(tmp_path / "train", 3)
    fill(tmp_path / "val", 2)
    data = load_folder(tmp_path, side=16)
    assert (len(data.y), data.train, data.x.shape[1:]) == (10, 6, (16, 3, 16))


def test_what_is_no_such_folder_is_refused(tmp_path):
    with pytest.raises(ArgumentError, match="no JPEG files in class folders"):
        load(str(tmp_path))
    fill(tmp_path, 2)
    (tmp_path / "hat" / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"hat/broken\.jpg is no JPEG file"):
        load(str(tmp_path))


def test_more_than_fits_into_memory_is_for_data_pack(tmp_path, monkeypatch):
    fill(tmp_path)
    monkeypatch.setattr("nanoprune.lab.data.folder.MOST_BYTES", 1000)
    with pytest.raises(DataError, match="8 images are too many for memory; pack them with `data pack`"):
        load(str(tmp_path))

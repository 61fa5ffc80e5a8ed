"""Class folders of images packed into one file, however often that is interrupted, and read a chunk at a time."""

import collections
import contextlib
import errno
import os
import pathlib
import shutil
import subprocess
import sys
import types

import click.testing
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab_training import train

import cli
from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import load, make_split
from nanoprune.lab.data.pack import crop, find_images, pack
from nanoprune.lab.data.packed import CHUNK, KEPT, load_packed
from nanoprune.lab.engine import run as batch_module
from nanoprune.lab.engine.evaluation import accuracy
from nanoprune.lab.engine.process_group import ProcessGroup
from nanoprune.lab.engine.run import shuffled_by_blocks
from nanoprune.lab.experiment.memory import resident
from nanoprune.nn import Dense, Flatten, Network, Sequential, Workspace
from nanoprune.records import Records
from nanoprune.schedule import Schedule

Image = pytest.importorskip("PIL.Image")
PER_CLASS = {"train/cat": 14, "train/dog": 11, "train/eel": 12, "val/cat": 3, "val/dog": 4, "val/eel": 2}
BROKEN = ("train/dog/3.JPEG", "train/eel/0.JPEG", "val/cat/1.JPEG")


def colour(part: str, number: int) -> tuple[int, int, int]:
    """What tells an image: its class in red, its number in green, its part in blue."""
    of = sorted({name.split("/")[1] for name in PER_CLASS}).index(part.split("/")[1])
    return 40 + 80 * of, 10 + 15 * number, 200 if part.startswith("val") else 50


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """46 plain images, three of them broken: cut off, empty, and no image at all."""
    root = tmp_path_factory.mktemp("images")
    for part, count in PER_CLASS.items():
        (root / part).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (20 + number, 24), colour(part, number)).save(root / part / f"{number}.JPEG", quality=95)
    cut, empty, other = (root / name for name in BROKEN)
    cut.write_bytes(cut.read_bytes()[:300])
    empty.write_bytes(b"")
    other.write_bytes(b"no image" * 100)
    (root / "train" / "cat" / "notes.txt").write_text("not looked at")
    return root


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> pathlib.Path:
    out = tmp_path_factory.mktemp("packed") / "imagenet" / "imagenet.h5"
    assert pack(find_images(folder), out) == (43, 3)
    return out


@pytest.fixture(scope="module")
def chunked(packed, tmp_path_factory) -> pathlib.Path:
    """The same images in a file of format 1, as version 0.1 wrote it: in chunks, and cut to those that are there."""
    path = tmp_path_factory.mktemp("chunked") / "imagenet.h5"
    with h5py.File(packed) as new, h5py.File(path, "w") as old:
        count, train = new["counts"][()]
        old.create_dataset("images", data=new["images"][:count], chunks=(CHUNK, 224, 3, 224))
        old["labels"] = new["labels"][:count]
        old["chunk_sha256"] = new["chunk_sha256"][: -(-count // CHUNK)]
        old["classes"] = new["classes"][()]
        old.attrs["format"], old.attrs["train"] = 1, int(train)
    return path


def pixels_of(path: pathlib.Path) -> np.ndarray:
    """The images of a packed file (43, 224, 3, 224), read without our reader."""
    with h5py.File(path) as file:
        return file["images"][:43]


def assert_same(left: pathlib.Path, right: pathlib.Path) -> None:
    assert left.read_bytes() == right.read_bytes()


# Packing


def test_every_image_is_there_once_with_its_label_training_images_first(packed, folder):
    data = load("imagenet", packed.parents[1])
    assert (data.name, data.classes, data.train, data.x.shape) == ("imagenet", 3, 35, (43, 224, 3, 224))
    known = {}
    for part, count in PER_CLASS.items():
        for number in range(count):
            if f"{part}/{number}.JPEG" not in BROKEN:
                known[colour(part, number)] = sorted({name.split("/")[1] for name in PER_CLASS}).index(part[-3:])
    for i in range(43):
        middle = data.x[i][112, :, 112] * 255
        nearest = min(known, key=lambda c: np.abs(np.subtract(c, middle)).max())
        assert np.abs(np.subtract(nearest, middle)).max() < 5
        assert (data.y[i], i < 35) == (known.pop(nearest), nearest[2] == 50)
    assert not known
    assert len({tuple(data.y[i : i + 6]) for i in range(0, 30, 6)} - {(0,) * 6, (1,) * 6, (2,) * 6}) > 2  # mixed


@pytest.mark.parametrize(("width", "height"), [(300, 256), (256, 500), (100, 60), (224, 224), (1000, 3), (37, 641)])
def test_crop_is_torchvisions(tmp_path, width, height):
    """Resize(256), CenterCrop(224), as its documentation has it: the longer side int(256 long / short)."""
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path = tmp_path / "image.jpg"
    Image.fromarray(pixels).save(path, quality=90)
    long, short = max(width, height), min(width, height)
    size = [256 if side == short else int(256 * long / short) for side in (width, height)]
    resized = np.asarray(Image.open(path).resize(size, Image.Resampling.BILINEAR))
    top, left = (round((side - 224) / 2.0) for side in resized.shape[:2])
    expected = resized[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(crop(path), expected.transpose(0, 2, 1))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_colours_become_rgb(tmp_path, mode):
    Image.new("RGB", (50, 50), (90, 90, 90)).convert(mode).save(tmp_path / "a.jpg")
    assert np.abs(crop(tmp_path / "a.jpg").astype(int) - 90).max() < 6


@pytest.mark.parametrize("interruptions", [[1], [16, 17], [35, 46], [5, 20, 40]])
def test_what_was_interrupted_ends_as_if_it_had_not_been(packed, folder, tmp_path, interruptions):
    out, named = tmp_path / "out.h5", []
    for stop in interruptions:  # SIGINT at any time

        def progress(done: int, total: int, stop: int = stop) -> None:
            assert total == 46
            if done >= stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            pack(find_images(folder), out, 2, progress, named.append)
        assert [path.name for path in tmp_path.iterdir()] == ["out.h5.part"]
    begun = []
    assert pack(find_images(folder), out, 2, lambda done, total: begun.append(done), named.append) == (43, 3)
    assert set(named) == set(BROKEN)
    assert begun[0] >= max(stop for stop in interruptions) - CHUNK - len(BROKEN)  # it went on, and did not begin again
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    assert_same(out, packed)


def test_what_was_killed_goes_on(packed, folder, tmp_path):
    script = (
        "import os, sys; from nanoprune.lab.data.pack import find_images, pack\n"
        "pack(find_images(sys.argv[1]), sys.argv[2], 2, lambda done, total: os._exit(9) if done == 25 else None)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", script, folder, tmp_path / "out.h5"], cwd=pathlib.Path(__file__).parents[1]
    )
    assert killed.returncode == 9
    begun = []
    assert pack(find_images(folder), tmp_path / "out.h5", 1, lambda done, total: begun.append(done)) == (43, 3)
    assert begun[0] >= CHUNK
    assert_same(tmp_path / "out.h5", packed)


def test_folders_without_a_split_are_one_training_set(folder, tmp_path):
    assert pack(find_images(folder / "val"), tmp_path / "out.h5") == (8, 1)
    data = load_packed(tmp_path / "out.h5", "imagenet")
    assert (data.train, data.classes, len(data.y)) == (8, 3, 8)


def test_other_images_are_not_added_to_what_was_begun(folder, tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(find_images(folder), tmp_path / "out.h5", progress=stop)
    with pytest.raises(DataError, match=r"out\.h5\.part: begun from other images; remove it to begin again"):
        pack(find_images(folder / "val"), tmp_path / "out.h5")


def test_what_cannot_be_packed_is_refused(folder, packed, tmp_path, monkeypatch):
    with pytest.raises(ArgumentError, match=r"--src .*nowhere: not a folder"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(ArgumentError, match="no JPEG files in class folders"):
        find_images(folder / "train" / "cat")
    shutil.copytree(folder, tmp_path / "uneven")
    (tmp_path / "uneven" / "val" / "fox").mkdir()
    with pytest.raises(ArgumentError, match="train and val hold folders of different classes"):
        find_images(tmp_path / "uneven")
    with pytest.raises(DataError, match=r"imagenet\.h5 already exists"):
        pack(find_images(folder), packed)
    (tmp_path / "other.h5.part").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match=r"other\.h5\.part: not begun by 'data pack'"):
        pack(find_images(folder), tmp_path / "other.h5")
    assert (tmp_path / "other.h5.part").read_bytes() == b"no HDF5"
    (tmp_path / "a" / "cat").mkdir(parents=True)
    (tmp_path / "a" / "cat" / "0.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="every image is broken"):
        pack(find_images(tmp_path / "a"), tmp_path / "a.h5")
    monkeypatch.setattr("shutil.disk_usage", lambda path: types.SimpleNamespace(free=1 << 20))
    with pytest.raises(DataError, match="the images take 6 MiB, but 1 MiB are free"):
        pack(find_images(folder), tmp_path / "full.h5")
    assert not (tmp_path / "full.h5.part").exists()
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ArgumentError, match="JPEG files need Pillow; install it with: pip install"):
        pack(find_images(folder), tmp_path / "no.h5")


def test_an_image_of_absurd_size_is_broken_and_not_unpacked(tmp_path, monkeypatch):
    (tmp_path / "in" / "cat").mkdir(parents=True)
    for name, side in (("0.jpg", 30), ("1.jpg", 300)):
        Image.new("RGB", (side, side)).save(tmp_path / "in" / "cat" / name)
    monkeypatch.setattr("nanoprune.lab.data.pack.LARGEST", 80_000)
    assert pack(find_images(tmp_path / "in"), tmp_path / "out.h5") == (1, 1)
    Image.new("L", (2000, 1)).save(tmp_path / "thread.jpg")  # 256 pixels high it would be 512,000 wide
    assert crop(tmp_path / "thread.jpg") is None


# Kills, full disks, hostile files


@pytest.fixture(scope="module")
def few(folder, tmp_path_factory) -> tuple[pathlib.Path, pathlib.Path]:
    """Nineteen images, two of them broken, and the file that they are packed into undisturbed."""
    root = tmp_path_factory.mktemp("few")
    for name in ("train/dog", "train/cat"):
        shutil.copytree(folder / name, root / "src" / name)
    for number in range(5, 11):
        (root / "src" / "train" / "cat" / f"{number}.JPEG").unlink()
    (root / "src" / "train" / "cat" / "0.JPEG").write_bytes(b"")
    assert pack(find_images(root / "src"), root / "out.h5") == (17, 2)
    return root / "src", root / "out.h5"


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it, and it writes no more."""


class Disk:
    """os.pwrite and the like, of which the n-th call kills the process, half of its data written, or fails."""

    def __init__(self, monkeypatch, at: int, with_what: BaseException | None) -> None:
        self.calls, self.at, self.with_what = 0, at, with_what
        self.real = {name: getattr(os, name) for name in ("pwrite", "fsync", "posix_fallocate", "replace")}
        for name in self.real:
            monkeypatch.setattr(os, name, lambda *args, name=name: self.call(name, *args))

    def call(self, name: str, *args: object) -> object:
        self.calls += 1
        if self.calls == self.at:
            if name == "pwrite" and len(args[1]) > 8:  # of eight bytes in one sector none is ever half there
                self.real[name](args[0], args[1][: len(args[1]) // 2], args[2])
            raise self.with_what
        return self.real[name](*args)


def packing(src: pathlib.Path, out: pathlib.Path, at: int = 0, with_what: BaseException | None = None) -> int:
    """Pack, on such a disk; return how many calls it took."""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, at, with_what)
        pack(find_images(src), out)
        return disk.calls


def test_what_is_killed_at_any_write_resumes_to_the_same_bytes(few, tmp_path):
    src, undisturbed = few
    calls = packing(src, tmp_path / "all.h5")
    assert calls > 15
    for at in range(1, calls + 1):
        out = tmp_path / f"{at}.h5"
        with pytest.raises(Killed):
            packing(src, out, at, Killed())
        if not out.exists():  # the last call flushes the folder: the file has its name by then
            pack(find_images(src), out)
        assert_same(out, undisturbed)
        assert not out.with_name(f"{at}.h5.part").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EFBIG])
def test_a_write_that_fails_is_one_line_and_nothing_has_the_final_name(few, tmp_path, code):
    src, undisturbed = few
    calls = packing(src, tmp_path / "all.h5")
    for at in range(1, calls + 1):
        out = tmp_path / f"{at}.h5"
        with pytest.raises(DataError, match=rf"{at}\.h5\.part: cannot be written \({os.strerror(code)}\)") as caught:
            packing(src, out, at, OSError(code, os.strerror(code)))
        assert "\n" not in str(caught.value)
        if at < calls:
            assert not out.exists()
            pack(find_images(src), out)
        assert_same(out, undisturbed)


def test_room_is_reserved_before_the_work(few, tmp_path, monkeypatch):
    """A disk that fills up while images are decoded takes nothing from the file."""
    src, _ = few
    out = tmp_path / "out.h5"

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(find_images(src), out, progress=stop)
    part = (tmp_path / "out.h5.part").stat()
    assert part.st_blocks * 512 >= part.st_size >= 19 * 224 * 3 * 224


def test_what_the_disk_lost_is_found_before_the_file_gets_its_name(few, tmp_path, monkeypatch):
    src, _ = few
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, place: real(handle, lossy(data), place))

    def lossy(data: memoryview) -> bytes:
        return bytes(data[:-1]) + b"\xff" if len(data) >= 224 * 3 * 224 else bytes(data)

    with pytest.raises(DataError, match=r"out\.h5\.part: chunk \d is damaged, its SHA-256 is another"):
        pack(find_images(src), tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_second_run_at_once_is_refused_and_the_first_ends_well(few, tmp_path):
    src, undisturbed = few
    refused = []

    def again(done: int, total: int) -> None:
        with pytest.raises(DataError, match=r"out\.h5\.part: another 'data pack' is at work on it"):
            pack(find_images(src), tmp_path / "out.h5")
        refused.append(done)

    pack(find_images(src), tmp_path / "out.h5", progress=again)
    assert len(refused) == 20
    assert_same(tmp_path / "out.h5", undisturbed)


def test_what_appears_under_the_final_name_meanwhile_is_not_overwritten(few, tmp_path):
    src, _ = few
    out = tmp_path / "out.h5"
    with pytest.raises(DataError, match=r"out\.h5 already exists"):
        pack(find_images(src), out, checked=lambda done, total: out.write_text("another's"))
    assert out.read_text() == "another's"


def test_a_part_that_was_removed_meanwhile_is_told(few, tmp_path):
    src, _ = few
    part = tmp_path / "out.h5.part"
    with pytest.raises(DataError, match=r"out\.h5\.part: was removed or replaced meanwhile"):
        pack(find_images(src), tmp_path / "out.h5", checked=lambda done, total: part.unlink(missing_ok=True))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 251 + ".h5", "pipe.h5", "link.h5"])
def test_a_name_that_cannot_be_is_refused_before_the_work(few, tmp_path, name):
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "link.h5").symlink_to("nowhere")
    with pytest.raises((ArgumentError, DataError), match=r"at most 255 bytes|already exists"):
        pack(find_images(few[0]), tmp_path / name, progress=lambda done, total: pytest.fail("it began"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.h5", "pipe.h5"]


FORMATS = ("PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM")


@pytest.mark.parametrize("kind", [*FORMATS, "PostScript", "pipe", "folder", "loop", "link to nowhere", "/dev/zero"])
def test_what_is_named_jpeg_and_is_none_is_skipped_by_its_content(tmp_path, monkeypatch, kind):
    """Pillow knows a format by content: it would start Ghostscript, from PATH, on PostScript."""
    (tmp_path / "src" / "cat").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    ghostscript = tmp_path / "bin" / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'gs-was-run'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", str(ghostscript))
    path = tmp_path / "src" / "cat" / "a.jpg"
    Image.new("RGB", (300, 300), (9, 9, 9)).save(path.with_name("b.jpg"))
    match kind:
        case "PostScript":
            path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n%%EndComments\nshowpage\n%%EOF\n")
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to("a.jpg")
        case "link to nowhere":
            path.symlink_to("nowhere")
        case "/dev/zero":
            path.symlink_to("/dev/zero")
        case _:
            Image.new("RGB", (300, 300), (9, 9, 9)).save(path, kind)
    skipped = []
    assert pack(find_images(tmp_path / "src"), tmp_path / "out.h5", broken=skipped.append) == (1, 1)
    assert skipped == ["cat/a.jpg"]
    assert not (tmp_path / "gs-was-run").exists()


def test_an_image_is_measured_before_it_is_decoded(tmp_path, monkeypatch):
    """A header that says 9,000 x 9,000 in a file of a kilobyte: nothing is decoded, and no memory is taken."""
    Image.new("RGB", (30, 30)).save(tmp_path / "a.jpg")
    data = bytearray((tmp_path / "a.jpg").read_bytes())
    start = data.find(b"\xff\xc0") + 5  # height and width in the frame header (ITU T.81, B.2.2)
    data[start : start + 4] = (9000).to_bytes(2, "big") * 2
    (tmp_path / "a.jpg").write_bytes(data)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.size == (9000, 9000)
    monkeypatch.setattr("PIL.JpegImagePlugin.JpegImageFile.load", lambda self: pytest.fail("decoded"))
    assert crop(tmp_path / "a.jpg") is None


def test_the_command(folder, packed, tmp_path):
    def run(*words: object) -> click.testing.Result:
        return click.testing.CliRunner().invoke(cli.main, [str(word) for word in ("data", "pack", *words)])

    out = tmp_path / "imagenet" / "imagenet.h5"
    result = run("imagenet", "--src", folder, "--out", out)
    assert f"{out}: 43 images of 3 classes, 3 broken ones skipped" in result.output
    for name in BROKEN:
        assert f"{folder / name}: broken, skipped" in result.output
    assert_same(out, packed)
    for words, error in (
        (("imagenet", "--src", tmp_path / "no", "--out", tmp_path / "x.h5"), "not a folder"),
        (("mnist", "--src", folder, "--out", tmp_path / "x.h5"), "data set must be imagenet, got 'mnist'"),
        (("imagenet", "--src", folder, "--out", out), "already exists"),
    ):
        result = run(*words)
        assert error in result.output
        assert result.exit_code == 2
        assert "Traceback" not in result.output


# Reading


@pytest.mark.parametrize("format", ["packed", "chunked"])
def test_a_packed_file_gathers_as_an_array_does(packed, format, request):
    data = load_packed(request.getfixturevalue(format), "imagenet")
    pixels = pixels_of(packed)
    everything = np.true_divide(pixels, 255, dtype=np.float32)
    rng = np.random.default_rng(0)
    for index in (
        rng.integers(0, 43, (3, 7)),
        np.arange(43),
        np.array([5, 5, 0]),
        slice(3, 30, 4),
        42,
        -1,
        rng.random(43) > 0.5,
    ):
        np.testing.assert_array_equal(data.x[index], everything[index])
    with pytest.raises(IndexError):
        data.x[43]
    index = rng.integers(0, 43, (2, 9))
    for found, expected in zip(
        Records(data.x, data.y).batch(index, Workspace()),
        Records(everything, data.y).batch(index, Workspace()),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)
    assert len(make_split(data, 10, 5, 10, seed=0).members) == 10


def test_only_the_chunks_that_are_asked_for_are_read_and_few_are_kept(packed, monkeypatch):
    monkeypatch.setattr("nanoprune.lab.data.packed.KEPT", 1)
    data = load_packed(packed, "imagenet")
    read = []

    class Spy:
        def __getitem__(self, part: slice) -> np.ndarray:
            read.append(part.start // CHUNK)
            return images[part]

    images, data.x.images = data.x.images, Spy()
    data.x[np.array([17, 30, 16, 31])]
    data.x[np.array([20])]
    assert read == [1]
    data.x[np.array([42, 1])]
    assert read == [1, 0, 2]
    assert len(data.x._chunks) == 1


@pytest.mark.parametrize("threads", [1, 2])
def test_training_from_the_file_is_training_from_memory_in_that_order(packed, threads):
    data = load_packed(packed, "imagenet")
    memory = Records(np.true_divide(pixels_of(packed), 255, dtype=np.float32), data.y)
    memory.x = memory.x.view(type("Blocked", (np.ndarray,), {"block": CHUNK}))
    found = []
    for records in (Records(data.x, data.y), memory):
        net = Network(Sequential(Flatten(), Dense(224 * 3 * 224, 3)), (224, 3, 224), 1)
        members, plan = np.arange(data.train)[None], Schedule(2, batch=8, lr=1e-4, augment="crop-flip")
        losses = train(net, records, members, plan, [np.random.default_rng(0)], group=ProcessGroup(threads))
        found.append((losses, accuracy(net, records, members), np.array(net.theta)))
    for from_file, from_memory in zip(*found, strict=True):
        np.testing.assert_array_equal(from_file, from_memory)


def test_what_a_process_keeps_of_a_file_counts_for_each(packed):
    data = load_packed(packed, "imagenet")
    data.x[np.arange(len(data.x))]
    assert data.x.kept_bytes == sum(chunk.nbytes for chunk in data.x._chunks.values())  # of a small file everything
    assert resident(data.x, 3) == 3 * data.x.kept_bytes
    array = np.zeros((5, 7), np.float32)
    assert resident(array, 3) == 140


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(1, 9), st.integers(1, 5))
def test_order_by_blocks_has_each_member_once_and_each_block_in_one_stretch(seed, count, block, mixed):
    rng = np.random.default_rng(seed)
    members = np.stack([rng.choice(400, count, replace=False) for _ in range(2)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch_module, "MIXED", mixed)
        order = np.concatenate(
            list(shuffled_by_blocks(members, 7, np.random.default_rng(seed).spawn(2), block)), axis=1
        )
        again = np.concatenate(
            list(shuffled_by_blocks(members, 7, np.random.default_rng(seed).spawn(2), block)), axis=1
        )
    np.testing.assert_array_equal(order, again)
    for row, of in zip(order, members, strict=True):
        assert sorted(row) == sorted(of)
        open_blocks, closed = [], set()  # whoever keeps the last 2 * mixed blocks reads each once
        for each in row // block:
            assert each not in closed
            if each in open_blocks:
                open_blocks.remove(each)
            open_blocks.append(each)
            if len(open_blocks) > 2 * mixed:
                closed.add(open_blocks.pop(0))


def test_the_order_by_blocks_is_random_within_and_among_them():
    members = np.arange(10 * batch_module.MIXED)[None]
    rng = [np.random.default_rng(0)]
    first, second = ([batch[0] for batch in shuffled_by_blocks(members, 50, rng, 5)] for _ in range(2))
    assert np.mean([np.isin(a, b).mean() for a, b in zip(first, second, strict=True)]) < 0.2
    group = first[: 5 * batch_module.MIXED // 50]
    assert np.mean([len(set(batch // 5)) for batch in group]) > 30  # neighbours in the file are mostly apart
    assert np.mean([np.isin(batch, group[0]).any() for batch in group[1:]]) == 0


@pytest.mark.parametrize("processes", [2, 4, 16])
def test_processes_that_share_batches_out_read_few_blocks_twice(processes):
    """As `Passes` splits them; each keeps 128 blocks, those that it used last, as `Packed` does."""
    members, reads = np.arange(20_000)[None], 0
    kept = [collections.OrderedDict() for _ in range(processes)]
    for batch in shuffled_by_blocks(members, 64, [np.random.default_rng(0)], CHUNK):
        for mine, part in zip(kept, np.array_split(batch[0], processes), strict=True):
            for block in (part // CHUNK).tolist():
                reads += block not in mine
                mine[block] = None
                mine.move_to_end(block)
                if len(mine) > KEPT:
                    mine.popitem(last=False)
    assert 20_000 / CHUNK <= reads <= 20_000 / CHUNK * (1 + 0.15 * processes)


# Damage


def damaged(packed: pathlib.Path, folder: pathlib.Path, change) -> pathlib.Path:
    path = folder / "copy.h5"
    shutil.copy(packed, path)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def put(name: str, data: object, **how: object):
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **({"data": data} if data is not None else {}), **how)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.__setitem__("format", 3), "format 3, this version reads 1 and 2"),
        (lambda file: file.__delitem__("labels"), "labels is missing"),
        (lambda file: file.__delitem__("images"), "images is missing"),
        (put("labels", np.zeros(42, np.uint16)), r"labels is uint16 \(42,\), expected uint16 \(43,\)"),
        (put("labels", np.zeros(43, np.float32)), "labels is float32"),
        (put("labels", np.full(43, 3, np.uint16)), "labels from 3 to 3, expected 0 to 2"),
        (put("chunk_sha256", np.zeros((2, 32), np.uint8)), "chunk_sha256 is uint8"),
        (put("images", np.zeros((43, 8, 3, 8), np.uint8)), "images is uint8"),  # not in chunks
        (put("images", np.zeros((43, 8, 1, 8), np.uint8), chunks=(CHUNK, 8, 1, 8)), r"expected \(H, 3, W\)"),
        (put("images", None, shape=(43, 9**9, 3, 8), dtype="u1", chunks=(16, 8, 3, 8)), "images declares"),
        (put("images", np.zeros((43, 8, 3, 8), np.uint8), chunks=(16, 8, 3, 8), compression="gzip"), "images is"),
        (put("labels", None, shape=(43,), dtype="u2", external="/etc/passwd"), "labels is stored in other files"),
        (lambda file: file.attrs.__setitem__("train", 44), "official training set of 44 records"),
        (lambda file: file.attrs.__setitem__("train", "all"), "attribute train is object"),
        (lambda file: file.attrs.__setitem__("format", 2), "images is uint8"),  # which is not in chunks there
    ],
)
def test_another_file_is_refused(chunked, tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        load_packed(damaged(chunked, tmp_path, change), "imagenet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("counts", np.array([0, 0])), "counts are 0 and 0 of 46 images: not finished"),
        (put("counts", np.array([47, 35])), "counts are 47 and 35 of 46"),
        (put("counts", np.array([43, 44])), "counts are 43 and 44 of 46"),
        (put("counts", np.array([-1, -2])), "counts are -1 and -2 of 46"),
        (put("counts", np.array([43, 35, 1])), r"counts is int64 \(3,\)"),
        (put("counts", np.array([43.0, 35.0])), "counts is float64"),
        (lambda file: file.__delitem__("counts"), "counts is missing"),
        (put("labels", np.zeros(43, np.uint16)), r"labels is uint16 \(43,\), expected uint16 \(46,\)"),
        (lambda file: file.attrs.__setitem__("format", 1), "images is uint8"),
    ],
)
def test_another_file_of_today_is_refused(packed, tmp_path, change, message):
    with pytest.raises(DataError, match=message) as caught:
        load_packed(damaged(packed, tmp_path, change), "imagenet")
    assert "\n" not in str(caught.value)


def test_a_promise_of_more_than_the_file_holds_is_refused(tmp_path):
    """No image is stored, and labels for a billion are claimed: nothing of that size is made."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        count = 10**9
        file.create_dataset("images", (count, 224, 3, 224), "u1", chunks=(CHUNK, 224, 3, 224))
        file.create_dataset("labels", (count,), "u2")
        file.create_dataset("chunk_sha256", (-(-count // CHUNK), 32), "u1")
        file.create_dataset("classes", data=np.array([b"cat"]))
        file.attrs["format"], file.attrs["train"] = 1, 1
    with pytest.raises(DataError, match=r"images declares [\d,]+ bytes of memory for 0 bytes"):
        load_packed(tmp_path / "x.h5", "imagenet")


def test_a_damaged_chunk_is_found_when_it_is_read(packed, tmp_path):
    path = damaged(packed, tmp_path, lambda file: file["images"].__setitem__((20, 5, 1, 7), 123))
    data = load_packed(path, "imagenet")
    data.x[np.array([0, 15, 40])]
    with pytest.raises(DataError, match=r"copy\.h5: chunk 1 is damaged, its SHA-256 is another"):
        data.x[np.array([0, 16])]


def test_the_hash_says_which_data_it_is(packed, chunked, tmp_path):
    other = damaged(packed, tmp_path, put("labels", np.zeros(46, np.uint16)))
    assert load_packed(packed, "imagenet").sha256 != load_packed(other, "imagenet").sha256
    assert load_packed(packed, "imagenet").sha256 == load_packed(chunked, "imagenet").sha256


def test_a_missing_file_says_how_it_is_made(tmp_path):
    with pytest.raises(DataError, match=r"imagenet\.h5 not found; pack a copy .*data pack imagenet --src DIR --out"):
        load("imagenet", tmp_path)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_mutated_file_is_refused_or_read(tmp_path, data):
    """Bytes of a small packed file changed anywhere but in its pixels."""
    path = tmp_path / "small.h5"
    if not path.exists():
        with h5py.File(path, "w") as file:
            images = np.zeros((CHUNK, 1, 3, 1), np.uint8)
            file.create_dataset("images", data=images, chunks=images.shape)
            file.create_dataset("labels", data=np.arange(CHUNK, dtype=np.uint16) % 2)
            file.create_dataset("chunk_sha256", data=np.zeros((1, 32), np.uint8))
            file.create_dataset("classes", data=np.array([b"cat", b"dog"]))
            file.attrs["format"], file.attrs["train"] = 1, 9
        load_packed(path, "imagenet")
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    changed = tmp_path / "changed.h5"
    changed.write_bytes(content[: data.draw(st.sampled_from([len(content), len(content) // 2, 100]))])
    with contextlib.suppress(DataError):
        load_packed(changed, "imagenet").x[np.arange(3)]
    os.unlink(changed)

"""Class folders of JPEG files into one packed file: every image resized, cropped and stored, in a random order.

The shorter side becomes 256 pixels, and the middle 224 x 224 are kept: what networks for ImageNet are tested on. The
work can be interrupted at any time: FILE.part holds what was done, and the next run goes on from there. Everything has
its place in the file from the start, so that an interruption leaves no structure half written.
"""

import hashlib
import importlib
import os
import pathlib
import shutil
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import h5py
import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.packed import CHUNK, FORMAT, REMEDY
from nanoprune.lab.storage.bounded import DAMAGE, first_line, open_hdf5, stored_array, stored_text
from nanoprune.lab.storage.hdf5 import write_text

SUFFIXES = (".jpeg", ".jpg")
SHORTER, SIDE = 256, 224  # pixels
LARGEST = 1 << 26  # pixels of a resized image: one a thousand times as long as it is wide
AHEAD = 4 * CHUNK  # images that are decoded before the first of them is written
AGAIN = "remove it to begin again"
WAITING, KEPT, BROKEN = range(3)  # what became of a file


@dataclass(frozen=True)
class Source:
    """The images of a folder in the order in which they are packed: paths from the folder, their labels, class names.

    The first `train` are the official training set; where there is none, that is all of them.
    """

    folder: pathlib.Path
    paths: list[str]
    labels: np.ndarray  # (n,) uint16
    classes: list[str]
    train: int
    sha256: str  # of the names, sizes and order of the files


def find_images(folder: str | os.PathLike) -> Source:
    """The JPEG files of `folder`/CLASS, or of `folder`/train/CLASS and `folder`/val/CLASS; classes in order of name.

    Each part is in a random order, the same every time, so that neighbours in the file have different classes. Raises
    ArgumentError where there is no folder, or there are no images.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise ArgumentError(f"--src {folder}: not a folder")
    try:
        return _find(folder)
    except OSError as error:
        raise ArgumentError(f"--src {folder}: cannot be read ({error.strerror or error})") from error


def _find(folder: pathlib.Path) -> Source:
    parts = [name for name in ("train", "val") if (folder / name).is_dir()]
    classes = _folders(folder / parts[0]) if parts else _folders(folder)
    if len(parts) == 2 and _folders(folder / "val") != classes:
        raise ArgumentError(f"--src {folder}: train and val hold folders of different classes")
    if len(classes) > 1 << 16:
        raise ArgumentError(f"--src {folder}: {len(classes)} class folders, at most {1 << 16} expected")
    rng, digest = np.random.default_rng(0), hashlib.sha256()
    paths, labels, counts = [], [], []
    for part in parts or [""]:
        found = [(c, *image) for c, name in enumerate(classes) for image in _images(folder, pathlib.Path(part, name))]
        for i in rng.permutation(len(found)):
            label, path, size = found[i]
            digest.update(os.fsencode(path) + b"\0%d\0" % size)
            paths.append(path)
            labels.append(label)
        counts.append(len(found))
    if not counts[0]:
        raise ArgumentError(f"--src {folder}: no JPEG files in class folders; expected CLASS/NAME.JPEG or train/CLASS/")
    return Source(folder, paths, np.array(labels, np.uint16), classes, counts[0], digest.hexdigest())


def pack(
    source: Source,
    out: str | os.PathLike,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
    broken: Callable[[str], None] = lambda path: None,
) -> tuple[int, int]:
    """Pack `source` into the file `out`; return how many images are in it, and how many were broken and are not.

    Goes on where an earlier run of the same folder was interrupted. progress(done, total) is called as files are done,
    broken(path) for each that cannot be read. Raises DataError where `out` is there already, cannot be written, or was
    begun from another folder.
    """
    bomb = _pillow().DecompressionBombWarning
    out = pathlib.Path(out)
    part = out.with_name(out.name + ".part")
    if out.exists():
        raise DataError(f"{out} is there already; remove it, or name another file")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings(), open_hdf5(part, mode="a") as file:
            warnings.simplefilter("error", bomb)  # an image as large as that is broken too
            _begin(file, source, part)
            with ThreadPoolExecutor(threads) as pool:
                _fill(file, source, pool, progress, broken)
            counts = _finish(file, source)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, out)
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise DataError(f"{part}: cannot be written ({reason}); make room, or remove it and begin again") from error
    return counts


def crop(path: str | os.PathLike) -> np.ndarray | None:
    """The middle of an image, (SIDE, 3, SIDE) uint8, its shorter side resized to SHORTER; None if it is broken."""
    Image = _pillow()
    try:
        with Image.open(path) as image:
            width, height = (side * SHORTER // min(image.size) for side in image.size)
            if width * height > LARGEST:
                return None
            rgb = image.convert("RGB")
    except MemoryError:
        raise
    except Exception:  # whatever a decoder raises on damaged bytes; Pillow names no class for all of it
        return None
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + SIDE, top + SIDE))
    return np.ascontiguousarray(np.asarray(rgb).swapaxes(1, 2))  # (H, C, W)


def _pillow() -> types.ModuleType:
    """Pillow, imported where it is used; ArgumentError where it is not installed."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ArgumentError("data pack needs Pillow; install it with: pip install 'nanoprune[images]'") from error


def _folders(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _images(folder: pathlib.Path, part: pathlib.Path) -> list[tuple[str, int]]:
    """The JPEG files of one class folder, in order of name: paths from `folder`, and sizes in bytes."""
    entries = [entry for entry in os.scandir(folder / part) if entry.name.lower().endswith(SUFFIXES)]
    return sorted(((part / entry.name).as_posix(), entry.stat().st_size) for entry in entries)


def _begin(file: h5py.File, source: Source, part: pathlib.Path) -> None:
    """Lay out the file for as many images as there are files, or see that it was begun from the same ones."""
    if "source" in file:
        if stored_text(file, "source", part, AGAIN) != source.sha256:
            raise DataError(f"{part}: begun from other images; {AGAIN}")
        _check_begun(file, len(source.paths), part)
        return
    if len(file):
        raise DataError(f"{part}: not begun by 'data pack'; remove it")
    files = len(source.paths)
    needed, free = files * SIDE * 3 * SIDE, shutil.disk_usage(part.parent).free
    if needed > free:
        part.unlink()
        raise DataError(f"{part}: {files} images take {needed >> 20} MiB, but {free >> 20} MiB are free")
    early = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    early.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    early.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    shape = _shape(files)
    file.create_dataset("images", shape, "u1", chunks=(CHUNK, *shape[1:]), maxshape=shape, dcpl=early)
    file.create_dataset("state", data=np.full(files, WAITING, np.uint8))
    file.create_dataset("all_sha256", data=np.zeros((-(-files // CHUNK), 32), np.uint8))
    file.create_dataset("files", data=np.array([os.fsencode(path) for path in source.paths]))
    file.attrs["format"] = FORMAT
    write_text(file, "source", source.sha256)
    file.flush()


def _shape(files: int) -> tuple[int, ...]:
    """The shape of the images of so many files; it is cut to what there is at the end."""
    return max(files, CHUNK), SIDE, 3, SIDE


def _check_begun(file: h5py.File, files: int, part: pathlib.Path) -> None:
    """DataError unless the file is laid out for so many images, and says of a first part of them what they are."""
    shapes = {"images": _shape(files), "state": (files,), "all_sha256": (-(-files // CHUNK), 32)}
    for name, shape in shapes.items():
        found = stored_array(file, name, part, AGAIN)
        if found.dtype != np.uint8 or (name != "images" and found.shape != shape) or found.shape[1:] != shape[1:]:
            raise DataError(f"{part}: {name} is {found.dtype} {found.shape}, expected uint8 {shape}; {AGAIN}")
    state, room = file["state"][()], len(file["images"])  # (files,)
    done, kept = int((state != WAITING).sum()), int((state == KEPT).sum())
    fits = room == shapes["images"][0] or (done == files and room == kept)  # it may have been cut already
    if not fits or (state > BROKEN).any() or (state[:done] == WAITING).any():
        raise DataError(f"{part}: does not say what was done; {AGAIN}")


def _fill(
    file: h5py.File,
    source: Source,
    pool: ThreadPoolExecutor,
    progress: Callable[[int, int], None],
    broken: Callable[[str], None],
) -> None:
    """Decode and write what is still waiting, a chunk of images at a time: first they, then that they are there."""
    state = file["state"][()]  # (files,)
    done, written, total = int((state != WAITING).sum()), int((state == KEPT).sum()), len(state)
    progress(done, total)
    waiting: list[np.ndarray] = []
    for i, image in enumerate(_decoded(source, source.paths[done:], pool), done):
        state[i] = BROKEN if image is None else KEPT
        if image is None:
            broken(source.paths[i])
        else:
            waiting.append(image)
        if len(waiting) == CHUNK or i + 1 == total:
            if waiting:
                pixels = np.stack(waiting)  # (CHUNK, H, C, W) or fewer
                file["images"][written : written + len(pixels)] = pixels
                file["all_sha256"][written // CHUNK] = np.frombuffer(hashlib.sha256(pixels.data).digest(), np.uint8)
            file.flush()
            file["state"][done : i + 1] = state[done : i + 1]
            file.flush()
            done, written = i + 1, written + len(waiting)
            waiting.clear()
        progress(i + 1, total)


def _decoded(source: Source, paths: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[np.ndarray | None]:
    """The images in their order, some of them decoded ahead; Pillow lets go of the interpreter meanwhile."""
    for start in range(0, len(paths), AHEAD):
        yield from pool.map(crop, [source.folder / path for path in paths[start : start + AHEAD]])


def _finish(file: h5py.File, source: Source) -> tuple[int, int]:
    """Cut the file to the images that are there; return their number and that of the broken ones."""
    kept = file["state"][()] == KEPT  # (files,)
    count = int(kept.sum())
    if not kept[: source.train].any():
        raise DataError(f"{source.folder}: every image is broken; {REMEDY}")
    for name in ("labels", "chunk_sha256", "classes"):  # a run may have been interrupted here
        if name in file:
            del file[name]
    file["images"].resize(count, axis=0)
    file["labels"] = source.labels[kept]
    file["chunk_sha256"] = file["all_sha256"][: -(-count // CHUNK)]
    file["classes"] = np.array([os.fsencode(name) for name in source.classes])
    file.attrs["train"] = int(kept[: source.train].sum())
    return count, len(kept) - count

"""Class folders of JPEG files into one packed file: every image resized, cropped and stored, in a random order.

The shorter side becomes 256 pixels, and the middle 224 x 224 are kept: what networks for ImageNet are tested on. The
work can be interrupted or killed at any time: FILE.part holds what was done (`part.py`), and the next run resumes it.
"""

import hashlib
import importlib
import os
import pathlib
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data.packed import CHUNK, REMEDY, load_packed
from nanoprune.lab.data.part import BROKEN, KEPT, WAITING, Part
from nanoprune.lab.storage.files import check_output, flush_folder, open_regular
from nanoprune.lab.storage.text import printable

SUFFIXES = (".jpeg", ".jpg")
SHORTER, SIDE = 256, 224  # pixels
LARGEST = 1 << 26  # pixels of an image before and after it is resized: 200 MB in memory
AHEAD = 4 * CHUNK  # images that are decoded before the first of them is written


@dataclass(frozen=True)
class Source:
    """The images of a folder in the order in which they are packed: paths relative to it, labels, names of the classes.

    The first `train` are the official training set; all of them where there is no such division.
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
    ArgumentError where the folder or its images are missing.
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
    checked: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[int, int]:
    """Pack `source` into the file `out`; return how many images are in it, and how many were broken and are not.

    Resumes where an earlier run of the same folder was interrupted. Every image is read back and compared with its hash
    before the file gets its name. progress(done, total) is called as files are packed, checked(done, total) as they are
    read back, broken(path) for each that is no JPEG file that can be decoded. Raises DataError where `out` is there
    already, cannot be written, or was begun from another folder; ArgumentError on a name that cannot be one.
    """
    bomb = _pillow().DecompressionBombWarning
    out = pathlib.Path(out)
    part = out.with_name(out.name + ".part")
    _refuse_existing(out)
    check_output(part)
    try:
        with Part(part, source.paths, source.classes, source.sha256, SIDE) as file:
            with warnings.catch_warnings(), ThreadPoolExecutor(threads) as pool:
                warnings.simplefilter("ignore", bomb)  # `crop` refuses what is too large
                _fill(file, source, pool, progress, broken)
            counts = _finish(file, source, checked)
            if not file.is_there():
                raise DataError(f"{printable(part)}: was removed or replaced meanwhile; run the command again")
            _refuse_existing(out)
            os.replace(part, out)
            flush_folder(out.parent)
    except OSError as error:
        reason = error.strerror or printable(error)
        raise DataError(
            f"{printable(part)}: cannot be written ({reason}); make room and run the command again: it resumes"
        ) from error
    return counts


def _refuse_existing(out: pathlib.Path) -> None:
    if os.path.lexists(out):
        raise DataError(f"{printable(out)} already exists; remove it, or name another file")


def crop(path: str | os.PathLike, shorter: int = SHORTER, side: int = SIDE) -> np.ndarray | None:
    """The middle of a JPEG file's image, (side, 3, side) uint8, its shorter side resized to `shorter` pixels.

    None if it is broken: not a regular file, not JPEG data whatever its name (Pillow would start Ghostscript on
    PostScript), too large, or damaged. Its size is checked before it is decoded.
    """
    Image = _pillow()
    try:
        with open_regular(path) as file, Image.open(file, formats=("JPEG",)) as image:
            width, height = (length * shorter // min(image.size) for length in image.size)
            if max(width * height, image.width * image.height) > LARGEST:
                return None
            rgb = image.convert("RGB")
    except MemoryError:
        raise
    except Exception:  # whatever a decoder raises on damaged bytes; Pillow names no class for all of it
        return None
    left, top = round((width - side) / 2), round((height - side) / 2)
    rgb = rgb.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + side, top + side))
    return np.ascontiguousarray(np.asarray(rgb).swapaxes(1, 2))  # (H, C, W)


def _pillow() -> types.ModuleType:
    """Pillow, imported where it is used; ArgumentError where it is not installed."""
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise ArgumentError("JPEG files need Pillow; install it with: pip install 'nanoprune[images]'") from error


def _folders(folder: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _images(folder: pathlib.Path, part: pathlib.Path) -> list[tuple[str, int]]:
    """The files of one class folder named as JPEG files, in order of name: paths from `folder`, and sizes in bytes."""
    entries = [entry for entry in os.scandir(folder / part) if entry.name.lower().endswith(SUFFIXES)]
    return sorted(((part / entry.name).as_posix(), _size(entry)) for entry in entries)


def _size(entry: os.DirEntry) -> int:
    """The size of a file in bytes, 0 where it is a link to nowhere or to itself."""
    try:
        return entry.stat().st_size
    except OSError:
        return 0


def _fill(
    part: Part,
    source: Source,
    pool: ThreadPoolExecutor,
    progress: Callable[[int, int], None],
    broken: Callable[[str], None],
) -> None:
    """Decode and write what is still waiting, a chunk of images at a time: first the images, then the index."""
    state = part.state
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
                part.put("images", written, pixels)
                digest = np.frombuffer(hashlib.sha256(pixels.data).digest(), np.uint8)  # (32,)
                part.put("chunk_sha256", written // CHUNK, digest[None])
            part.flush()
            part.put("state", done, state[done : i + 1])
            done, written = i + 1, written + len(waiting)
            waiting.clear()
        progress(i + 1, total)


def _decoded(source: Source, paths: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[np.ndarray | None]:
    """The images in their order, decoded by threads ahead of their use; Pillow releases the interpreter lock."""
    for start in range(0, len(paths), AHEAD):
        yield from pool.map(crop, [source.folder / path for path in paths[start : start + AHEAD]])


def _finish(part: Part, source: Source, checked: Callable[[int, int], None]) -> tuple[int, int]:
    """Write the labels and how many images there are, and read everything back; return the numbers of images and of
    broken files."""
    kept = part.state == KEPT  # (files,)
    count, train = int(kept.sum()), int(kept[: source.train].sum())
    if not train:
        raise DataError(f"{printable(source.folder)}: every image is broken; {REMEDY}")
    part.put("labels", 0, source.labels[kept].astype("<u2"))
    part.put("counts", 0, np.array([count, train], "<i8"))
    part.flush()
    dataset = load_packed(part.path, "imagenet", locking=False)
    try:
        dataset.x.read_back(checked)
        if not np.array_equal(dataset.y, source.labels[kept]):
            raise DataError(f"{printable(part.path)}: its labels are not those that were written; {REMEDY}")
    finally:
        dataset.x.images.file.close()
    return count, len(kept) - count

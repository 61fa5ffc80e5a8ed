"""Download of the data sets: from a list of mirrors, verified before a file appears under its name."""

import http.client
import os
import pathlib
import urllib.request
from collections.abc import Callable, Iterator, Sequence

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import cifar, location30, mnist, purchase100, texas100
from nanoprune.lab.data.catalogue import check_name, find_data_dir
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.files import atomic_path

Progress = Callable[[str, int, int | None], None]  # file name, bytes done, bytes in all if the mirror says

SOURCES = {  # where each data set comes from; the others need no download, or cannot be had by one
    "mnist": (mnist.FILES, mnist.MIRRORS),
    "location30": (location30.FILES, location30.MIRRORS),
    "purchase100": (purchase100.FILES, location30.MIRRORS),
    "texas100": (texas100.FILES, location30.MIRRORS),
    "cifar10": ((cifar.CIFAR10.archive,), cifar.MIRRORS),
    "cifar100": ((cifar.CIFAR100.archive,), cifar.MIRRORS),
}
TIMEOUT = 30.0  # seconds without an answer from a mirror
CHUNK = 1 << 16  # bytes between two calls of progress


def fetch(
    name: str,
    data_dir: str | os.PathLike | None = None,
    mirrors: Sequence[str] | None = None,
    progress: Progress | None = None,
    files: Sequence[SourceFile] | None = None,
) -> list[pathlib.Path]:
    """Download what is missing or damaged of data set `name`; return the files downloaded, none where all are there.

    data_dir: as in `find_data_dir`. mirrors: base addresses to try in turn, files: what to fetch; None for those of the
    data set. Raises ArgumentError on another name or a mirror that is not http(s), DataError if no mirror has a file or
    it cannot be written.
    """
    check_name(name)
    if name == "imagenet":
        raise ArgumentError("imagenet cannot be fetched: ask its owners for it, then run 'python cli.py data pack'")
    known, places = SOURCES.get(name, ((), ()))
    mirrors = places if mirrors is None else mirrors
    for mirror in mirrors:
        if not mirror.startswith(("https://", "http://")):
            raise ArgumentError(f"mirror must start with https:// or http://, got {mirror!r}")
    folder = find_data_dir(data_dir)
    missing = [file for file in (known if files is None else files) if not _is_right(file, folder)]
    return [_fetch_file(file, folder, mirrors, progress or _silent) for file in missing]


def _is_right(file: SourceFile, data_dir: pathlib.Path) -> bool:
    try:
        file.read(data_dir)
    except DataError:
        return False
    return True


def _silent(name: str, done: int, total: int | None) -> None:
    """The progress of whom nobody watches."""


def _fetch_file(file: SourceFile, data_dir: pathlib.Path, mirrors: Sequence[str], progress: Progress) -> pathlib.Path:
    """The path of `file`, downloaded from the first mirror that has it right; DataError if none has."""
    path = data_dir / file.dataset / file.name
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            data = b"".join(_download(url, file, progress))
            file.verify(data, url)
        except DataError as error:
            failures.append(str(error))
            continue
        with atomic_path(path) as temporary:  # nothing unverified is ever on disk
            temporary.write_bytes(data)
        return path
    raise DataError(
        f"{file.dataset}: {file.name} could not be fetched: {'; '.join(failures) or 'no mirror to ask'}; "
        f"put the file into {path.parent} by hand"
    )


def _download(url: str, file: SourceFile, progress: Progress) -> Iterator[bytes]:
    """The bytes behind `url`, chunk by chunk; DataError, naming it, if there are too many or too few or none."""
    request = urllib.request.Request(url, headers={"User-Agent": "nanoprune"})
    done = 0
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            total = response.length  # None where the mirror does not say
            if total is not None and total > file.limit:
                raise DataError(f"{url}: sends {total} bytes, at most {file.limit} expected")
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if done > file.limit:
                    raise DataError(f"{url}: sends more than the {file.limit} bytes expected at most")
                progress(file.name, done, total)
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that is none
        raise DataError(f"{url}: {error or type(error).__name__}") from error
    if total is not None and done != total:
        raise DataError(f"{url}: stopped after {done} of {total} bytes")

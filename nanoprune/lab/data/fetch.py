"""Download of the data sets: from a list of mirrors, verified before a file appears under its name."""

import http.client
import os
import pathlib
import queue
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import cifar, location30, medical, mnist, pneumonia, purchase100, texas100, text
from nanoprune.lab.data.catalogue import check_name, find_data_dir
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.files import atomic_path
from nanoprune.lab.storage.text import printable

Progress = Callable[[str, int, int | None], None]  # file name, bytes done, bytes in all if the mirror says

SOURCES = {  # where each data set comes from; the others need no download, or cannot be had by one
    "mnist": (mnist.FILES, mnist.MIRRORS),
    "location30": (location30.FILES, location30.MIRRORS),
    "purchase100": (purchase100.FILES, location30.MIRRORS),
    "texas100": (texas100.FILES, location30.MIRRORS),
    "cifar10": ((cifar.CIFAR10.archive,), cifar.MIRRORS),
    "cifar100": ((cifar.CIFAR100.archive,), cifar.MIRRORS),
}
BY_HAND = {  # what has to be fetched by hand, each file from its `home`
    "diabetes130": (medical.DIABETES130,),
    "thyroid": (medical.THYROID,),
    "pneumonia": (pneumonia.FILE,),
    "adult": medical.ADULT,
    "names": (text.NAMES,),
    "agnews": (text.AGNEWS,),
}
TIMEOUT = 30.0  # seconds that a mirror may be silent
SLOWEST = 20_000  # bytes a second that it must send on average, after the first TIMEOUT seconds
CHUNK = 1 << 16  # bytes read at once
SCHEMES = ("https", "http")


def fetch(
    name: str,
    data_dir: str | os.PathLike | None = None,
    mirrors: Sequence[str] | None = None,
    progress: Progress | None = None,
    files: Sequence[SourceFile] | None = None,
) -> list[pathlib.Path]:
    """Download what is missing or damaged of data set `name`; return the files downloaded, none where all are there.

    data_dir: as in `find_data_dir`. mirrors: base addresses to try in turn, files: what to fetch; None for those of the
    data set. A file is right by its SHA-256; where that is not known, every record of it is parsed. Raises
    ArgumentError on another name, on one that has to be fetched by hand, or a mirror that is not http(s), DataError if
    no mirror has a file or it cannot be written.
    """
    check_name(name)
    if name == "imagenet":
        raise ArgumentError("imagenet cannot be fetched: ask its owners for it, then run 'python cli.py data pack'")
    if name in BY_HAND:
        files = ", ".join(file.name for file in BY_HAND[name])
        where = find_data_dir(data_dir) / BY_HAND[name][0].dataset
        raise ArgumentError(
            f"{name} cannot be fetched: get {files} from {BY_HAND[name][0].home} and put it into {where}"
        )
    known, places = SOURCES.get(name, ((), ()))
    mirrors = places if mirrors is None else mirrors
    for mirror in mirrors:
        if not mirror.startswith(tuple(f"{scheme}://" for scheme in SCHEMES)):
            raise ArgumentError(f"mirror must start with https:// or http://, got {mirror!r}")
    folder = find_data_dir(data_dir)
    missing = [file for file in (known if files is None else files) if not _is_right(file, folder)]
    return [_fetch_file(file, folder, mirrors, progress or _silent) for file in missing]


def _is_right(file: SourceFile, data_dir: pathlib.Path) -> bool:
    """Whether the file is there and is the published one."""
    try:
        content = file.read(data_dir)
        if file.sha256 is None:
            file.check(content, file.name)
    except DataError:
        return False
    return True


def _silent(name: str, done: int, total: int | None) -> None:
    """Progress that nobody watches."""


def _fetch_file(file: SourceFile, data_dir: pathlib.Path, mirrors: Sequence[str], progress: Progress) -> pathlib.Path:
    """The path of `file`, downloaded from the first mirror that has it right; DataError if none has."""
    path = data_dir / file.dataset / file.name
    failures = []
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{file.name}"
        try:
            data = b"".join(_download(url, file, progress))
            file.check(data, printable(url))
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
    """The bytes behind `url`, chunk by chunk; DataError, naming it, if there are too many or too few, or they come too
    slowly.

    A thread of its own reads them: looking up a name and reading headers have no time limit that could be set.
    """
    shown, received, gone = printable(url), queue.SimpleQueue(), threading.Event()
    threading.Thread(target=_receive, args=(url, file.limit, received, gone), daemon=True).start()
    start, done, total = time.monotonic(), 0, None
    try:
        while True:
            left = start + TIMEOUT + done / SLOWEST - time.monotonic()
            try:
                item = received.get(timeout=max(left, 0))
            except queue.Empty:
                seconds = time.monotonic() - start
                raise DataError(f"{shown}: too slow, {done} bytes in {seconds:.0f} seconds") from None
            match item:
                case bytes():
                    done += len(item)
                    progress(file.name, done, total)
                    yield item
                case DataError():
                    raise DataError(f"{shown}: {item}") from item
                case None:
                    break
                case (length,):
                    total = length
    finally:
        gone.set()
    if total is not None and done != total:
        raise DataError(f"{shown}: stopped after {done} of {total} bytes")


def _receive(url: str, limit: int, received: queue.SimpleQueue, gone: threading.Event) -> None:
    """Put what a mirror sends into `received`: the announced length or None in a tuple, the bytes, and None at the end;
    or a DataError. Ends early where nobody waits for it, when `gone` is set."""
    request = urllib.request.Request(url, headers={"User-Agent": "nanoprune"})
    done = 0
    try:
        with urllib.request.build_opener(_SafeRedirects).open(request, timeout=TIMEOUT) as response:
            total = response.length  # None where the mirror does not say
            if total is not None and total > limit:
                raise DataError(f"sends {total} bytes, at most {limit} expected")
            received.put((total,))
            while (chunk := response.read1(CHUNK)) and not gone.is_set():
                done += len(chunk)
                if done > limit:
                    raise DataError(f"sends more than the {limit} bytes expected at most")
                received.put(chunk)
        received.put(None)
    except DataError as error:
        received.put(error)
    except Exception as error:  # OSError, HTTPException, and ValueError for an address that is none
        received.put(DataError(printable(error) or type(error).__name__))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a mirror to another address, but never from https to a scheme that anybody on the way could change."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        was, now = (urllib.parse.urlsplit(url).scheme.lower() for url in (req.full_url, newurl))
        if now not in SCHEMES or (was == "https" and now != "https"):
            raise DataError(f"redirects from {was} to {printable(newurl)}, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

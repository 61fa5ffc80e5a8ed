"""Files in .tgz archives, read as a stream: nothing is unpacked to disk, and only what is wanted into memory."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Mapping

from nanoprune.errors import DataError
from nanoprune.lab.storage.text import printable

MOST_MEMBERS = 64  # of an archive; the published ones hold at most ten
HEADERS = 1 << 20  # bytes that may lie between the contents of two files: names, dates
CHUNK = 1 << 20  # bytes read at once


def read_members(data: bytes, limits: Mapping[str, int], unpacked: int, source: str) -> dict[str, memoryview]:
    """The plain files of the .tgz archive `data` named in `limits`, each of at most so many bytes, by name.

    unpacked: the most bytes that the whole archive may unpack to. Nothing is written to disk, and memory is taken only
    for the data of the files that are wanted, never for what a header declares. Raises DataError, naming `source`, if
    the archive is damaged or holds too much, or one of the files is missing, there twice, too large or not a regular
    one.
    """
    found: dict[str, memoryview] = {}
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            stream = _Stream(file, unpacked, source)
            with tarfile.open(fileobj=stream, mode="r|", bufsize=512 * 20) as tar:
                for number, member in enumerate(tar, 1):
                    if number > MOST_MEMBERS:
                        raise DataError(
                            f"{source}: holds more than {MOST_MEMBERS} files; expected the published archive"
                        )
                    stream.allow(max(member.size, 0) + HEADERS)
                    if member.name in limits:
                        if member.name in found:
                            raise DataError(f"{source}: holds {member.name} twice; expected the published archive")
                        found[member.name] = _content(tar, member, limits[member.name], source)
            while stream.read(CHUNK):  # to the end, where gzip has its checksum
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{source}: damaged gzip data ({printable(error)}); expected the published archive") from error
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:
        raise DataError(
            f"{source}: not a readable tar archive ({printable(error)}); expected the published one"
        ) from error
    for name in limits:
        if name not in found:
            raise DataError(f"{source}: {name} is not in it; expected the published archive")
    return found


class _Stream:
    """The unpacked archive, as tarfile reads it: no more bytes at a time than `allow` permits. By itself tarfile reads
    headers of any length."""

    def __init__(self, file: gzip.GzipFile, unpacked: int, source: str) -> None:
        self.file, self.left, self.source, self.allowed = file, unpacked, source, HEADERS

    def allow(self, count: int) -> None:
        """Let `count` more bytes be read."""
        self.allowed = count

    def read(self, count: int) -> bytes:
        content = self.file.read(count)
        self.left -= len(content)
        self.allowed -= len(content)
        if self.left < 0:
            raise DataError(f"{self.source}: unpacks to more than expected; expected the published archive")
        if self.allowed < 0:
            raise DataError(f"{self.source}: has headers of more than {HEADERS} bytes; expected the published archive")
        return content


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo, limit: int, source: str) -> memoryview:
    """The bytes of one member; DataError unless it is a regular file of at most `limit` bytes that are all there."""
    if not member.isreg() or member.sparse is not None:
        raise DataError(f"{source}: {member.name} is not a regular file; expected the published archive")
    if not 0 <= member.size <= limit:
        raise DataError(f"{source}: {member.name} is said to have {member.size} bytes, at most {limit} expected")
    content, file = bytearray(), tar.extractfile(member)
    while chunk := file.read(CHUNK):
        content += chunk
    if len(content) < member.size:
        raise DataError(f"{source}: {member.name} ends after {len(content)} of {member.size} bytes")
    return memoryview(content).toreadonly()

"""Files inside of .tgz archives, read without unpacking anything to disk."""

import io
import tarfile
from collections.abc import Mapping

from nanoprune.data.source import gunzip
from nanoprune.errors import DataError

MOST_MEMBERS = 64  # of an archive; the published ones hold at most ten


def read_members(data: bytes, limits: Mapping[str, int], unpacked: int, source: str) -> dict[str, memoryview]:
    """The plain files of the .tgz archive `data` named in `limits`, each of at most so many bytes, by name.

    unpacked: most bytes that the whole archive may unpack to. Nothing is written to disk, and no memory is taken by
    what a header says: every file is a view of the unpacked archive. Raises DataError, naming `source`, if the archive
    is damaged, holds too much, or one of the files is missing, there twice, too large or not a plain one.
    """
    archive = gunzip(data, unpacked, source)
    found: dict[str, memoryview] = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for number, member in enumerate(tar, 1):
                if number > MOST_MEMBERS:
                    raise DataError(f"{source}: holds more than {MOST_MEMBERS} files; expected the published archive")
                if member.name in limits:
                    if member.name in found:
                        raise DataError(f"{source}: holds {member.name} twice; expected the published archive")
                    found[member.name] = _content(archive, member, limits[member.name], source)
    except (tarfile.TarError, ValueError, ArithmeticError, OSError, RecursionError) as error:
        raise DataError(f"{source}: not a readable tar archive ({error}); expected the published one") from error
    for name in limits:
        if name not in found:
            raise DataError(f"{source}: {name} is not in it; expected the published archive")
    return found


def _content(archive: bytes, member: tarfile.TarInfo, limit: int, source: str) -> memoryview:
    """The bytes of one member; DataError if it is not a plain file of at most `limit` bytes that are all there."""
    if not member.isreg() or member.sparse is not None:
        raise DataError(f"{source}: {member.name} is not a plain file; expected the published archive")
    if not 0 <= member.size <= limit:
        raise DataError(f"{source}: {member.name} is said to have {member.size} bytes, at most {limit} expected")
    content = memoryview(archive)[member.offset_data : member.offset_data + member.size]
    if len(content) < member.size:
        raise DataError(f"{source}: {member.name} ends after {len(content)} of {member.size} bytes")
    return content

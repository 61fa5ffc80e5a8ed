"""Downloads from a server on this machine: whole and right, or not there at all."""

import contextlib
import functools
import gzip
import hashlib
import http.client
import http.server
import pathlib
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from nanoprune.errors import ArgumentError, DataError
from nanoprune.lab.data import NAMES, fetch, load
from nanoprune.lab.data.fetch import BY_HAND, SOURCES, _SafeRedirects
from nanoprune.lab.data.source import SourceFile
from nanoprune.lab.storage.unpack import unpacked

fetch_module = sys.modules["nanoprune.lab.data.fetch"]

CONTENT = bytes(range(256)) * 600  # 150 kB: several chunks
NAME = "part.gz"
FILE = SourceFile("mnist", NAME, len(CONTENT), hashlib.sha256(CONTENT).hexdigest())
PACKED = gzip.compress(CONTENT, 0)  # level 0: as long as the content


class Server(http.server.ThreadingHTTPServer):
    """Serves `pages["/mirror/name"]` at /mirror/name: bytes, (announced length, bytes), or a function that responds;
    404 on anything else."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages: dict[str, bytes | tuple[int | None, bytes]] = {}
        self.asked: list[str] = []
        self.stopped = threading.Event()

    def mirror(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}/"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        page = self.server.pages.get(self.path)
        if page is None:
            return self.send_error(404)
        if callable(page):
            return page(self)
        length, data = page if isinstance(page, tuple) else (len(page), page)
        self.send_response(200)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


def files_in(folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetch(server, tmp_path):
    server.pages = {f"/a/{NAME}": PACKED}
    seen = []
    paths = fetch("mnist", tmp_path, [server.mirror("a")], lambda *args: seen.append(args), [FILE])
    assert paths == [tmp_path / "mnist" / NAME]
    assert paths[0].read_bytes() == PACKED
    assert files_in(tmp_path) == [NAME]
    assert len(seen) > 1
    assert seen[-1] == (NAME, len(PACKED), len(PACKED))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_a_mirror_that_does_not_say_the_length(server, tmp_path):
    server.pages = {f"/a/{NAME}": (None, PACKED)}
    seen = []
    fetch("mnist", tmp_path, [server.mirror("a")], lambda *args: seen.append(args), [FILE])
    assert seen[-1] == (NAME, len(PACKED), None)


def test_another_gzip_wrapping_and_none_will_do(server, tmp_path):
    server.pages = {f"/a/{NAME}": gzip.compress(CONTENT, 9), f"/b/{NAME}": CONTENT}
    fetch("mnist", tmp_path / "1", [server.mirror("a")], files=[FILE])
    fetch("mnist", tmp_path / "2", [server.mirror("b")], files=[FILE])
    assert FILE.read(tmp_path / "1") == FILE.read(tmp_path / "2") == CONTENT


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "404"),
        (gzip.compress(CONTENT[:-1] + b"x"), "SHA-256"),
        (PACKED[:-100], "damaged gzip data"),
        ((len(PACKED), PACKED[:-100]), f"stopped after {len(PACKED) - 100} of {len(PACKED)} bytes"),
        (b"", "0 bytes with SHA-256"),
        (b"<html>come back later</html>", "SHA-256"),
        (bytes(len(CONTENT) + 10**5), "sends 253600 bytes, at most 219136 expected"),
        ((None, bytes(len(CONTENT) + 10**5)), "sends more than the 219136 bytes"),
        (gzip.compress(bytes(10**7)), "unpacks to more than the 153600 bytes"),
    ],
    ids=["404", "other content", "cut gzip", "cut off", "empty", "a page", "too long", "endless", "bomb"],
)
def test_a_bad_mirror_leaves_nothing_and_the_next_is_asked(server, tmp_path, page, message):
    if page is not None:
        server.pages[f"/bad/{NAME}"] = page
    with pytest.raises(DataError, match=message) as caught:
        fetch("mnist", tmp_path, [server.mirror("bad")], files=[FILE])
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"mnist: {NAME} could not be fetched: {server.mirror('bad')}{NAME}: ")
    assert str(caught.value).endswith(f"; put the file into {tmp_path / 'mnist'} by hand")
    assert files_in(tmp_path) == []

    server.pages[f"/good/{NAME}"] = PACKED
    fetch("mnist", tmp_path, [server.mirror("bad"), server.mirror("good")], files=[FILE])
    assert files_in(tmp_path) == [NAME]
    assert FILE.read(tmp_path) == CONTENT


def test_every_failed_mirror_is_named(server, tmp_path):
    server.pages = {f"/b/{NAME}": b"no"}
    unused = Server()  # once closed, a port without a server
    unused.server_close()
    mirrors = [server.mirror("a"), server.mirror("b"), unused.mirror("c"), "http://"]
    with pytest.raises(DataError) as caught:
        fetch("mnist", tmp_path, mirrors, files=[FILE])
    for mirror, what in zip(mirrors, ("404", "SHA-256", "refused", "no host"), strict=True):
        assert f"{mirror}" in str(caught.value)
        assert what in str(caught.value)


def test_what_is_there_and_right_is_not_fetched(server, tmp_path):
    server.pages = {f"/a/{NAME}": PACKED}
    mirrors = [server.mirror("a")]
    assert len(fetch("mnist", tmp_path, mirrors, files=[FILE])) == 1
    assert fetch("mnist", tmp_path, mirrors, files=[FILE]) == []
    (tmp_path / "mnist" / NAME).unlink()
    (tmp_path / "mnist" / "part").write_bytes(CONTENT)  # unpacked by hand
    assert fetch("mnist", tmp_path, mirrors, files=[FILE]) == []
    assert len(server.asked) == 1


def test_a_damaged_file_is_replaced_only_by_a_right_one(server, tmp_path):
    path = tmp_path / "mnist" / NAME
    path.parent.mkdir()
    path.write_bytes(PACKED[:1000])
    with pytest.raises(DataError, match="404"):
        fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE])
    assert path.read_bytes() == PACKED[:1000]
    server.pages = {f"/a/{NAME}": PACKED}
    assert fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE]) == [path]
    assert path.read_bytes() == PACKED


def test_a_folder_that_cannot_be_written_to_is_no_mirrors_fault(server, tmp_path):
    (tmp_path / "mnist").write_bytes(b"a file where the folder should be")
    server.pages = {f"/a/{NAME}": PACKED}
    with pytest.raises(DataError, match="cannot be written"):
        fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE])


def test_an_archive_is_verified_as_it_is_and_not_unpacked(server, tmp_path):
    file = SourceFile("cifar10", "part.tar.gz", len(PACKED), hashlib.sha256(PACKED).hexdigest())
    server.pages = {"/a/part.tar.gz": gzip.compress(CONTENT, 1), "/b/part.tar.gz": PACKED}  # another packing, the right
    with pytest.raises(DataError, match="SHA-256"):
        fetch("cifar10", tmp_path, [server.mirror("a")], files=[file])
    fetch("cifar10", tmp_path, [server.mirror("a"), server.mirror("b")], files=[file])
    assert (tmp_path / "cifar10" / "part.tar.gz").read_bytes() == PACKED


def test_where_no_hash_is_known_an_archive_is_wanted(server, tmp_path):
    file = SourceFile("purchase100", "part.tgz", 10**6, None)
    server.pages = {"/a/part.tgz": b"<html>moved</html>", "/b/part.tgz": PACKED, "/c/part.tgz": bytes(10**7)}
    with pytest.raises(DataError, match=r"starts with 3c 68 74 6d, expected a gzip archive.*at most 1065536 expected"):
        fetch("purchase100", tmp_path, [server.mirror("a"), server.mirror("c")], files=[file])
    assert files_in(tmp_path) == []
    fetch("purchase100", tmp_path, [server.mirror("a"), server.mirror("b")], files=[file])
    assert (tmp_path / "purchase100" / "part.tgz").read_bytes() == PACKED


def parse_bits(data: bytes) -> None:
    """Stands for the parser of a data set whose hash is not known: three lines of bits."""
    if unpacked(data, 100, "bits") != b"0,1\n" * 3:
        raise DataError("bits: not three lines of 0,1")


UNKNOWN = SourceFile("purchase100", "part.tgz", 10**6, None, parse_bits)
RIGHT = gzip.compress(b"0,1\n" * 3)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ((None, RIGHT[:-9]), "damaged gzip data"),  # cut off, and no length was announced
        (b"\x1f\x8b<html>login page</html>", "damaged gzip data"),
        (gzip.compress(b"<html>login page</html>"), "not three lines of 0,1"),
        (gzip.compress(b"0,1\n" * 2), "not three lines of 0,1"),
    ],
)
def test_where_no_hash_is_known_all_of_the_content_is_checked(server, tmp_path, page, message):
    server.pages = {"/a/part.tgz": page, "/b/part.tgz": RIGHT}
    with pytest.raises(DataError, match=message):
        fetch("purchase100", tmp_path, [server.mirror("a")], files=[UNKNOWN])
    assert files_in(tmp_path) == []
    fetch("purchase100", tmp_path, [server.mirror("a"), server.mirror("b")], files=[UNKNOWN])
    assert (tmp_path / "purchase100" / "part.tgz").read_bytes() == RIGHT
    assert fetch("purchase100", tmp_path, [server.mirror("b")], files=[UNKNOWN]) == []


def test_what_an_earlier_version_kept_though_it_is_wrong_is_fetched_again(server, tmp_path):
    server.pages = {"/b/part.tgz": RIGHT}
    (tmp_path / "purchase100").mkdir()
    (tmp_path / "purchase100" / "part.tgz").write_bytes(RIGHT[:-9])
    assert len(fetch("purchase100", tmp_path, [server.mirror("b")], files=[UNKNOWN])) == 1


@pytest.mark.parametrize("name", ["purchase100", "texas100"])
def test_every_published_file_without_a_hash_has_a_parser(name):
    """A gzip archive of something else, which the kind of file alone does not tell apart."""
    for file in SOURCES[name][0]:
        assert file.sha256 is None
        for data in (gzip.compress(b"<html>login page</html>"), RIGHT[:-9]):
            with pytest.raises(DataError, match=rf"^x: {file.name}: (not a readable tar archive|damaged gzip data)"):
                file.check(data, "x")
    for file in (
        file for other, (files, _) in SOURCES.items() if other not in ("purchase100", "texas100") for file in files
    ):
        assert file.sha256


# Redirects, slowness, hostile words


def to(address: str):
    """A page that sends its reader to another address."""

    def answer(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", address)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def test_a_redirect_to_another_mirror_is_followed(server, tmp_path):
    server.pages = {f"/a/{NAME}": to(f"{server.mirror('b')}{NAME}"), f"/b/{NAME}": PACKED}
    fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE])
    assert FILE.read(tmp_path) == CONTENT


@pytest.mark.parametrize("scheme", ["ftp", "file", "data", "FTP"])
def test_a_redirect_to_anything_but_the_web_is_not_followed(server, tmp_path, scheme):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        server.pages = {f"/a/{NAME}": to(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/x")}
        with pytest.raises(DataError, match=r"[rR]edirect"):
            fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE])
        with pytest.raises(BlockingIOError):  # nobody has called
            listener.accept()


@pytest.mark.parametrize("was", ["https", "http", "HTTPS"])
@pytest.mark.parametrize("now", ["https", "http", "HTTP", "ftp"])
def test_a_redirect_never_leaves_encryption(was, now):
    request = urllib.request.Request(f"{was}://mirror.example/x")
    follow = functools.partial(_SafeRedirects().redirect_request, request, None, 302, "", http.client.HTTPMessage())
    if now.lower() == "https" or (was.lower(), now.lower()) == ("http", "http"):
        assert follow(f"{now}://other.example/x").full_url == f"{now}://other.example/x"
    else:
        with pytest.raises(DataError, match=f"redirects from {was.lower()} to {now}://"):
            follow(f"{now}://other.example/x")


def dripping(start: bytes, drop: bytes):
    """A page that begins well and then comes in drops, each long before a read of its own would time out."""

    def answer(handler: Handler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(start)
            while not handler.server.stopped.wait(0.02):
                handler.wfile.write(drop)
                handler.wfile.flush()

    return answer


@pytest.mark.parametrize(
    ("start", "drop"),
    [
        (b"", b""),  # silent
        (b"HTTP/1.1 200 OK\r\nX: ", b"y"),  # a header that never ends
        (b"HTTP/1.1 200 OK\r\nContent-Length: 150000\r\n\r\n", b"z"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"z"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nz\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"e"),  # the length of a chunk never ends
    ],
)
def test_a_mirror_that_sends_hardly_anything_is_given_up(server, tmp_path, monkeypatch, start, drop):
    monkeypatch.setattr(fetch_module, "TIMEOUT", 0.5)
    monkeypatch.setattr(fetch_module, "SLOWEST", 100_000)
    server.pages = {f"/a/{NAME}": dripping(start, drop), f"/b/{NAME}": PACKED}
    with pytest.raises(DataError, match=r"/a/part\.gz: (too slow, \d+ bytes in|.*timed out)") as caught:
        fetch("mnist", tmp_path, [server.mirror("a")], files=[FILE])
    assert "\n" not in str(caught.value)
    fetch("mnist", tmp_path, [server.mirror("a"), server.mirror("b")], files=[FILE])
    assert files_in(tmp_path) == [NAME]


def test_words_of_a_mirror_reach_no_terminal_as_they_are(server, tmp_path):
    def answer(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 500 \x1b]0;pwn\x07\x1b[31mRED" + b"!" * 5000 + b"\r\n\r\n")

    server.pages = {f"/a/{NAME}": answer, f"/b/{NAME}": to("ftp://\x1b[31m/x" + "y" * 5000)}
    for mirror in ("a", "b"):
        with pytest.raises(DataError) as caught:
            fetch("mnist", tmp_path, [server.mirror(mirror)], files=[FILE])
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


def test_imagenet_cannot_be_fetched(tmp_path):
    with pytest.raises(ArgumentError, match=r"imagenet cannot be fetched.*'python cli.py data pack'"):
        fetch("imagenet", tmp_path)


def test_every_other_data_set_has_somewhere_to_come_from(tmp_path):
    for name in set(NAMES) - {"digits", "imagenet"} - set(BY_HAND):
        with pytest.raises(DataError, match=f"{name}: .* could not be fetched: no mirror to ask"):
            fetch(name, tmp_path, [])


@pytest.mark.parametrize("name", BY_HAND)
def test_what_is_fetched_by_hand_says_what_from_where_and_where_to(name, tmp_path):
    file = BY_HAND[name][0]
    for call in (lambda: fetch(name, tmp_path), lambda: load(name, tmp_path)):
        with pytest.raises((ArgumentError, DataError)) as caught:
            call()
        assert all(part in str(caught.value) for part in (file.name, file.home, str(tmp_path / file.dataset)))


def test_digits_need_no_fetching(tmp_path):
    assert fetch("digits", tmp_path) == []
    assert files_in(tmp_path) == []


def test_refuses(tmp_path):
    with pytest.raises(ArgumentError, match=r"data set must be one of digits, mnist, .*, got 'cifar'"):
        fetch("cifar", tmp_path)
    with pytest.raises(ArgumentError, match="mirror must start with https:// or http://, got 'file:///etc/'"):
        fetch("mnist", tmp_path, ["file:///etc/"])
    with pytest.raises(DataError, match="no mirror to ask"):
        fetch("mnist", tmp_path, [], files=[FILE])

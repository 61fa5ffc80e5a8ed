"""Mutated files for every reader: readers may raise only the package's own errors, in bounded time and memory.

    python tests/fuzz/run.py --inputs 1000 [--only NAME ...] [--seed 0]     make fuzz N=1000

Inputs are read in a child process, which writes the number of the current one to shared memory. So a crash of a C
library and a hang (5 seconds of processor time) are detected when the child ends, and the next child continues after
that input. A child may take 1 GiB in addition to its initial memory. Number 0 is the valid file, which must be
accepted; known inputs come next, then mutations. Prints one line per reader, keeps failing inputs in --keep, and exits
with 1 if there are any.
"""

import argparse
import dataclasses
import json
import mmap
import os
import pathlib
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

HERE = pathlib.Path(__file__).parent
MOST = 1 << 30  # bytes that one input may take beside what the process has
NO_MEMORY = re.compile(
    r"memory allocation failed(?! for (on disk image|raw data chunk))|(can't|cannot|unable to) allocate", re.I
)
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parents[1])))}
WALL = 300  # seconds an input may take on a busy machine, or where it waits for what never comes


@dataclasses.dataclass(frozen=True)
class Reader:
    """name, the file's name in its folder, functions that make a valid file and read it, mutations of its format."""

    name: str
    file: str
    seed: Callable[[], bytes]
    read: Callable[[pathlib.Path], Any]
    formats: Sequence[Callable[[bytes, random.Random], bytes]] = ()
    known: Sequence[Callable[[], bytes]] = ()
    seconds: float = 5.0  # of processor time that an input may take
    cost: int = 1  # how many times fewer inputs it is given: plots and images take long
    valid: bool = True  # else the seed is no valid file: one of the real data set would be too large
    beside: dict[str, Callable[[], bytes]] = dataclasses.field(default_factory=dict)  # files that must lie there too


def input_of(reader: Any, number: int, seed: int) -> bytes:
    """The input of that number: the valid file, the known ones, then mutations."""
    from mutate import mutate

    valid = valid_file(reader)
    if number == 0:
        return valid
    if number <= len(reader.known):
        return reader.known[number - 1]()
    return mutate(valid, random.Random(f"{seed} {reader.name} {number}"), reader.formats)


def valid_file(reader: Any, made: dict[str, bytes] = {}) -> bytes:  # noqa: B006, made once a process
    if reader.name not in made:
        made[reader.name] = reader.seed()
    return made[reader.name]


# --- the child -------------------------------------------------------------------------------------------------------


def read(reader: Any, data: bytes, folder: pathlib.Path) -> str:
    """The outcome of one input: "accepted", "refused", or a description of the failure."""
    from nanoprune.errors import NanopruneError

    path = folder / reader.file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    try:
        signal.setitimer(signal.ITIMER_PROF, reader.seconds)
        signal.alarm(WALL)
        reader.read(folder)
    except NanopruneError as error:
        if (cause := _of_memory(error)) is not None:
            return f"asked for too much: {cause}"
        text = str(error)
        good = text.isprintable() and 0 < len(text) < 2000  # one line, and nothing in it that a terminal obeys
        return "refused" if good else f"not one line: {text[:300]!r}"
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({pathlib.Path(place.filename).name}:{place.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
    return "accepted"


def _of_memory(error: BaseException | None) -> BaseException | None:
    """The out-of-memory error behind an error: an allocation that only the limit of this process refused.

    h5py has no class for that, and passes on the messages of libhdf5. Those on an "on disk image buffer" and on a "raw
    data chunk" do not count: this memory is reserved, and filled only after its length was compared with the file's
    (H5C__load_entry, H5D__chunk_lock).
    """
    while error is not None and not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
        error = error.__cause__ or error.__context__
    return error


def status(field: str) -> int:
    """Bytes from /proc/self/status: VmPeak, VmSize, VmHWM or VmRSS."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith(field))


def child(jobs: Sequence[Sequence[Any]], seed: int, shared: str, module: str) -> None:
    """Read inputs first..last - 1 of each reader; one line of JSON for each that failed, and one when a job is done."""
    readers = __import__(module).READERS
    with open(shared, "r+b") as file:
        place = mmap.mmap(file.fileno(), 64)
    warnings.simplefilter("error")  # a warning on the user's screen is no error of ours either
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for job, (name, first, last) in enumerate(jobs):
        reader = readers[name]
        with tempfile.TemporaryDirectory(dir=os.path.dirname(shared)) as text:
            folder = pathlib.Path(text)
            beside = {other: make() for other, make in reader.beside.items()}
            _write(folder, beside)
            os.mkfifo(folder / "pipe")  # whoever opens it waits for ever
            read(reader, valid_file(reader), folder)  # what is imported and kept at the first use is in memory now
            base, rss = status("VmSize"), status("VmRSS")
            resource.setrlimit(resource.RLIMIT_AS, (base + MOST, resource.RLIM_INFINITY))
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # VmHWM begins anew
            for number in range(first, last):
                data = input_of(reader, number, seed)
                _write(folder, beside)
                place[:24] = b"".join(n.to_bytes(8, "little") for n in (job, number, 1))
                found = read(reader, data, folder)
                counts = int.from_bytes(place[24:32], "little") + (found == "accepted")
                place[24:32] = counts.to_bytes(8, "little")
                place[16:24] = bytes(8)
                if found not in ("accepted", "refused") or (number == 0 and (found == "accepted") != reader.valid):
                    print(json.dumps({"job": job, "number": number, "what": found}), flush=True)
            print(json.dumps({"job": job, "peak": status("VmHWM") - rss, "accepted": counts}), flush=True)
            place[24:32] = bytes(8)
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _write(folder: pathlib.Path, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != len(content):
            path.write_bytes(content)


def _memory() -> str | None:
    """A folder in memory, if the system has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


# --- the parent ------------------------------------------------------------------------------------------------------


class Tally:
    """The results of one reader so far."""

    def __init__(self, name: str, inputs: int) -> None:
        self.name, self.inputs, self.accepted, self.seconds, self.peak = name, inputs, 0, 0.0, 0
        self.failed: list[tuple[int, str]] = []

    def line(self) -> str:
        refused = self.inputs - self.accepted - len(self.failed)
        return (
            f"{self.name:<20} {self.inputs:>8,} {self.accepted:>9,} {refused:>8,} {self.seconds:>8.1f} "
            f"{self.peak / 2**20:>8.1f} {len(self.failed):>8}"
        )


HEADER = f"{'reader':<20} {'inputs':>8} {'accepted':>9} {'refused':>8} {'seconds':>8} {'peak MB':>8} {'failures':>8}"


def fuzz(names: Iterable[str], inputs: int, seed: int = 0, module: str = "readers", watch: Any = None) -> list[Tally]:
    """Feed `inputs` inputs to each reader of `module`. watch(tally) is called when a reader is done."""
    readers = __import__(module).READERS
    tallies = [Tally(name, max(inputs // readers[name].cost, 1 + len(readers[name].known))) for name in names]
    todo = [[tally.name, 0, tally.inputs] for tally in tallies]
    done = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_memory()) as folder:
        shared = os.path.join(folder, "place")
        pathlib.Path(shared).write_bytes(bytes(64))
        with open(shared, "r+b") as file:
            place = mmap.mmap(file.fileno(), 64)
        while done < len(todo):
            done = _run_child(todo, done, tallies, seed, shared, place, module, watch)
    return tallies


def _run_child(
    todo: list[list[Any]],
    done: int,
    tallies: list[Tally],
    seed: int,
    shared: str,
    place: mmap.mmap,
    module: str,
    watch: Any,
) -> int:
    """Run one child until it ends; return the number of finished readers."""
    place[:] = bytes(64)
    command = [sys.executable, __file__, "--child", json.dumps(todo[done:]), "--seed", str(seed), shared, module]
    start = time.monotonic()
    first = done
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | ENVIRONMENT) as process:
        for line in process.stdout:
            found = json.loads(line)
            tally = tallies[first + found["job"]]
            if "what" in found:
                tally.failed.append((found["number"], found["what"]))
                continue
            tally.peak, tally.accepted = max(tally.peak, found["peak"]), tally.accepted + found["accepted"]
            tally.seconds, start, done = tally.seconds + time.monotonic() - start, time.monotonic(), done + 1
            if watch:
                watch(tally)
    job, number, inside, accepted = (int.from_bytes(place[i : i + 8], "little") for i in range(0, 32, 8))
    if process.returncode:
        tally = tallies[first + job]
        if inside:
            tally.failed.append((number, _death(process.returncode)))
        elif process.returncode < 0:
            tally.failed.append((number, f"{_death(process.returncode)}, when it had been read"))
        else:
            raise RuntimeError(f"the child ended with {process.returncode} outside of a reader, at {tally.name}")
        tally.accepted += accepted
        tally.seconds += time.monotonic() - start
        todo[first + job][1] = number + 1
        if number + 1 == todo[first + job][2]:
            done += 1
            if watch:
                watch(tally)
    return done


def _death(code: int) -> str:
    names = {signal.SIGPROF: "hang: too much processor time", signal.SIGALRM: f"hang: {WALL} s"}
    return names.get(-code) or (signal.Signals(-code).name if code < 0 else f"exit {code}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument(
        "--keep", type=pathlib.Path, default=pathlib.Path("results/fuzz"), help="where failures are kept"
    )
    parser.add_argument("--child")
    parser.add_argument("rest", nargs="*")
    options = parser.parse_args()
    if options.child:
        shared, module = options.rest
        child(json.loads(options.child), options.seed, shared, module)
        return
    from readers import READERS

    def watch(tally: Tally) -> None:
        print(tally.line(), flush=True)
        for number, what in tally.failed:
            options.keep.mkdir(parents=True, exist_ok=True)
            path = options.keep / f"{tally.name.replace(' ', '-')}-{options.seed}-{number}"
            path.write_bytes(input_of(READERS[tally.name], number, options.seed))
            print(f"    {path}: {what}", flush=True)

    print(HEADER)
    tallies = fuzz(options.only or READERS, options.inputs, options.seed, watch=watch)
    sys.exit(1 if any(tally.failed for tally in tallies) else 0)


if __name__ == "__main__":
    main()

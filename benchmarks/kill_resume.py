"""Send signals to small runs at random moments, resume each run until it ends, and compare it with one left alone.

    python benchmarks/kill_resume.py                                   200 SIGKILLs to each command
    python benchmarks/kill_resume.py --signals INT TERM --times 200    200 SIGINTs and SIGTERMs to each command
    python benchmarks/kill_resume.py --commands private --seed 7

What must hold, else the exit status is 1:

- A run that was resumed ends with the files of the run left alone, byte by byte; only the times in JSON may differ.
- A command with DP-SGD draws secret noise, so its model differs from run to run. A model that exists never changes, and
  no checkpoint, which would hold the state of the noise, is left beside it: one budget has one model.
- SIGINT and SIGTERM are never lost: the status says which signal ended the run, or the process had ended before. A run
  that a signal ended prints one line that begins with "error:", and no traceback.

The commands train small networks on the embedded digits with few epochs, less patience of the attack network, no plots
and a checkpoint after every epoch. Each seed has a worker process, and that one a second process for half of its
samples.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

ROOT = pathlib.Path(__file__).parents[1]
SIZES = ["--members", "60", "--reference", "60", "--nonmembers", "60"]
RESUMED = ["--threads", "4", "--checkpoint-every", "0", "--resume"]
HANGS = 1200.0  # seconds after which a run that gets no signal hangs
GRACE = 120.0  # seconds in which a signal must have ended a run
PF_EXITING = 0x4  # a flag in /proc/PID/stat, see proc(5) and the kernel's include/linux/sched.h
TIMES = ("seconds", "created")  # keys of JSON that hold times


@dataclasses.dataclass(frozen=True)
class Command:
    """words: of the command line; OUT stands for the run's folder, MODEL for a trained model. private: with DP-SGD."""

    words: tuple[str, ...]
    private: bool = False


PRIVATE = ("--epsilon", "8")
COMMANDS = {
    "reproduce": Command(("reproduce", "digits", "--seeds", "2", *SIZES, *RESUMED, "--out", "OUT")),
    "reproduce-private": Command(
        ("reproduce", "digits", "--seeds", "2", *SIZES, *RESUMED, "--methods", "dp-8", *PRIVATE, "--out", "OUT"), True
    ),
    "train": Command(("train", "digits", *SIZES, "--epochs", "60", *RESUMED, "--out", "OUT/model.h5")),
    "private": Command(("train", "digits", *SIZES, *PRIVATE, *RESUMED, "--out", "OUT/model.h5"), True),
    "prune": Command(("prune", "MODEL", "--keep", "0.1", *RESUMED, "--out", "OUT/pruned.h5")),
    "attack": Command(
        (
            *("attack", "MODEL", "--shadows", "6", "--threads", "2", "--cache", "OUT/cache"),
            *("--json", "OUT/attack.json", "--overwrite"),
        )
    ),
}


def main() -> None:
    """Print one line for each signal, and for each command what came of them."""
    parser = argparse.ArgumentParser(description="Signals at random moments, and what is there after resuming.")
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    parser.add_argument("--signals", nargs="+", choices=("KILL", "INT", "TERM"), default=["KILL"])
    parser.add_argument("--times", type=int, default=200, help="signals to each command")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    numbers, wrong = [signal.Signals[f"SIG{name}"] for name in given.signals], ""
    for name in given.commands:
        with tempfile.TemporaryDirectory() as folder:
            trial = Trial(pathlib.Path(folder), COMMANDS[name], numbers, random.Random(given.seed), print)
            found = trial.test(given.times)
        print(f"{name}: {found or 'as it must be'} after {given.times} x {'/'.join(given.signals)}", flush=True)
        wrong = wrong or found
    sys.exit(1 if wrong else 0)


class Trial:
    """Signals to one command in `folder`."""

    def __init__(
        self,
        folder: pathlib.Path,
        command: Command,
        signals: list[signal.Signals],
        rng: random.Random,
        tell: Callable[[str], None],
    ) -> None:
        self.folder, self.command, self.signals, self.rng, self.tell = folder, command, signals, rng, tell

    def test(self, times: int) -> str:
        """What is wrong after so many signals, in as many runs as it takes; "" where nothing is."""
        if "MODEL" in self.command.words:
            words = ("train", "digits", *SIZES, "--threads", "1", "--out", str(self.folder / "model.h5"))
            _end_well(self.start(words))
        began = time.monotonic()
        _end_well(self.start(self.words("alone")))
        self.seconds, sent, runs, statuses = time.monotonic() - began, 0, 0, collections.Counter()
        self.tell(f"left alone: {self.seconds:.1f} s")
        while sent < times:
            out = self.folder / f"run{runs}"
            for wrong in self.interrupted(out, times - sent, statuses):
                sent += 1
                if wrong:
                    return f"after {sent} signals: {wrong}"
            wrong = self.wrong_end(out)
            if wrong:
                return f"after {sent} signals: {wrong}"
            runs += 1
        self.tell(f"{runs} runs; statuses after a signal: {dict(statuses)}")
        return ""

    def interrupted(self, out: pathlib.Path, most: int, statuses: collections.Counter) -> Iterator[str]:
        """One run that gets at most so many signals and is resumed until it ends; yields what is wrong after each."""
        models: dict[pathlib.Path, bytes] = {}
        for _ in range(most):
            process = self.start(self.words(out.name))
            wait = self.rng.expovariate(2 / self.seconds)  # now and then long enough to end
            ended = _handles(process) or _waited(process, wait) is not None
            number = self.rng.choice(self.signals)
            exiting = False
            if not ended:
                process.send_signal(number)
                exiting = _exiting(process.pid)
            status, errors = _ended(process, GRACE)
            if status is None:
                yield f"{number.name} after {wait:.2f} s did not end the run in {GRACE:.0f} s"
                return
            if ended or (exiting and status == 0):
                if status:
                    yield f"a run that got no signal ended with status {status}: {errors}"
                return
            statuses[status] += 1
            self.tell(f"{number.name} after {wait:.2f} s: status {status}")
            yield self.wrong_after(number, status, errors) or self.changed(out, models)
        _end_well(self.start(self.words(out.name)))

    def wrong_after(self, number: signal.Signals, status: int, errors: str) -> str:
        """What is wrong with how a signal ended the run."""
        if status not in (-number, 128 + number):
            return f"{number.name} was lost: status {status}: {errors}"
        lines = [line for line in errors.splitlines() if line.startswith("error:")]
        wanted = 1 if status > 0 else 0  # -number: the system ended it, before Python ran or after the work
        if "Traceback" in errors or len(lines) != wanted:
            return f"{number.name}: expected {wanted} lines that begin with error:, got {errors!r}"
        return ""

    def changed(self, out: pathlib.Path, models: dict[pathlib.Path, bytes]) -> str:
        """Which model under its final name is another one than before."""
        for path, before in models.items():
            if not path.is_file() or path.read_bytes() != before:
                return f"{path.name} was there, and is another one now: two models from one budget"
        models |= {path: path.read_bytes() for path in out.glob("*.h5")} if self.command.private else {}
        return ""

    def wrong_end(self, out: pathlib.Path) -> str:
        """What is wrong with the files of a run that ended."""
        alone = self.folder / "alone"
        left = [str(path.relative_to(out)) for path in out.rglob("*") if "checkpoints" in path.parts]
        if self.command.private:
            missing = {path.name for path in alone.iterdir()} ^ {path.name for path in out.iterdir()}
            return ", ".join(sorted(missing | set(left)))
        return differences(alone, out)

    def words(self, out: str) -> list[str]:
        """The command line of a run in the folder `out`."""
        model, out = self.folder / "model.h5", str(self.folder / out)
        (self.folder / out).mkdir(exist_ok=True)
        return [word.replace("OUT", out).replace("MODEL", str(model)) for word in self.command.words]

    def start(self, words: list[str] | tuple[str, ...]) -> subprocess.Popen:
        """A command with smaller recipes as a process, to begin or to go on."""
        program = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from benchmarks.kill_resume import small; small()"
        command = [sys.executable, "-c", program, *words]
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": str(ROOT)}, preexec_fn=_default_signals, **pipes
        )


def _default_signals() -> None:
    """A shell ignores SIGINT for what it runs in the background, and what is ignored when a program starts stays so."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def _handles(process: subprocess.Popen) -> bool:
    """Wait until the process handles SIGTERM, as the command line does before its imports; whether it ended instead."""
    bit = 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        caught = [line.split()[1] for line in text.splitlines() if line.startswith("SigCgt:")]
        if caught and int(caught[0], 16) & bit:
            return False
        time.sleep(0.001)
    return True


def _exiting(pid: int) -> bool:
    """Whether the kernel is taking the process apart already: it ended by itself, and no signal reaches it any more."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # state is the first of these
    return fields[0] in "ZX" or bool(int(fields[6]) & PF_EXITING)


def _waited(process: subprocess.Popen, seconds: float) -> int | None:
    """The status of a process, None where it does not end within `seconds`."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _ended(process: subprocess.Popen, seconds: float) -> tuple[int | None, str]:
    """The status of a process and what it wrote to standard error; None where it had to be killed after `seconds`."""
    try:
        _, errors = process.communicate(timeout=seconds)
        return process.returncode, errors
    except subprocess.TimeoutExpired:
        process.kill()
        return None, process.communicate()[1]


def _end_well(process: subprocess.Popen) -> None:
    status, errors = _ended(process, HANGS)
    if status != 0:
        raise SystemExit(f"a run that got no signal ended with status {status}: {errors}")


def small() -> None:
    """The command line with smaller recipes, inside of that process."""
    from nanoprune.__main__ import handled_signals

    with handled_signals():
        import nanoprune.attack.network as attack
        import nanoprune.lab.engine.shards as shards
        import nanoprune.lab.experiment.recipes as recipes
        import nanoprune.lab.report as report
        from nanoprune.lab.commands import main
        from nanoprune.lab.engine.interrupt import at_once
        from nanoprune.lab.experiment.settings import Private
        from nanoprune.prune import ADMMSettings

        usual = recipes.RECIPES["digits"]
        plan = dataclasses.replace(usual.dense, epochs=6)
        recipes.RECIPES["digits"] = dataclasses.replace(
            usual,
            widths=(24, 16),
            dense=plan,
            prune=plan,
            retrain=plan,
            admm=ADMMSettings(rho=0.1, iterations=3),
            private=Private(epochs=40, batch=20, lr=0.25),
        )
        shards.SMALL = 0
        attack.PATIENCE = attack.MIN_PATIENCE
        report.write_report = lambda results, out: None
        with at_once():
            main()


def differences(one: pathlib.Path, other: pathlib.Path) -> str:
    """The files in which two finished runs differ."""
    names = sorted({str(path.relative_to(folder)) for folder in (one, other) for path in folder.rglob("*")})
    return ", ".join(name for name in names if _content(one / name) != _content(other / name))


def _content(path: pathlib.Path) -> object:
    """The content of a file that must be equal: everything except its times."""
    if not path.is_file():
        return path.exists()
    if path.name == "run.json":  # which has the hash of results.json
        content = json.loads(path.read_text())
        return content | {"results": {name: of for name, of in content["results"].items() if name != "results.json"}}
    if path.suffix == ".json":
        return {name: value for name, value in json.loads(path.read_text()).items() if name not in TIMES}
    return path.read_bytes()


if __name__ == "__main__":
    main()

"""Kill a small `reproduce` with SIGKILL at random times, resume it each time, and compare it with an uninterrupted one.

    python benchmarks/kill_resume.py 200            the number of kills; a seed for the times may follow: 200 7

results.json (except for its times) and every byte of the other files must be equal. Exit status 1 if they are not. The
run is that of `python cli.py reproduce digits` with all methods, with a smaller network, fewer epochs and less patience
of the attack network, no plots, and a checkpoint after every epoch: so more points are hit in less time. Each of its
two seeds has a worker process, which has a second process for half of its samples, although so small a network would
normally have none.
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).parents[1]
SIZES = ["--seeds", "2", "--members", "60", "--reference", "60", "--nonmembers", "60", "--threads", "4"]
HANGS = 1200.0  # seconds after which a run that is not killed counts as hanging


def main() -> None:
    """Print one line per kill, and the result."""
    kills, seed = map(int, [*sys.argv[1:], *("200", "0")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as folder:
        different = kill_and_compare(pathlib.Path(folder), kills, random.Random(seed), print)
    print(different or f"{kills} kills: the same bits")
    sys.exit(1 if different else 0)


def kill_and_compare(folder: pathlib.Path, kills: int, rng: random.Random, tell: Callable[[str], None]) -> str:
    """The differences between runs with `kills` kills in all and an uninterrupted one; "" if there are none."""
    began = time.monotonic()
    _ended(start(folder / "alone").wait(HANGS))
    seconds = time.monotonic() - began
    tell(f"uninterrupted: {seconds:.1f} s")
    done, runs, at = 0, 0, collections.Counter()
    while done < kills:
        out = folder / "killed"
        done += one_run(out, rng, kills - done, seconds, at, tell)
        different = differences(folder / "alone", out)
        if different:
            return f"after {done} kills: {different}"
        for path in sorted(out.rglob("*"), reverse=True):
            path.unlink()
        runs += 1
    tell(f"{runs} runs, killed at: " + ", ".join(f"{stage} {count}" for stage, count in at.most_common()))
    return ""


def one_run(
    out: pathlib.Path, rng: random.Random, most: int, seconds: float, at: collections.Counter, tell: Callable
) -> int:
    """One run, killed at random times, at most `most` times, and resumed until it ends; returns the number of kills."""
    kills = 0
    while True:
        process = start(out)
        wait = rng.expovariate(2 / seconds) if kills < most else HANGS  # sometimes long enough for the run to end
        try:
            _ended(process.wait(wait))
            return kills
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            if wait == HANGS:
                raise SystemExit("it hangs") from None
        kills += 1
        newest = max(out.glob("checkpoints/*.h5"), key=lambda path: path.stat().st_mtime, default=None)
        stage = newest.name.rsplit("-", 2)[0] if newest else "the start"
        at[stage] += 1
        tell(f"kill {kills} of this run after {wait:.2f} s; newest checkpoint: {stage}")


def _ended(status: int) -> None:
    if status:
        raise SystemExit(f"the run ended with status {status}")


def start(out: pathlib.Path) -> subprocess.Popen:
    """The small `reproduce` as a process, which begins or resumes the run."""
    options = [*SIZES, "--checkpoint-every", "0", "--resume", "--out", out]
    program = f"import sys; sys.path[:0] = [{str(ROOT)!r}]; from benchmarks.kill_resume import small; small()"
    words = [sys.executable, "-c", program, "reproduce", "digits", *options]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(ROOT)})


def small() -> None:
    """The command line with a smaller recipe, called in that process."""
    import nanoprune.attack.network as attack
    import nanoprune.lab.engine.shards as shards
    import nanoprune.lab.experiment.recipes as recipes
    import nanoprune.lab.report as report
    from nanoprune.lab.commands import main
    from nanoprune.prune import ADMMSettings

    usual = recipes.RECIPES["digits"]
    plan = dataclasses.replace(usual.dense, epochs=6)
    recipes.RECIPES["digits"] = dataclasses.replace(
        usual, widths=(24, 16), dense=plan, prune=plan, retrain=plan, admm=ADMMSettings(rho=0.1, iterations=3)
    )
    shards.SMALL = 0
    attack.PATIENCE = attack.MIN_PATIENCE
    report.write_report = lambda results, out: None
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
    if path.name == "results.json":
        return {name: value for name, value in json.loads(path.read_text()).items() if name != "seconds"}
    return path.read_bytes()


if __name__ == "__main__":
    main()

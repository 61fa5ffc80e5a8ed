"""Whole commands in this checkout and in another one: did a change make local work slower?

    git worktree add ../before COMMIT
    python benchmarks/two_checkouts.py ../before [--times 7] [fleet-mlp reproduce-digits attack ...]

The two take turns (A B B A ...), each run in a process of its own, so that drifts of the machine affect both alike.
Printed are the median of each, and the median of the ratios of neighbours with the range of their middle half.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

HERE = pathlib.Path(__file__).resolve().parents[1]
MODEL = ["cli.py", "train", "digits", "--epochs", "40", "--out", "model.h5"]
FLEET = """
import numpy as np
import threadpoolctl
from nanoprune.lab.engine.passes import default_threads
from nanoprune.lab.engine.shards import shard_size, train_shards
from nanoprune.lab.zoo import build, describe
from nanoprune.records import Records
from nanoprune.schedule import Schedule
from nanoprune.train import train

threadpoolctl.threadpool_limits(1, user_api="blas")
rng, R, M = np.random.default_rng(0), 16, 320
records = Records((rng.random((5000, 446)) < 0.1).astype(np.float32), rng.integers(0, 30, 5000))
generators = [np.random.default_rng(r) for r in range(R)]
members = np.stack([generator.permutation(5000)[:M] for generator in generators])  # (R, M)
net = build(describe("mlp", (446,), 30, [512, 256, 128]), R).initialise(generators)

def shard(rows, advance):
    train(net.shard(rows), records, members[rows], Schedule(200, 64, lr=0.01), generators[rows])
    return net.theta[rows]

train_shards(shard, R, default_threads(), shard_size(net, 64, default_threads()))
"""
COMMANDS = {
    "fleet-mlp": ["-c", FLEET],
    "reproduce-digits": ["cli.py", "reproduce", "digits", "--out", "results", "--overwrite"],
    "attack": [
        "cli.py",
        "attack",
        "model.h5",
        "--shadows",
        "16",
        "--attacks",
        "lira_online,rmia_online",
        "--json",
        "attack.json",
        "--overwrite",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Whole commands in this checkout and in another one.")
    parser.add_argument("other", type=pathlib.Path, help="the root of the other checkout")
    parser.add_argument("--times", type=int, default=7, help="runs of each")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(COMMANDS)}; all by default")
    options = parser.parse_intermixed_args()
    roots = {"this": HERE, "other": options.other.resolve()}
    print("| command | this | other | ratio |\n| :--- | ---: | ---: | ---: |")
    for name in options.names or COMMANDS:
        seconds: dict[str, list[float]] = {of: [] for of in roots}
        with tempfile.TemporaryDirectory() as folder:
            work = {of: pathlib.Path(folder, of) for of in roots}
            for of, root in roots.items():
                work[of].mkdir()
                if name == "attack":
                    run(root, MODEL, work[of])
            for i in range(options.times):
                for of in list(roots)[:: 1 if i % 2 == 0 else -1]:
                    seconds[of].append(run(roots[of], COMMANDS[name], work[of]))
        ratios = np.array(seconds["this"]) / seconds["other"]
        low, high = np.quantile(ratios, [0.25, 0.75])
        this, other = (np.median(seconds[of]) for of in roots)
        print(
            f"| {name} | {this:.2f} s | {other:.2f} s | {np.median(ratios):.3f} ({low:.3f} to {high:.3f}) |", flush=True
        )


def run(root: pathlib.Path, command: list[str], folder: pathlib.Path) -> float:
    """Seconds of a Python command with the package of `root`, run in `folder`."""
    command = [str(root / part) if part == "cli.py" else part for part in command]
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *command],
        check=True,
        cwd=folder,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()

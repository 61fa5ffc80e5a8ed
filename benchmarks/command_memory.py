"""Peak memory of the commands, each against the size of its input.

    python benchmarks/command_memory.py                 every group of commands, about ten minutes
    python benchmarks/command_memory.py data scores     these groups again, the others are kept
    python benchmarks/command_memory.py --quick --out F.json    the smallest input of each: to see that it works

The result is benchmarks/command_memory.json, written after each group. Each command runs as a user's, with two workers
where it has any, and has two figures:

largest    peak resident set of its largest process, as the kernel counted it (`getrusage`)
together   the largest sum over all its processes, shared memory counted once (the proportional set size in
           /proc/PID/smaps_rollup), at two moments SLEEP seconds apart: what is held for less is not seen. It is never
           less than `largest`

Linux alone has both. Inputs are random, trainings are one epoch long. `data fetch` needs a network and is not measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

# This process imports no NumPy: the kernel's peak of a new process begins with the memory of the one that starts it.

ROOT = pathlib.Path(__file__).resolve().parents[1]
RESULT = pathlib.Path(__file__).with_name("command_memory.json")
SLEEP = 0.02  # seconds
WORKERS = ("--threads", "2")


@dataclasses.dataclass(frozen=True)
class Step:
    """words: of the command line; input: the file or folder whose size counts, "" where `size` counts the input.
    measured: whether the command is of interest here, or only makes an input. largest: the place of the largest size
    that it is run with."""

    words: str
    input: str = ""
    measured: bool = True
    largest: int = 2


@dataclasses.dataclass(frozen=True)
class Group:
    """sizes: handed to `make`, the function of this file that makes the first input; unit: what they count for commands
    whose input has no size in bytes. {size} in the words stands for the size."""

    steps: tuple[Step, ...]
    sizes: tuple[int, ...] = (0,)
    make: str = ""
    unit: str = ""


ONCE = "--iterations 1 --epochs 1 --retrain-epochs 1"
GROUPS = {
    "data": Group(
        (
            Step("data describe data.npz", "data.npz"),
            Step("train data.npz --epochs 1 --out model.h5 {workers}", "data.npz"),
            Step("train data.npz --epochs 3 --epsilon 1 --out private.h5 {workers}", "data.npz"),
            Step(f"prune model.h5 --keep 0.1 {ONCE} --out pruned.h5 {{workers}}", "data.npz"),
            Step("predict model.h5 --out scores.npz {workers}", "data.npz"),
            Step("attack model.h5 --shadows 6 {workers}", "data.npz", largest=1),
            Step("attack model.h5 --shadows 6 --plan tasks {workers}", measured=False, largest=1),
            Step("task tasks/task-0.json --store parts --data data.npz {workers}", "data.npz", largest=1),
            Step("train data.npz --reference 0 --epochs 1 --canaries 200 --out canaries.h5 {workers}", measured=False),
            Step("canaries canaries.h5 {workers}", "data.npz"),
        ),
        sizes=(2500, 25_000, 100_000),
        make="data",
    ),
    "table": Group(
        (
            Step("data describe table.csv --label class", "table.csv"),
            Step("train table.csv --label class --epochs 1 --out model.h5 {workers}", "table.csv"),
        ),
        sizes=(2500, 25_000, 100_000),
        make="table",
    ),
    "model": Group(
        (
            Step("train data.npz --recipe recipe.json --epochs 1 --out dense.h5 {workers}", measured=False),
            Step(f"prune dense.h5 --scheme filter --keep 0.5 {ONCE} --out model.h5 {{workers}}", "dense.h5"),
            Step("info model.h5", "model.h5"),
            Step("quantise model.h5 --out int8.h5", "model.h5"),
            Step("shrink model.h5 --out small.h5", "model.h5"),
            Step("export model.h5 --to safetensors --out model.safetensors", "model.h5"),
            Step("export model.h5 --to onnx --out model.onnx", "model.h5"),
            Step("export model.h5 --to onnx --weights packed --out packed.onnx", "model.h5"),
            Step("export model.h5 --to c --out model.c", "model.h5"),
            Step("export model.h5 --to torch-code --out torch.py", "model.h5"),
            Step("export model.h5 --to web --weights packed --out model.html", "model.h5"),
            Step("import model.safetensors --out again.h5", "model.safetensors"),
            Step("import model.onnx --out fromonnx.h5", "model.onnx"),
        ),
        sizes=(256, 1024, 3072),
        make="model",
    ),
    "scores": Group(
        (
            Step("audit scores.npz {workers}", "scores.npz", largest=1),
            Step("audit scores.npz --quick {workers}", "scores.npz"),
        ),
        sizes=(1000, 10_000, 100_000),
        make="scores",
    ),
    "images": Group(
        (Step("data pack imagenet --src images --out packed.h5 {workers}", "images"),), (100, 400), "images"
    ),
    "seeds": Group(
        (
            Step("reproduce digits --seeds {size} --methods prune-0.1 --recipe recipe.json --out results {workers}"),
            Step("report results"),
        ),
        sizes=(1, 4, 8),
        make="short",
        unit="seeds",
    ),
    "none": Group(
        (
            Step("verify"),
            Step("epsilon --records 60000 --batch 240 --noise 1.3 --epochs 15"),
            Step("info resnet18"),
            Step("completion bash"),
            Step("learn check 1 book/solutions/01_derivative.py"),
        )
    ),
}


def make(kind: str, size: int) -> None:
    """Write the first input of a group into the current folder: `size` records, images, or units of each layer."""
    import numpy as np

    rng = np.random.default_rng(0)
    if kind == "scores":
        from audit_scale import predictions

        np.savez("scores.npz", **predictions(size, 100))
    elif kind == "table":
        values, labels = rng.standard_normal((size, 30)).round(4), rng.integers(0, 5, size)
        header = ",".join([*(f"x{i}" for i in range(values.shape[1])), "class"])
        lines = (",".join([*map(str, row), f"c{label}"]) for row, label in zip(values, labels, strict=True))
        pathlib.Path("table.csv").write_text("\n".join([header, *lines]) + "\n")
    elif kind == "images":
        from PIL import Image

        for i in range(size):
            folder = pathlib.Path("images", f"n{i % 4:08}")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (300, 400, 3), np.uint8)).save(folder / f"{i}.JPEG")
    elif kind == "short":  # one epoch of everything
        epoch = {"epochs": 1}
        recipe = {"dense": epoch, "prune": epoch, "retrain": epoch, "admm": {"iterations": 1}}
        pathlib.Path("recipe.json").write_text(json.dumps(recipe))
    else:
        records = 1200 if kind == "model" else size
        x, y = rng.random((records, 400), np.float32), rng.integers(0, 10, records)
        np.savez("data.npz", x=x, y=y)
        pathlib.Path("recipe.json").write_text(json.dumps({"widths": [size] * 3}))


def peak(words: list[str], folder: pathlib.Path) -> tuple[int, int]:
    """Bytes `largest` and `together` of `python cli.py WORDS`, run in `folder`. Raises SystemExit where it fails."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile("w+") as said:
        command = [sys.executable, str(ROOT / "cli.py"), *words]
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT)
        together = before = 0
        while True:
            ended, status, used = os.wait4(process.pid, os.WNOHANG)
            if ended:
                break
            now = sum(map(resident, family(process.pid)))
            together, before = max(together, min(before, now)), now  # a process in vfork counts twice for a moment
            time.sleep(SLEEP)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            last = (said.read().strip().splitlines() or [""])[-1]
            raise SystemExit(f"error: {' '.join(words)}: status {process.returncode}: {last}")
    largest = 1024 * used.ru_maxrss
    return largest, max(largest, together)


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    found = [pid]
    for of in found:
        try:
            tasks = list(pathlib.Path(f"/proc/{of}/task").iterdir())
            found += [int(child) for task in tasks for child in (task / "children").read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
    return found


def resident(pid: int) -> int:
    """Bytes of the process in memory, what it shares with others divided by their number."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def size_of(path: pathlib.Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    return sum(of.stat().st_size for of in path.rglob("*") if of.is_file()) if path.is_dir() else path.stat().st_size


def measure(name: str, quick: bool) -> list[dict[str, Any]]:
    """The rows of a group: a command with its sizes and figures."""
    group, rows = GROUPS[name], {}
    for place, size in enumerate(group.sizes[: 1 if quick else None]):
        with tempfile.TemporaryDirectory() as made:
            folder = pathlib.Path(made) if group.make else ROOT
            if group.make:
                command = [sys.executable, __file__, "--make", group.make, str(size)]
                environment = os.environ | {"PYTHONPATH": str(ROOT)}
                subprocess.run(command, check=True, cwd=folder, env=environment)
            for step in group.steps:
                if place > step.largest:
                    continue
                words = step.words.format(size=size, workers=" ".join(WORKERS)).split()
                largest, together = peak(words, folder)
                if not step.measured:
                    continue
                shown = step.words.format(size=group.unit.upper(), workers="").strip()
                row = rows.setdefault(shown, {"group": name, "command": shown, "input": step.input or group.unit})
                counted = size_of(folder / step.input) if step.input else size
                for column, value in (("size", counted), ("largest", largest), ("together", together)):
                    row.setdefault(column, []).append(value)
                print(f"{shown}: input {counted:,}, {largest / 1e6:.0f} and {together / 1e6:.0f} MB", flush=True)
    return list(rows.values())


def keep(out: pathlib.Path, name: str, rows: list[dict[str, Any]]) -> None:
    """Put the rows of a group into the file, in place of older ones."""
    command = [sys.executable, "-c", "import json, measure; print(json.dumps(measure.machine('numpy')))"]
    machine = json.loads(subprocess.run(command, check=True, cwd=RESULT.parent, stdout=subprocess.PIPE).stdout)
    kept = {of["name"]: of for of in json.loads(out.read_text())["groups"]} if out.exists() else {}
    kept[name] = {"name": name, "machine": machine, "rows": rows}
    partial = out.with_suffix(".part")
    partial.write_text(json.dumps({"groups": [kept[of] for of in GROUPS if of in kept]}, indent=1) + "\n")
    partial.replace(out)


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Peak memory of the commands against the size of their input.")
    parser.add_argument("groups", nargs="*", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="the smallest input of each command; needs --out")
    parser.add_argument("--out", type=pathlib.Path, help=f"[default: {RESULT.name}, beside this program]")
    parser.add_argument("--make", action="store_true", help=argparse.SUPPRESS)  # in a process of its own
    given = parser.parse_args(words)
    if given.make:
        make(given.groups[0], int(given.groups[1]))
        return
    if unknown := [name for name in given.groups if name not in GROUPS]:
        parser.error(f"there is no group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    if given.quick and not given.out:
        parser.error("--quick measures little: give --out FILE, so that it does not replace what was measured")
    for name in given.groups or GROUPS:
        began = time.perf_counter()
        keep(given.out or RESULT, name, measure(name, given.quick))
        print(f"{name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

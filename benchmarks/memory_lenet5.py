"""The peak memory of training LeNet-5 with batches of 64: nanoprune's whole process against PyTorch's.

Each is a process that imports what it needs, trains for some steps and asks the system for its peak resident set.

    python benchmarks/memory_lenet5.py
"""

import subprocess
import sys

from measure import keep

from nanoprune.parallel import default_threads

BATCH, STEPS = 64, 20
PROGRAMS = {
    "nanoprune": "from training import lenet5_step as make",
    "torch": "from lenet5_step import peer_step as make",
}


def peak(contestant: str, threads: int) -> int:
    """Peak resident set of a training process, in bytes."""
    extra = "" if contestant == "nanoprune" else ", 'channels_last'"
    program = f"""
import resource, sys
sys.path.insert(0, {sys.path[0]!r})
{PROGRAMS[contestant]}
step = make({BATCH}, {threads}{extra})
for _ in range({STEPS}):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)  # Linux counts in KiB
"""
    return int(subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    threads = default_threads()
    ours, theirs = (peak(contestant, threads) for contestant in PROGRAMS)
    print(f"memory-lenet5      nanoprune {ours / 1e6:.0f} MB   torch {theirs / 1e6:.0f} MB   ratio {ours / theirs:.2f}")
    row = {"measure": "memory-lenet5", "ours_bytes": ours, "peer": "torch", "peer_bytes": theirs}
    keep(row | {"ratio": ours / theirs})


if __name__ == "__main__":
    main()

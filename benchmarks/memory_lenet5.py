"""The peak memory of training LeNet-5 with batches of 64: nanoprune's whole process against PyTorch's.

Each is a process that imports what it needs, trains for some steps and asks the system for its peak resident set.

    python benchmarks/memory_lenet5.py
"""

from measure import peak_memory, report_memory

from nanoprune.lab.engine.passes import default_threads

BATCH, STEPS = 64, 20


def main() -> None:
    threads = default_threads()
    ours = peak_memory("training", "lenet5_step", BATCH, threads, steps=STEPS)
    theirs = peak_memory("lenet5_step", "peer_step", BATCH, threads, "channels_last", steps=STEPS)
    report_memory("memory-lenet5", ours, "torch", theirs)


if __name__ == "__main__":
    main()

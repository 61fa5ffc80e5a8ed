"""The result of mutation testing, file by file: `make mutants` ends with it.

    python tests/mutation_score.py                              all of [tool.mutmut] in pyproject.toml
    python tests/mutation_score.py 'nanoprune.prune.budget*'    mutants of these names alone

Reads `mutmut results`, from the folder above mutants/. The score is killed / mutants: a mutant that ran out of time is
not killed, and one that no test reaches has survived. Exit status 1 under LEAST, or where mutants were not run.
"""

from __future__ import annotations

import collections
import fnmatch
import subprocess
import sys

LEAST = 0.95
SURVIVED = ("survived", "no tests")
COLUMNS = ("file", "mutants", "killed", "survived", "timeouts", "other", "score")


def main(patterns: list[str]) -> int:
    output = subprocess.run(["mutmut", "results", "--all", "true"], capture_output=True, text=True, check=True).stdout
    counts = by_file(output, patterns)
    if not counts:
        print("error: no mutants of these names; make mutants makes them")
        return 2
    total = sum(counts.values(), collections.Counter())
    rows = [[name, *figures(count)] for name, count in sorted(counts.items())] + [["total", *figures(total)]]
    for row in [COLUMNS, ["---", *["---:"] * (len(COLUMNS) - 1)], *rows]:
        print("| " + " | ".join(map(str, row)) + " |")
    if total["not checked"]:
        print(f"{total['not checked']} mutants were not run, and are not in the table: make mutants resumes")
    return int(bool(total["not checked"]) or score(total) < LEAST)


def by_file(output: str, patterns: list[str]) -> dict[str, collections.Counter]:
    """The number of mutants of each file by status, from mutmut's lines `    name: status`."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for line in output.splitlines():
        name, separator, status = line.strip().rpartition(": ")
        if separator and (not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns)):
            counts[name.rpartition(".")[0].replace(".", "/") + ".py"][status] += 1
    return dict(counts)


def figures(count: collections.Counter) -> list:
    """The values of COLUMNS after the first. Other: mutants that crashed Python, or with an unknown status."""
    survived = sum(count[status] for status in SURVIVED)
    killed, timeouts = count["killed"], count["timeout"]
    return [run(count), killed, survived, timeouts, run(count) - killed - survived - timeouts, f"{score(count):.1%}"]


def run(count: collections.Counter) -> int:
    return count.total() - count["not checked"]


def score(count: collections.Counter) -> float:
    return count["killed"] / max(1, run(count))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

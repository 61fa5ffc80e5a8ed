"""The result of mutation testing, file by file: `make mutants` ends with it.

    python tests/mutation_score.py                              all of [tool.mutmut] in pyproject.toml
    python tests/mutation_score.py 'nanoprune.prune.budget*'    mutants of these names alone
    python tests/mutation_score.py --draw 1200                  names of a random sample, the same each time, to run
    python tests/mutation_score.py --sample 1200                the result of that sample, with its interval for all
    python tests/mutation_score.py --sample 1200 --seed 1       of another, drawn independently

Reads `mutmut results`, from the folder above mutants/. The score is killed / mutants: a mutant that ran out of time is
not killed, and one that no test reaches has survived. Exit status 1 under LEAST, or where mutants were not run. For a
sample, the lower end of the interval must reach LEAST. The interval holds for a sample that no test was written for:
after tests for the survivors of one, the next seed gives the result.
"""

from __future__ import annotations

import argparse
import collections
import fnmatch
import random
import subprocess
import sys

import scipy.stats

LEAST = 0.95
SURVIVED = ("survived", "no tests")
COLUMNS = ("file", "mutants", "killed", "survived", "timeouts", "other", "score")


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(description="The result of mutation testing.")
    parser.add_argument("patterns", nargs="*", help="names of mutants")
    parser.add_argument("--draw", type=int, metavar="N", help="print the names of a sample, and end")
    parser.add_argument("--sample", type=int, metavar="N", help="the mutants that --draw N prints")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="of the sample; another is drawn independently"
    )
    given = parser.parse_args(words)
    command = ["mutmut", "results", "--all", "true"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        print("error: mutmut is not on the PATH; make mutants installs it and runs this program")
        return 2
    if given.draw:
        print(*drawn(output, given.draw, given.seed))
        return 0
    patterns = drawn(output, given.sample, given.seed) if given.sample else given.patterns
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
    least = score(total)
    if given.sample:
        least, most = interval(total["killed"], run(total), len(statuses(output)))
        print(f"a sample of {run(total):,} of {len(statuses(output)):,}: {least:.1%} to {most:.1%} of all are killed")
    return int(bool(total["not checked"]) or least < LEAST)


def statuses(output: str) -> dict[str, str]:
    """Mutant -> status, from mutmut's lines `    name: status`."""
    pairs = (line.strip().rpartition(": ") for line in output.splitlines())
    return {name: status for name, separator, status in pairs if separator}


def drawn(output: str, count: int, seed: int = 0) -> list[str]:
    """The names of `count` mutants, each set of them equally likely; the same for the same seed."""
    names = sorted(statuses(output))
    return sorted(random.Random(seed).sample(names, min(count, len(names))))


def interval(killed: int, count: int, total: int) -> tuple[float, float]:
    """What share of all `total` mutants is killed, from `killed` of `count` drawn without replacement: all shares for
    which neither so few nor so many killed are less likely than 2.5% (hypergeometric; exact, so 95% or more)."""
    shares = range(total + 1)
    few = [k for k in shares if scipy.stats.hypergeom.sf(killed - 1, total, k, count) > 0.025]
    many = [k for k in shares if scipy.stats.hypergeom.cdf(killed, total, k, count) > 0.025]
    return min(few) / total, max(many) / total


def by_file(output: str, patterns: list[str]) -> dict[str, collections.Counter]:
    """The number of mutants of each file by status, from mutmut's lines `    name: status`."""
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for name, status in statuses(output).items():
        if not patterns or any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
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

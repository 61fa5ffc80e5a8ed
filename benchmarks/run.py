"""Run the benchmarks: all except the long ones, or those whose name starts with the argument.

A program of benchmarks/ has the name of its file, with hyphens: `make bench ONLY=lenet5-step`. Those in LONG take many
minutes or need arguments, and run only when they are named: `make bench ONLY=reproduce-location30`.
"""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
LONG = (
    *("two-checkouts", "audit-peer", "gpu", "one-queue"),
    *("reproduce-location30", "dp-mnist", "kill-resume", "same-bits", "admm-order", "pareto"),
    *(
        "scaling",
        "command-memory",
        "fleet-hosts",
        "fleet-scale",
        "fleet-tasks",
        "logistic",
        "null-audits",
        "null-comparisons",
        "anchors",
        "anchor-alexnet",
    ),
)
OTHERS = ("run", "page")  # programs that measure nothing; a file without a main block is a module of the others
FILES = {path.stem.replace("_", "-"): path for path in sorted(HERE.glob("*.py")) if path.stem not in OTHERS}
PROGRAMS = {name: path for name, path in FILES.items() if '__name__ == "__main__"' in path.read_text()}


def main(only: str) -> int:
    if only:
        chosen = [name for name in PROGRAMS if name.startswith(only)]
    else:
        chosen = [name for name in PROGRAMS if name not in LONG]
    if not chosen:
        print(f"error: no benchmark starts with {only!r}; there are", *PROGRAMS)
        return 2
    return max(subprocess.run([sys.executable, PROGRAMS[name]]).returncode for name in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

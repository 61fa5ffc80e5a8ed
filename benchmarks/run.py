"""Run the benchmarks, all or the one whose name or measure starts like the argument: make bench ONLY=lenet5-step."""

import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
PROGRAMS = sorted(path for path in HERE.glob("*.py") if path.stem not in ("run", "measure"))


def main(only: str) -> int:
    chosen = [path for path in PROGRAMS if path.stem.replace("_", "-").startswith(only)]
    if not chosen:
        print(f"error: no benchmark starts with {only!r}; there are", *(p.stem.replace("_", "-") for p in PROGRAMS))
        return 2
    return max(subprocess.run([sys.executable, path]).returncode for path in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))

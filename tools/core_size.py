"""Prints the size of the core and its budgets, which CONTRIBUTING.md explains.

    python tools/core_size.py

All lines of a file count, including docstrings, comments and blank lines. The reading list has the files of a first
course, from a dense layer to the attack network. Attacks with shadow models, of which literature has ever more, are
counted apart from the rest of the core. Exit status 1 where a number is above its budget.
"""

import ast
import pathlib
import sys

PACKAGE = pathlib.Path(__file__).parents[1] / "nanoprune"
READING_LIST = (
    *("train.py", "run.py"),
    *("nn/layer.py", "nn/parameter.py", "nn/workspace.py", "nn/network.py", "nn/formula.py", "nn/passes.py"),
    *("nn/dense.py", "nn/conv2d.py", "nn/loss.py", "nn/optimizer.py"),
    *("prune/projection.py", "prune/admm.py", "prune/mask.py"),
    "defend/minmax.py",
    *("attack/attack_network.py", "attack/network.py", "attack/scores.py", "attack/threshold.py", "attack/metrics.py"),
)
SHADOW = PACKAGE / "attack" / "shadow"
BUDGETS = {
    "the reading list": 1500,
    "the core": 3000,
    "the attacks with shadow models": 700,
    "the largest file of these attacks": 100,
    "the largest file of the core": 180,
    "the longest function of the core": 50,
    "the largest file of the package": 400,
}


def lines(path: pathlib.Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def longest_function(path: pathlib.Path) -> int:
    """Lines of the longest function or method, its docstring and decorators included."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, kinds)]
    starts = [min([node.lineno, *(d.lineno for d in node.decorator_list)]) for node in nodes]
    return max((node.end_lineno - start + 1 for node, start in zip(nodes, starts, strict=True)), default=0)


def sizes() -> dict[str, tuple[int, str]]:
    """The measured size for each budget, and the file that it belongs to."""
    package = sorted(PACKAGE.rglob("*.py"))
    entry = PACKAGE / "__main__.py"  # starts the command line, so it belongs to the laboratory
    outside = [path for path in package if "lab" not in path.relative_to(PACKAGE).parts and path != entry]
    shadow = [path for path in outside if path.is_relative_to(SHADOW)]
    core = [path for path in outside if path not in shadow]

    def largest(paths: list[pathlib.Path], measure) -> tuple[int, str]:
        path = max(paths, key=measure)
        return measure(path), path.relative_to(PACKAGE).as_posix()

    reading = sum(lines(PACKAGE / name) for name in READING_LIST)
    found = [(reading, f"{len(READING_LIST)} files"), (sum(map(lines, core)), f"{len(core)} files")]
    found += [(sum(map(lines, shadow)), f"{len(shadow)} files"), largest(shadow, lines)]
    found += [largest(core, lines), largest(outside, longest_function), largest(package, lines)]
    return dict(zip(BUDGETS, found, strict=True))


def main() -> int:
    print("| lines of | now | at most | in |\n| :--- | ---: | ---: | :--- |")
    over = 0
    for name, (size, where) in sizes().items():
        print(f"| {name} | {size:,} | {BUDGETS[name]:,} | {where} |")
        over += size > BUDGETS[name]
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())

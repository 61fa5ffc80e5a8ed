"""Build the release, install it in empty environments, and use it: make release-check

    python tools/release_check.py [PYTHON ...]      interpreters, the oldest first; without any this one

The sdist must contain the files that git tracks, the wheel those of the package and the digits, and the wheels built
from the sdist and from the checkout must be identical. The wheel is then installed into empty environments: with the
lowest versions that pyproject.toml allows (oldest interpreter), the newest ones (each interpreter), and those of
requirements.lock (each). There the commands run outside of the checkout, and the tests in TESTS against the installed
package. Prints one line per step; exit status 1 if any failed. Needs git, uv, twine and packaging.
"""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterable

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = pathlib.Path(__file__).parents[1]
ENV = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV", "NANOPRUNE_DATA")}
ENV |= {"UV_PYTHON_DOWNLOADS": "never", "UV_ONLY_BINARY": ":all:", "COLUMNS": "200"}
# The extras that need no GPU and no MPI library, each with the module that is imported for it. The others: cuda12 and
# cuda13, and mpi, whose oldest version has to be compiled and which is imported only where MPI is installed.
EXTRAS = {
    "images": "PIL.Image",
    "import": "safetensors.numpy",
    "onnx": "onnx",
    "parquet": "pyarrow.parquet",
    "fleet": "distributed",
}
NOT_LOCKED = ("fleet",)  # not in requirements.lock
RECORDS = ["--members", "60", "--reference", "60", "--nonmembers", "60"]
SMOKE = {  # a command: text that it must print
    "verify": "all checks passed",
    f"reproduce digits --seeds 1 {' '.join(RECORDS)} --out results": "results/report.html",
    "report results": "prune-0.1+minmax",
    "train digits --epochs 3 --out model.h5": "accuracy train",
    "prune model.h5 --keep 0.1 --iterations 2 --epochs 2 --retrain-epochs 2 --out pruned.h5": "compression 10.0x",
    "attack pruned.h5 --dense model.h5 --shadows 6 --report attack.html": "(non-adaptive)",
    "audit scores.csv --report audit.html": "confidence",
    "epsilon --records 60000 --batch 240 --noise 1.3 --epochs 15": "by PLD: 0.8336",
}
# The tests of features that depend on other packages: HDF5, plots, pages, the command line, accounting, images,
# safetensors, SciPy and NumPy. The other tests check our arithmetic and take minutes.
TESTS = ["accounting", "audit", "audit_report", "bounded", "checkpoint", "data", "files", "layers", "metrics", "model"]
TESTS += ["pack", "projection", "release", "report", "run", "statistics", "torchvision", "verify"]


class Failed(Exception):
    """A step failed."""


def main() -> None:
    """Run every step, then print the number of failed ones."""
    pythons, failed = sys.argv[1:] or [sys.executable], 0
    with tempfile.TemporaryDirectory(prefix="release-") as text:
        folder = pathlib.Path(text)
        failed += run("build", build(folder))
        if not failed:
            failed += run("lowest", environment(folder / "lowest", pythons[0], install_lowest, tested=True))
            for python in pythons:
                failed += run("newest", environment(folder / "newest", python, install_newest, tested=True))
                failed += run("locked", environment(folder / "locked", python, install_locked, tested=False))
    print(f"release check: {failed} failed" if failed else "release check: all passed")
    sys.exit(1 if failed else 0)


def run(name: str, steps: Iterable[str]) -> int:
    """Run the steps, one line each, until one fails. Returns the number of failures, 0 or 1."""
    try:
        for said in steps:
            print(f"pass  {name}: {said}", flush=True)
    except Failed as error:
        print(f"FAIL  {name}: {error}", flush=True)
        return 1
    return 0


def call(*words: object, cwd: pathlib.Path = ROOT, says: str = "") -> str:
    """The output of a command. Raises Failed, with the end of it, where the status is not 0 or `says` is not in it."""
    command = [str(word) for word in words]
    done = subprocess.run(
        command, cwd=cwd, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode or says not in done.stdout:
        wrong = f"status {done.returncode}" if done.returncode else f"did not say {says!r}"
        raise Failed(f"{' '.join(command)}: {wrong}\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return done.stdout


def uv(*words: object) -> str:
    """The output of uv from this interpreter's environment."""
    return call(sys.executable, "-m", "uv", *words)


# --- what is built ---------------------------------------------------------------------------------------------------


def build(folder: pathlib.Path) -> Iterable[str]:
    """Build sdist and wheel into folder/dist, and check them."""
    uv("build", "--quiet", "--out-dir", folder / "dist")  # the sdist, and the wheel from the sdist
    uv("build", "--quiet", "--wheel", "--out-dir", folder / "direct")
    wheel, source = built(folder)
    yield f"{source.name}, {source.stat().st_size:,} bytes; {wheel.name}, {wheel.stat().st_size:,} bytes"
    tracked = set(call("git", "ls-files").splitlines())
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    yield same("the sdist has the files that git tracks", names, tracked | {"PKG-INFO"})
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    package = {name for name in tracked if name.startswith("nanoprune/")}
    yield same("the wheel has the package and the digits alone", names, package | {"nanoprune/embedded/digits.h5"})
    if wheel.read_bytes() != (folder / "direct" / wheel.name).read_bytes():
        raise Failed("the wheel from the sdist is not the wheel from the checkout")
    yield "the wheel from the sdist is the wheel from the checkout, to the byte"
    call(sys.executable, "-m", "twine", "check", "--strict", wheel, source)
    yield "twine check --strict"


def built(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """The wheel and the sdist."""
    return next(folder.glob("dist/*.whl")), next(folder.glob("dist/*.tar.gz"))


def unpacked(folder: pathlib.Path, where: str, without: tuple[str, ...] = ()) -> pathlib.Path:
    """Unpack the sdist into a new folder, except for the folders `without`."""
    with tarfile.open(built(folder)[1]) as archive:
        inside = [member for member in archive if member.name.split("/")[1] not in without]
        archive.extractall(folder / where, inside, filter="data")
    return next((folder / where).iterdir())


def same(what: str, names: set[str], wanted: set[str]) -> str:
    """`what` and how many they are; Failed where two sets of names differ."""
    if names != wanted:
        raise Failed(f"not so: {what}: missing {sorted(wanted - names)}, stray {sorted(names - wanted)}")
    return f"{what}: {len(names)}"


# --- where it is installed -------------------------------------------------------------------------------------------


def environment(place: pathlib.Path, python: str, install: Callable, tested: bool) -> Iterable[str]:
    """Make an environment, install the wheel, and test it."""
    uv("venv", "--quiet", "--clear", "--seed", "--python", python, place)
    inside = place / ("Scripts" if os.name == "nt" else "bin")
    version = call(inside / "python", "-c", "import platform; print(platform.python_version())").strip()
    install(place.parent, inside / "python")
    oldest, extras = install is install_lowest, {**EXTRAS}
    for extra in NOT_LOCKED if install is install_locked else ():
        del extras[extra]
    yield f"Python {version}, {versions(inside / 'python', oldest, extras)}"
    call(inside / "python", "-W", "ignore", "-c", f"import {', '.join(extras.values())}")
    yield f"the modules of the extras {', '.join(extras)} are imported"
    with tempfile.TemporaryDirectory(prefix="outside-") as outside:
        yield from smoke(inside, pathlib.Path(outside))
    if tested:
        yield test(place.parent, inside / "python", oldest)


def install_lowest(folder: pathlib.Path, python: pathlib.Path) -> None:
    """Install the wheel with the oldest direct dependencies that pyproject.toml allows; test tools are the newest."""
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    lowest = folder / "lowest.txt"
    uv("pip", "compile", "--resolution", "lowest-direct", "--python", python, *extras, "-o", lowest, "pyproject.toml")
    install_newest(folder, python, "--constraint", lowest)


def install_newest(folder: pathlib.Path, python: pathlib.Path, *options: object) -> None:
    """Install the wheel with the newest dependencies for this interpreter, unless options say otherwise."""
    wheel = f"nanoprune[{','.join(EXTRAS)}] @ {built(folder)[0].as_uri()}"
    uv("pip", "install", "--python", python, wheel, "pytest", "hypothesis", *options)


def install_locked(folder: pathlib.Path, python: pathlib.Path) -> None:
    """Install with pip as docs/reliability.md describes."""
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    call(*pip, "--require-hashes", "-r", "requirements.lock")
    call(*pip, "--no-deps", ".", cwd=unpacked(folder, "source"))


def versions(python: pathlib.Path, oldest: bool, extras: Iterable[str]) -> str:
    """The installed versions of direct dependencies, and of those of the extras. With `oldest`, raises Failed where one
    is not its lower bound."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    found = dict(line.split("==") for line in uv("pip", "freeze", "--python", python).splitlines() if "==" in line)
    said = []
    for requirement in map(Requirement, asked):
        version = found[requirement.name]
        if oldest and not SpecifierSet(str(requirement.specifier).replace(">=", "==") + ".*").contains(version):
            raise Failed(f"{requirement} is not tested: {version} is the lowest version available here")
        said.append(f"{requirement.name} {version}")
    return ", ".join(said)


# --- whether it works ------------------------------------------------------------------------------------------------


def smoke(inside: pathlib.Path, outside: pathlib.Path) -> Iterable[str]:
    """Run the commands in SMOKE, each in the folder `outside`."""
    first = [30 + 7 * (i % 2) + i % 29 for i in range(400)]  # percent
    rows = (f"{i % 2},{i % 2},{p / 100},{(100 - p) / 100}" for i, p in enumerate(first))
    (outside / "scores.csv").write_text("\n".join(["label,member,p0,p1", *rows]) + "\n")
    for command, says in SMOKE.items():
        call(inside / "nanoprune", *command.split(), cwd=outside, says=says)
        yield f"nanoprune {command}"


def test(folder: pathlib.Path, python: pathlib.Path, oldest: bool) -> str:
    """Run the tests in TESTS, from the sdist, against the installed package."""
    source = unpacked(folder, f"tests-{python.parents[1].name}", without=("nanoprune",))
    options = ["-q", "-p", "no:cacheprovider", "--no-header"]
    options += ["-W", "ignore::DeprecationWarning"] if oldest else []  # old packages beside newer ones that they need
    said = call(python, "-m", "pytest", *options, *(f"tests/test_{name}.py" for name in TESTS), cwd=source)
    return said.splitlines()[-1].strip("= ")


if __name__ == "__main__":
    main()

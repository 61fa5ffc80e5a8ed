"""One file of answers, graded: which functions are right, which are empty, and what is wrong where."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import pathlib
import traceback
from collections.abc import Callable
from types import ModuleType
from typing import Any

from nanoprune.errors import ArgumentError
from nanoprune.lab.exercises.compare import Wrong
from nanoprune.lab.storage.text import printable

CHAPTERS = 12
FOLDER = pathlib.Path("book") / "exercises"
ROOT = pathlib.Path(__file__).parents[3]  # the repository, where the package is used from one


@dataclasses.dataclass(frozen=True)
class Exercise:
    """A function of the file by its name, and the check that calls it: it raises `Wrong` with what is wrong."""

    name: str
    check: Callable[[Callable[..., Any]], None]


@dataclasses.dataclass(frozen=True)
class Result:
    """state: "right", "empty" (nothing was written yet) or "wrong". message: what is wrong, "" where nothing is."""

    name: str
    state: str
    message: str = ""

    def line(self) -> str:
        mark = {"right": "right", "empty": "empty", "wrong": "WRONG"}[self.state]
        return f"{mark}  {self.name}{': ' if self.message else ''}{self.message}"


def report(chapter: int, path: pathlib.Path | None = None) -> tuple[list[str], bool]:
    """The lines that tell a reader how the file of a chapter stands, and whether everything is right."""
    path = path or find_file(chapter)
    results = grade(chapter, path)
    right = sum(result.state == "right" for result in results)
    lines = [result.line() for result in results]
    return [*lines, f"{right} of {len(results)} right in {printable(str(path))}"], right == len(results)


def grade(chapter: int, path: pathlib.Path) -> list[Result]:
    """Grade the file of a chapter. Raises ArgumentError on an unknown chapter, or a file that is not there."""
    exercises = of_chapter(chapter)
    if not path.is_file():
        raise ArgumentError(f"{path} is not there; name the file with your answers to chapter {chapter}")
    try:
        answers = load(path)
    except Exception as error:  # a reader's file may do anything; what it raises is the finding
        return [Result(exercise.name, "wrong", error_text(error, path)) for exercise in exercises]
    return [graded(exercise, answers, path) for exercise in exercises]


def graded(exercise: Exercise, answers: ModuleType, path: pathlib.Path) -> Result:
    function = getattr(answers, exercise.name, None)
    if not callable(function):
        return Result(exercise.name, "wrong", f"the file has no function {exercise.name}")
    try:
        exercise.check(function)
    except NotImplementedError:
        return Result(exercise.name, "empty", "write it in place of raise NotImplementedError")
    except Wrong as wrong:
        return Result(exercise.name, "wrong", str(wrong))
    except Exception as error:  # as above
        return Result(exercise.name, "wrong", error_text(error, path))
    return Result(exercise.name, "right")


def error_text(error: Exception, path: pathlib.Path) -> str:
    """An error in one line, with the last line of the reader's file that it came from."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path.resolve())]
    line = own[-1].lineno if own else getattr(error, "lineno", None)
    where = f"line {line}: " if line else ""
    return printable(f"{where}{type(error).__name__}: {error}", 500)


def of_chapter(chapter: int) -> tuple[Exercise, ...]:
    """The exercises of a chapter, in its order. Raises ArgumentError where there is no such chapter."""
    if not 1 <= chapter <= CHAPTERS:
        raise ArgumentError(f"chapter must lie in 1..{CHAPTERS}, got {chapter}")
    return importlib.import_module(f"nanoprune.lab.exercises.chapters.ch{chapter:02d}").EXERCISES


def find_file(chapter: int) -> pathlib.Path:
    """The exercises of a chapter below the working directory, or else in the repository."""
    of_chapter(chapter)
    for folder in (FOLDER, ROOT / FOLDER):
        for path in sorted(folder.glob(f"{chapter:02d}_*.py")):
            return path
    raise ArgumentError(f"no {FOLDER}/{chapter:02d}_*.py here; run from the repository, or name the file")


def load(path: pathlib.Path) -> ModuleType:
    """The reader's own file as a module."""
    spec = importlib.util.spec_from_file_location(f"answers_{path.stem}", path.resolve())
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

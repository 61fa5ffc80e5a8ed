"""The exercises of the book: every answer passes, every empty hole fails, a wrong answer is told where it is wrong."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import cli
from nanoprune.errors import ArgumentError
from nanoprune.lab.exercises import __main__ as program
from nanoprune.lab.exercises import find_file, grade, report
from nanoprune.lab.exercises.compare import Wrong, derivative, parts, same, untouched
from nanoprune.lab.exercises.grading import CHAPTERS, of_chapter

BOOK = pathlib.Path(__file__).parents[1] / "book"
NUMBERS = range(1, CHAPTERS + 1)


def file(folder: str, chapter: int) -> pathlib.Path:
    (path,) = (BOOK / folder).glob(f"{chapter:02d}_*.py")
    return path


def states(chapter: int, path: pathlib.Path) -> list[tuple[str, str]]:
    return [(result.state, result.message) for result in grade(chapter, path)]


@pytest.mark.parametrize("chapter", NUMBERS)
def test_every_answer_passes(chapter):
    assert {state for state, _ in states(chapter, file("solutions", chapter))} == {"right"}
    lines, passed = report(chapter, file("solutions", chapter))
    assert passed
    assert lines[-1].startswith(f"{len(of_chapter(chapter))} of {len(of_chapter(chapter))} right")


@pytest.mark.parametrize("chapter", NUMBERS)
def test_every_empty_hole_fails(chapter):
    assert {state for state, _ in states(chapter, file("exercises", chapter))} == {"empty"}
    assert not report(chapter, file("exercises", chapter))[1]
    assert find_file(chapter).resolve() == file("exercises", chapter)


@pytest.mark.parametrize("chapter", NUMBERS)
@pytest.mark.parametrize("answer", ["0.0", "None", "'text'", "(0.0, 0.0)", "(0.0, 0.0, 0.0)", "args[0]"])
def test_no_constant_passes(chapter, answer, tmp_path):
    """Whatever is returned without looking at the question is wrong, with a message, and without a traceback."""
    path = tmp_path / "mine.py"
    names = [exercise.name for exercise in of_chapter(chapter)]
    path.write_text(
        "\n".join(f"def {name}(*args): return {answer.replace('args[0]', 'args and args[0]')}" for name in names)
    )
    for state, message in states(chapter, path):
        assert state == "wrong"
        assert message
        assert "\n" not in message


@pytest.mark.parametrize("chapter", NUMBERS)
def test_each_chapter_has_two_or_three_exercises_that_its_text_and_its_files_name(chapter):
    names = [exercise.name for exercise in of_chapter(chapter)]
    assert len(names) in (2, 3)
    for folder in ("chapters", "exercises", "solutions"):
        text = file(folder, chapter).read_text("utf-8")
        assert all(name in text for name in names), folder
    assert {f.stem for f in (BOOK / "chapters").glob("*.py")} == {f.stem for f in (BOOK / "exercises").glob("*.py")}


def test_a_wrong_entry_is_named(tmp_path):
    path = tmp_path / "mine.py"
    text = file("solutions", 1).read_text("utf-8").replace("dY.sum(axis=1)", "dY.sum(axis=1) * [1, 1, 2]")
    path.write_text(text.replace("dY * (1 - Y**2)", "dY * (1 - Y)"))
    dense, central, tanh = grade(1, path)
    assert dense.state == "wrong"
    assert dense.message.startswith("db[2] is ")
    assert "expected" in dense.message
    assert central.state == "right"
    assert tanh.message.startswith("dX[0, 0] is ")


@pytest.mark.parametrize("chapter", NUMBERS)
def test_several_values_may_come_as_a_list(chapter, tmp_path):
    path = tmp_path / "mine.py"
    text = file("solutions", chapter).read_text("utf-8")
    for exercise in of_chapter(chapter):
        text += f"\n\ndef listed(*args, f={exercise.name}):\n    found = f(*args)\n"
        text += f"    return list(found) if isinstance(found, tuple) else found\n\n\n{exercise.name} = listed\n"
    path.write_text(text)
    assert {state for state, _ in states(chapter, path)} == {"right"}


@pytest.mark.parametrize(
    ("chapter", "name", "wrong", "message"),
    [
        (2, "momentum_step", "return theta - rate * (m * V + g)", "return 2 values, theta and V; got ndarray"),
        (2, "momentum_step", "return theta - rate * (m * V + g), V", "V after step 1[0] is "),
        (8, "masked_step", "return W - rate * (m * V + mask * g), V", "V after step 1[0] is "),
        (8, "masked_step", "return W - rate * mask * (m * V + g), m * V + g", "V after step 1[1] is "),
        (8, "masked_step", "return W - rate * (m * V + mask * g), None", "V after step 1 is None; "),
    ],
)
def test_each_returned_value_is_checked(chapter, name, wrong, message, tmp_path):
    path = tmp_path / "mine.py"
    parameters = {"momentum_step": "theta, V, g, rate, m", "masked_step": "W, V, g, mask, rate, m"}[name]
    path.write_text(f"def {name}({parameters}):\n    {wrong}\n")
    (found,) = (result for result in grade(chapter, path) if result.name == name)
    assert found.message.startswith(message)


def test_an_answer_that_raises_is_told_with_its_line(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def lower(X, k):\n    X = X[:1]\n    return X / nothing\n")
    lower, fold, _ = grade(3, path)
    assert lower.message.startswith("line 3: NameError: ")
    assert fold.message == "the file has no function fold"
    path.write_text("def lower(X, k):\n    return (\n")
    assert {r.message[:20] for r in grade(3, path)} == {"line 2: SyntaxError:"}


def test_an_argument_that_is_changed_is_told(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def nearest_sparse(W, k):\n    W[abs(W) < sorted(abs(W))[-k or -1]] = 0\n    return W\n")
    assert "changed in place" in grade(6, path)[0].message


def test_unknown_chapters_and_files_are_refused(tmp_path, monkeypatch):
    for chapter in (0, CHAPTERS + 1):
        with pytest.raises(ArgumentError, match="chapter must lie in"):
            find_file(chapter)
    with pytest.raises(ArgumentError, match="not there"):
        grade(1, tmp_path / "none.py")
    monkeypatch.setattr("nanoprune.lab.exercises.grading.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError, match="run from the repository"):
        find_file(1)


def test_the_commands(tmp_path):
    """Exit status 0 where all is right, 1 where something is not, 2 where the question makes no sense."""
    right, empty = (str(file(folder, 6)) for folder in ("solutions", "exercises"))
    for path, status in ((right, 0), (empty, 1)):
        found = CliRunner().invoke(cli.main, ["learn", "check", "6", path])
        assert found.exit_code == status
        assert program.main(["check", "6", path]) == status
    assert "nearest_filters" in found.output
    assert program.main(["check", "6", str(tmp_path / "none.py")]) == 2
    for words in ([], ["check"], ["check", "six"], ["solve", "6"], ["check", "99"]):
        assert program.main(words) == 2
    module = [sys.executable, "-m", "nanoprune.lab.exercises", "check", "6", right]
    assert (
        subprocess.run(module, capture_output=True, text=True, cwd=BOOK.parent, check=True).stdout.count("right  ") == 3
    )


def test_parts_says_what_was_returned():
    assert parts([1, 2], "a", "b") == parts((1, 2), "a", "b") == [1, 2]
    for found, got in ((None, "NoneType"), (np.zeros(2), "ndarray"), ((1, 2, 3), "3")):
        with pytest.raises(Wrong, match=f"return 2 values, a and b; got {got}"):
            parts(found, "a", "b")


def test_same_says_what_is_wrong():
    for got, message in (
        (None, "does the function return it"),
        ([1.0], "shape"),
        ([1.0, np.nan], r"v\[1\]"),
        ("text", "must be numbers"),
        ([1.0, 2.1], r"v\[1\] is 2.1, expected 2 \(1 of 2"),
    ):
        with pytest.raises(Wrong, match=message):
            same(got, [1.0, 2.0], "v")
    same([1.0, 2.0 + 1e-12], [1.0, 2.0], "v")


def test_the_oracles_themselves():
    np.testing.assert_allclose(derivative(lambda x: float((x**3).sum()), np.array([1.0, -2.0])), [3, 12], rtol=1e-8)
    with pytest.raises(Wrong, match="argument 2"):
        untouched(lambda a, b: b.sort(), np.zeros(2), np.array([2.0, 1.0]))

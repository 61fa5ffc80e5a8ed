"""The pages of the repository: links, named files and commands exist."""

import doctest
import pathlib
import re
import shlex

import click
import pytest

from nanoprune.lab.commands import main

ROOT = pathlib.Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "data").glob("*.md")])
PAGES += sorted((ROOT / "benchmarks").glob("*.md"))
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]  # a changelog names what was there then
NAMED = r"(?<![\w/.-])((?:nanoprune|tests|tools|docs|benchmarks|data)/[\w/.*-]*[\w*])"
MADE = {"benchmarks/results.json"}  # named, and made by a command
PLACEHOLDER = re.compile(r"\.\.\.|[A-Z]+(?:\.\w+)?")  # DATASET, FILE.safetensors


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, without punctuation, hyphens for spaces."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: pathlib.Path) -> set[str]:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_relative_to(ROOT), f"{name_of(page)} links out of the repository: {target}"
        assert linked.exists(), f"{name_of(page)} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{name_of(page)} links to {target}: no such heading"


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_named_files_exist(page):
    for name in set(re.findall(NAMED, page.read_text("utf-8"))) - MADE:
        where = ROOT / "data" / name if page.parent.name == "data" else ROOT / name
        assert list(ROOT.glob(name)) or where.exists(), f"{name_of(page)} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_path_leads_out_of_the_repository(page):
    found = re.findall(r"(?<![\w.:/~])(?:~|\.\.|/(?:home|root|tmp|work|usr|mnt))/[\w.-]+", page.read_text("utf-8"))
    assert [path for path in found if not (page.parent / path).exists()] == []


def commands(page: pathlib.Path) -> list[str]:
    """The commands that a page shows, in blocks and in backticks, each in one line, without comments."""
    text = re.sub(r"\\\n\s*", " ", page.read_text("utf-8"))
    shown = [line for line in text.splitlines() if re.match(r"    (python cli\.py|nanoprune) \S", line)]
    shown += [re.sub(r"\s+", " ", code) for code in re.findall(r"`((?:python cli\.py|nanoprune) [^`]+)`", text)]
    return [re.sub(r"\s+#.*$", "", line).strip() for line in shown]


def check_command(line: str) -> None:
    """Raises click's UsageError where the command line would not accept the command; files need not exist."""
    words = shlex.split(line.removeprefix("python cli.py").removeprefix("nanoprune"))
    command, context = main, click.Context(main)
    while isinstance(command, click.Group):
        name, inner, words = command.resolve_command(context, words)
        command, context = inner, click.Context(inner, parent=context, info_name=name)
    if words == ["..."]:
        return
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    assert rest == [], f"too many arguments: {rest}"
    for parameter in command.params:
        given = values.get(parameter.name)
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, str) and not PLACEHOLDER.fullmatch(value) and not is_file(parameter):
                parameter.type.convert(value, parameter, context)


def is_file(parameter: click.Parameter) -> bool:
    return isinstance(parameter.type, (click.Path, click.File))


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_commands_are_taken(page):
    for line in commands(page):
        try:
            check_command(line)
        except click.UsageError as error:
            pytest.fail(f"{name_of(page)}: {line}: {error.format_message()}")


def test_commands_that_do_not_exist_are_found():
    """The check itself: it finds wrong commands, options and values, and the pages show many commands."""
    assert sum(len(commands(page)) for page in CURRENT) > 30
    for wrong in ("python cli.py trian mnist", "python cli.py train mnist --oot m.h5", "python cli.py info a b c"):
        with pytest.raises((click.UsageError, AssertionError)):
            check_command(wrong)
    with pytest.raises(click.UsageError):
        check_command("python cli.py reproduce digits --seeds many")


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 130


@pytest.mark.parametrize("page", sorted(path.stem for path in (ROOT / "docs").glob("*.md")))
def test_every_page_is_in_the_book_and_linked_from_the_readme(page):
    """The build of the book refuses a page that no list of pages has; it is slow, so that this says so first."""
    assert f"../docs/{page}\n" in (ROOT / "book" / "index.md").read_text("utf-8")
    assert f"(docs/{page}.md" in (ROOT / "README.md").read_text("utf-8")


def example(page: str) -> dict:
    """The names of the page's example in Python after it has run."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL)
    names: dict = {}
    exec(code, names)
    return names


def test_the_readmes_example_runs(capsys):
    names = example("README.md")
    dense, small = (names[name].model_.net for name in ("model", "small"))
    assert small.nonzero()[0] == dense.weight_count // 20
    assert dense.nonzero()[0] > 0.99 * dense.weight_count
    assert "pruned" in capsys.readouterr().out


def test_the_example_of_the_core_runs():
    names = example("docs/python.md")
    assert (names["net"].nonzero() <= sum(names["budget"].k[0])).all()


def test_the_session_of_the_python_page_is_as_shown():
    failed, tried = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert (failed, tried > 8) == (0, True)

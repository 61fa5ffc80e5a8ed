"""Reference pages made from the objects themselves: {api} of a module's public names, {commands} of click's help."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from types import ModuleType

import click
from docutils import nodes
from docutils.statemachine import StringList
from sections import markdown
from sphinx.util.docutils import SphinxDirective


def public(module: ModuleType) -> list[tuple[str, object]]:
    """The classes and functions that a package exports, or that a module defines, in the order of their names."""
    package = hasattr(module, "__path__")
    found = []
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "") or ""
        of_module = own == module.__name__ or (package and own.startswith(module.__name__ + "."))
        if not name.startswith("_") and of_module and (inspect.isclass(value) or inspect.isroutine(value)):
            found.append((name, value))
    return sorted(found, key=lambda pair: (not inspect.isclass(pair[1]), pair[0].lower()))


def signature(value: object) -> str:
    """Parameters without types, which the docstrings tell with shapes; "" where there is nothing to say."""
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return "()"
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def methods(value: object) -> list[tuple[str, object]]:
    """The public methods and properties that a class documents itself."""
    if not inspect.isclass(value) or dataclasses.is_dataclass(value) or issubclass(value, Exception):
        return []
    return [(name, of) for name, of in vars(value).items() if not name.startswith("_") and inspect.getdoc(of)]


def entry(kind: str, name: str, value: object, depth: int = 5) -> list[str]:
    """One object in the Markdown of MyST's directives of the Python domain."""
    inside = [f"{':' * depth}{{py:{kind}}} {name}{'' if kind == 'property' else signature(value)}", ""]
    inside += markdown(inspect.getdoc(value) or "")
    for inner, of in methods(value):
        kind = "property" if isinstance(of, property) else "method"
        if kind == "property" or inspect.isroutine(of):
            inside += ["", *entry(kind, inner, of, depth - 1)]
    return [*inside, ":" * depth, ""]


class Api(SphinxDirective):
    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        module = importlib.import_module(self.arguments[0])
        self.env.note_dependency(module.__file__)
        lines = [":::::::{py:module} " + module.__name__, ":::::::", "", *markdown(inspect.getdoc(module) or ""), ""]
        for name, value in public(module):
            lines += entry("class" if inspect.isclass(value) else "function", name, value)
        page = nodes.container()
        self.state.nested_parse(StringList(lines, module.__file__), 0, page)
        return page.children


class Commands(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        from nanoprune.lab.commands import main

        return self.sections(main, "python cli.py", None)

    def sections(self, command: click.Command, name: str, parent: click.Context | None) -> list[nodes.Node]:
        """A section for a command, and those of its own commands."""
        context = click.Context(command, info_name=name, parent=parent, max_content_width=100, terminal_width=100)
        title = context.command_path
        section = nodes.section(ids=[nodes.make_id(title.removeprefix("python "))])
        help_text = command.get_help(context)
        section += [nodes.title(title, title), nodes.literal_block(help_text, help_text, language="text")]
        found: list[nodes.Node] = [section]
        for inner in sorted(getattr(command, "commands", {})):
            found += self.sections(command.commands[inner], inner, context)
        return found


def setup(app) -> dict:
    app.add_directive("api", Api)
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The directive `command-line`: commands and options of a Typer app, from the app itself.

A command is a section with its name as anchor, as #models-fetch. An option has the anchor #COMMAND-OPTION, as #run-gpus, and is
also an `option` of Sphinx, which the search lists by its name.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import typer
from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.typing import ExtensionMetadata

ARGUMENTS, OPTIONS = "Arguments", "Options"  # panels of parameters without one, as `--help` names them
EXAMPLE = "Example: "
CODE = re.compile(r"(?<![\w/-])(--?[a-z][\w-]*(?:[ =](?:[A-Z]+|\d\S*\b))?|\$[A-Z_]+|\{\w+\})")  # flags, variables, tokens


class CommandLine(SphinxDirective):
    """Sections for a Typer app, given as `module:name`, and for each of its commands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the sections."""
        module, _, name = self.arguments[0].partition(":")
        app: typer.Typer = getattr(importlib.import_module(module), name)
        group: Any = typer.main.get_command(app)
        return [self._section(path, command) for path, command in _walk(group, (group.name,))]

    def _section(self, path: tuple[str, ...], command: Any) -> nodes.section:
        """Return the section of a command: its usage, its help, and a list of parameters for each panel of its `--help`."""
        title = " ".join(path[1:] or path)
        section = nodes.section("", nodes.title("", title), names=[_anchor(title)], ids=[_anchor(title)])
        self.state.document.note_explicit_target(section, section)
        context = typer.Context(command, info_name=" ".join(path))
        section += _code(command.get_usage(context).removeprefix("Usage: "))
        for text in (command.help or "").split("\n\n"):
            intro, _, example = text.partition(EXAMPLE)
            section += nodes.paragraph("", "", *_inline(intro or "Example:"))
            section += [_code(example)] if example else []
        for panel, parameters in _panels(command, context):
            section += nodes.rubric("", panel)
            section += [self._parameter(path, parameter, context) for parameter in parameters]
        if commands := _shown(command):
            section += nodes.rubric("", "Commands")
            section += _list_of(commands, path[1:])
        return section

    def _parameter(self, path: tuple[str, ...], parameter: Any, context: typer.Context) -> addnodes.desc:
        """Return the description of an argument or option: its names, its help, its values, default and variable."""
        names, text = parameter.get_help_record(context)
        is_option = parameter.param_type_name == "option"
        option = next((name for name in parameter.opts if name.startswith("--")), parameter.name) if is_option else parameter.name
        anchor = _anchor(*path[1:], option) if path[1:] else _anchor(*path, option)
        name, _, kind = names.partition(f" {parameter.metavar if is_option and parameter.metavar else '<'}")
        kind = names.removeprefix(name)
        signature = addnodes.desc_signature("", "", addnodes.desc_name("", name), ids=[anchor], names=[anchor])
        if kind:
            signature += addnodes.desc_addname("", kind)
        self.state.document.note_explicit_target(signature, signature)
        if is_option:
            for spelling in parameter.opts:
                self.env.domains.standard_domain.add_program_option(" ".join(path), spelling, self.env.docname, anchor)
        content = addnodes.desc_content("", nodes.paragraph("", "", *_inline(parameter.help or "")))
        if facts := text.removeprefix(parameter.help or "").strip(" []"):
            content += nodes.paragraph("", "", *_facts(facts), classes=["facts"])
        return addnodes.desc("", signature, content, domain="std", objtype="option", desctype="option", no_index=False)


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield each command and group with its words, in the order of `--help`."""
    yield path, command
    for name, inner in _shown(command).items():
        yield from _walk(inner, (*path, name))


def _shown(command: Any) -> dict[str, Any]:
    """Return the commands of a group that its `--help` lists, by name; none of a command."""
    return {name: inner for name, inner in getattr(command, "commands", {}).items() if not inner.hidden}


def _list_of(commands: dict[str, Any], path: tuple[str, ...]) -> nodes.definition_list:
    """Return links to the sections of a group's commands, with what each is for."""
    items = nodes.definition_list()
    for name, command in commands.items():
        title = " ".join((*path, name))
        link = nodes.reference("", "", nodes.literal("", title), internal=True, refid=_anchor(title))
        purpose = nodes.paragraph("", "", *_inline((command.help or "").partition("\n\n")[0]))
        items += nodes.definition_list_item("", nodes.term("", "", link), nodes.definition("", purpose))
    return items


def _panels(command: Any, context: typer.Context) -> list[tuple[str, list[Any]]]:
    """Return the panels of a command's `--help`, in its order, with their parameters."""
    panels: dict[str, list[Any]] = {ARGUMENTS: [], OPTIONS: []}
    for parameter in command.get_params(context):
        if not parameter.hidden and parameter.name != "help":
            default = ARGUMENTS if parameter.param_type_name == "argument" else OPTIONS
            panels.setdefault(parameter.rich_help_panel or default, []).append(parameter)
    return [(panel, parameters) for panel, parameters in panels.items() if parameters]


def _facts(text: str) -> Iterator[nodes.Node]:
    """Yield the words and values of a help's ending, as `default: auto; required`."""
    for number, fact in enumerate(text.split("; ")):
        name, _, value = fact.partition(": ")
        name = {"env var": "Environment variable", "default": "Default", "required": "Required"}.get(name, "")
        yield nodes.Text((". " if number else "") + (name if value or name else "Values") + (": " if value or not name else ""))
        if value or not name:
            yield nodes.literal("", value or fact)


def _inline(text: str) -> Iterator[nodes.Node]:
    """Yield a text's nodes: flags, variables and tokens are code."""
    for number, piece in enumerate(CODE.split(text)):
        yield nodes.literal("", piece) if number % 2 else nodes.Text(piece)


def _code(text: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language="text")


def _anchor(*words: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", " ".join(words).lower()).strip("-")


def setup(app: Sphinx) -> ExtensionMetadata:
    """Declare the directive."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

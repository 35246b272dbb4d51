"""Write docs/cli.md from the commands themselves; ``--check`` fails where the file is not what would be written.

Markdown made from the commands' parameters, not from their printed help: how that is drawn differs between versions of
the libraries that draw it.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TARGET = Path(__file__).with_name("cli.md")
INTRODUCTION = """\
# The command line

Made by `make docs` from the commands themselves; do not edit. Data goes to stdout, progress and notes to stderr. Exit
codes: 0, 1 failure, 2 usage, 130 Ctrl-C, 143 SIGTERM. What a flag does not say is taken from its `RETINO_*` variable,
then from the recipe, then from the default. `retino --debug COMMAND ...` shows a traceback for an error.
"""


def render() -> str:
    """The whole document."""
    for name in [name for name in os.environ if name.startswith("RETINO_")]:
        del os.environ[name]  # defaults are shown as they are where no variable is set
    import typer.main

    from retino_cli.cli.app import app

    return "\n".join([INTRODUCTION, *_sections("retino", typer.main.get_command(app))])


def _sections(name: str, command: Any) -> Iterator[str]:
    for child_name, child in getattr(command, "commands", {}).items():
        if hasattr(child, "commands"):
            yield from _sections(f"{name} {child_name}", child)
        else:
            yield f"## {name} {child_name}\n\n{inspect.cleandoc(child.help or '')}\n\n{_parameters(child)}"


def _parameters(command: Any) -> str:
    rows = ["| | what | default | variable |", "|---|---|---|---|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        names = " / ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        if parameter.param_type_name == "argument":
            names = f"`{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}`"
        choices = f" One of {parameter.metavar.replace('|', ', ')}." if "|" in (parameter.metavar or "") else ""
        variable = f"`{parameter.envvar}`" if parameter.envvar else ""
        rows.append(f"| {names} | {parameter.help or ''}{choices} | {_default(parameter)} | {variable} |")
    return "\n".join(rows) + "\n"


def _default(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "required" if parameter.required else ""
    if isinstance(parameter.show_default, str):
        return str(parameter.show_default)
    if parameter.default is None or parameter.default is False:
        return "off" if parameter.default is False else ""
    return f"`{parameter.default}`"


def main() -> int:
    text = render()
    if "--check" not in sys.argv:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text:
        return 0
    sys.stderr.write("docs/cli.md is not what the commands say. Write it with: make docs\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

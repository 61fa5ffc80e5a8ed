"""Completion of commands, options and names in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from nanoprune.errors import ArgumentError
from nanoprune.lab.commands.console import Command
from nanoprune.lab.commands.options import EPILOG

HELP = """Print a script with which SHELL (bash, zsh or fish) completes commands, options and names of `nanoprune`.

\b
eval "$(nanoprune completion bash)"             in ~/.bashrc
eval "$(nanoprune completion zsh)"              in ~/.zshrc
nanoprune completion fish | source              in ~/.config/fish/config.fish
"""


@click.command(cls=Command, help=HELP, epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    of = get_completion_class(shell)
    if of is None:
        raise ArgumentError(f"shell must be bash, zsh or fish, got {shell!r}")
    script = of(context.find_root().command, {}, "nanoprune", "_NANOPRUNE_COMPLETE")
    click.echo(script.source_template % script.source_vars())  # without `source`, which asks bash for its version

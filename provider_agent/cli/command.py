# SPDX-License-Identifier: Apache-2.0
"""A command of the agent: an expected error is one line and an exit code; a bug is neither."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NoReturn

import click

from teraproof.cli.told import expected, line_of
from teraproof.errors import TeraproofError

#: Where a command's settings are.
settings_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("provider.toml"),
    show_default=True,
    help="Settings file.",
)


class AgentCommand(click.Command):
    """Tells its errors while the values of its options are known."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except (TeraproofError, OSError) as error:
            tell(ctx, error)


def tell(ctx: click.Context, error: BaseException) -> NoReturn:
    """Print the line of an expected error and leave with its code; raise any other again."""
    known = expected(error)
    if known is None:
        raise error
    from provider_agent.settings import PREFIX

    variables = {name: value for name, value in os.environ.items() if name.startswith(PREFIX)}
    click.echo(f"error: {line_of(known, variables)}", err=True)
    ctx.exit(int(known.code.exit))

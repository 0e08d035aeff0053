# SPDX-License-Identifier: Apache-2.0
"""The line that a person reads of an expected error, and the code that says its kind.

A file that cannot be used is named with the option, or the variable of the environment, that named
it: people forget what they have exported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from teraproof.errors import RemoteError, TeraproofError, is_of_file, of_file
from teraproof.protocol.errors import Code

STOPPED = "stopped; run the same command again to go on"

Told = tuple[str, Code]


def expected(error: BaseException) -> TeraproofError | None:
    """The error that is meant for people, also for a file that cannot be used; None for others."""
    if isinstance(error, TeraproofError):
        return error
    return of_file(error) if isinstance(error, OSError) and is_of_file(error) else None


def told_of(error: BaseException) -> Told | None:
    """The line and the code of an expected error; None for any other."""
    known = expected(error)
    if known is not None:
        return line_of(known), known.code
    if isinstance(error, KeyboardInterrupt):
        return STOPPED, Code.INTERRUPTED
    if isinstance(error, click.Abort):
        return STOPPED, Code.DECLINED
    return None


def line_of(error: TeraproofError, variables: Mapping[str, str] | None = None) -> str:
    """The line of an error, with what named the file that it is about: an option or a variable of
    the command that runs, or one of these `variables`.
    """
    line, path = str(error), error.details.get("path")
    if path is None or isinstance(error, RemoteError):  # another machine's files
        return line
    named = _named_by(Path(str(path))) or _named_in(Path(str(path)), variables or {})
    return line if named is None or line.startswith(named) else f"{named}: {line}"


def _named_by(path: Path) -> str | None:
    context = click.get_current_context(silent=True)
    if context is None:
        return None
    for param in context.command.params:
        value = context.params.get(param.name or "")
        if not isinstance(param, click.Option) or not isinstance(value, Path):
            continue
        if not _same(value, path):
            continue
        source = context.get_parameter_source(param.name or "")
        if source is click.core.ParameterSource.COMMANDLINE:
            return str(param.opts[0])
        if source is click.core.ParameterSource.ENVIRONMENT:
            return str(param.envvar)
    return None


def _named_in(path: Path, variables: Mapping[str, str]) -> str | None:
    return next(
        (name for name, value in variables.items() if value and _same(Path(value), path)), None
    )


def _same(named: Path, path: Path) -> bool:
    """Whether a path is the named one, is in it, or is a directory that it would be in."""
    given, found = named.absolute(), path.absolute()
    return given == found or given in found.parents or found in given.parents

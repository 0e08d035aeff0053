# SPDX-License-Identifier: Apache-2.0
"""Every command that a document shows exists, with the options that it is shown with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from provider_agent.cli.main import main as agent
from teraproof.cli.main import main as market

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "operations" / "README.md"]
    + [page for page in (ROOT / "docs").glob("*.md") if page.name != "faults.md"]
)
# Ape adds these to the same commands.
OF_APE = {"--network", "--account"}
# Scripts that are Ape's alone, and no part of the SDK.
ALONE = {"deploy", "demo"}
PROGRAM = re.compile(
    r"(?:^|(?<=[\s`(]))(?:~/teraproof/bin/|/opt/teraproof/bin/|\.venv/bin/)?"
    r"(teraproof|provider-agent|ape run)((?: +[^\s`]+| +'[^']*'| +\"[^\"]*\")*)"
)


def commands(text: str) -> Iterator[str]:
    """The command lines of a page: of its code blocks and of its inline code."""
    text = re.sub(r"\\\n\s*", " ", text)
    for number, part in enumerate(re.split(r"^```.*$", text, flags=re.M)):
        lines = part.splitlines() if number % 2 else re.findall(r"`([^`]+)`", part)
        for line in lines:
            # What a line explains stands after two spaces.
            yield " ".join(re.split(r"(?<=\S) {2,}", line.strip())[0].split())


def shown(page: Path) -> Iterator[tuple[str, list[str]]]:
    """(program, words) of every command of ours on a page."""
    for line in commands(page.read_text()):
        found = PROGRAM.match(line)
        if found:
            yield found.group(1), found.group(2).split()


def look_up(program: str, words: list[str]) -> str:
    """What is wrong with a command line; empty when nothing is."""
    words = [word.strip("'\",;") for word in words]
    if program == "ape run" and words[:1] and words[0] in ALONE:
        return ""
    command: click.Command = agent if program == "provider-agent" else market
    context = click.Context(command)
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "<", "...")):
        name = rest.pop(0)
        inner = command.get_command(context, name)
        if inner is None:
            return f"no command {name}"
        command, context = inner, click.Context(inner, parent=context)
    default = getattr(command, "default", None)
    if isinstance(command, click.Group) and default:  # what it runs where no command is named
        command = command.get_command(context, default) or command
    known = {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
    known |= {"--help"} | (OF_APE if program == "ape run" else set())
    if isinstance(command, click.Group):
        known |= {"--version"}
    options = [word for word in rest if re.match(r"--[a-z]", word)]
    unknown = [word for word in options if word.split("=")[0] not in known]
    return f"no option {unknown[0]} of {' '.join(words[:2])}" if unknown else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page__shows_commands_that_exist(page: Path) -> None:
    faults = [
        f"{program} {' '.join(words)}: {fault}"
        for program, words in shown(page)
        if (fault := look_up(program, words))
    ]
    assert not faults, "\n".join(faults)


def test_readme__shows_many_commands() -> None:
    assert len(list(shown(ROOT / "README.md"))) > 30


@pytest.mark.parametrize(
    "line",
    [
        "teraproof job pst x",
        "provider-agent run --adopt-nonce",
        "ape run provider stake 5 --networks x",
    ],
)
def test_command_that_does_not_exist__found(line: str) -> None:
    match = PROGRAM.match(line)
    assert match and look_up(match.group(1), match.group(2).split())

# SPDX-License-Identifier: Apache-2.0
"""`provider-agent sandbox`: how this machine would contain jobs, without any settings."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from provider_agent.errors import RunnerError
from provider_agent.runners import containment
from provider_agent.runners.docker.engine import SOCKET
from provider_agent.runners.docker.runner import DockerRunner
from provider_agent.runners.sandbox import find


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--docker", is_flag=True, help="Try Docker Engine for leases: needs root, seconds.")
@click.option(
    "--docker-socket", type=click.Path(path_type=Path), default=SOCKET, help="Where it listens."
)
def sandbox(as_json: bool, docker: bool, docker_socket: Path) -> None:
    """Say how this machine would keep jobs to themselves: walls, memory, disk.

    Exits with 0 whatever it finds; `provider-agent check` tries it with your settings. With
    `--docker` a small lease is run and tries to get out; a wrong finding is an error then.
    """
    if docker:
        with tempfile.TemporaryDirectory(prefix="teraproof-") as place:
            line = DockerRunner(Path(place), "sandbox", socket=docker_socket).check()
        click.echo(json.dumps({"docker": line}) if as_json else line)
        return
    try:
        find()
        missing = ""
    except RunnerError as error:
        missing = str(error)
    found = containment.of_this_machine("none" if missing else "bubblewrap")
    if as_json:
        accept = "" if found.holds else containment.ACCEPTED
        click.echo(json.dumps({**found.to_json(), "holds": found.holds, "accept": accept}))
        return
    click.echo(found)
    if missing:
        click.echo(f"note: {missing}")
    if not found.holds:
        click.echo("note: the limits of jobs do not hold here (docs/operations.md, Sandbox)")

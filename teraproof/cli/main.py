# SPDX-License-Identifier: Apache-2.0
"""`teraproof job | lease | provider | models | gateway | ...`: the commands without Ape."""

from __future__ import annotations

import contextlib
from importlib import import_module

import click

from teraproof.cli.frame import Command, Group, bind, bind_one
from teraproof.cli.keyhost import PROGRAM, KeyHost

# Known without importing them: --help answers at once.
_GROUPS = {
    "job": "Post jobs, watch them, fetch results.",
    "lease": "Rent by the second: check files of Akash's SDL, hire, watch, top up, close.",
    "dispute": "Dispute a result: jurors run the job again; appeal, claim, look.",
    "provider": "Register a provider, stake, unstake, withdraw, look.",
    "models": "Show the models on offer: prices, context, hosts.",
    "gateway": "A local endpoint of OpenAI's API that pays the hosts of models.",
    "channel": "Take back deposits for models: list, refund, withdraw, finalize.",
    "juror": "Take seats in juries, give them up, see who has them.",
    "proof": "Look at proofs; open, close and draw epochs; report failures; settle; release bonds.",
    "rewards": "Look at rewards for proven throughput, claim them into the pool.",
    "tokens": "Send stake, mint test dollars.",
    "storage": "Fetch and send files by URI and sha256.",
    "checkpoint": "Save a directory at intervals, list what was saved, go on from it.",
    "key": "Make a key file, show its address.",
}


class _Root(Group):
    """Imports a group when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which people need them."""
        return list(_GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The group, bound to key files."""
        if name not in _GROUPS:
            return None
        found = import_module(f"teraproof.cli.{name}").cli
        if isinstance(found, Command):
            return bind_one(found, KeyHost())
        return bind(found, KeyHost())

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the list above."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_GROUPS.items()))


def _version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import PackageNotFoundError, version

    shown = "from a checkout"
    with contextlib.suppress(PackageNotFoundError):
        shown = version("teraproof")
    click.echo(f"{PROGRAM} {shown}")
    ctx.exit()


@click.group(PROGRAM, cls=_Root)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version)
def main() -> None:
    """A market for GPU compute. Owners sell work, tenants buy it, contracts hold the money."""

# SPDX-License-Identifier: Apache-2.0
"""`teraproof gateway`: run it, make its settings, read its log, use a dropped provider again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from teraproof.cli.frame import ADDRESS, Group, Needs, Result, Session, command

_config = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("gateway.toml"),
    show_default=True,
    help="Its settings, as gateway init writes them.",
)


@click.group("gateway", cls=Group)
def cli() -> None:
    """A local endpoint of OpenAI's API that pays the hosts of models."""


cli.default = "run"


@command(cli, Needs.ACCOUNT)
@_config
def run(session: Session, config: Path) -> Result:
    """Answer requests until Ctrl-C; the account pays what the settings allow."""
    from teraproof.gateway import settings

    found = settings.load(config)
    gateway_running = _extra()
    return dict(gateway_running.run(session, found))


def _extra() -> Any:
    """What needs the extra `gateway`. Its absence is one line."""
    from teraproof.errors import CommandError
    from teraproof.protocol.errors import Code

    try:
        from teraproof.gateway import command as running
    except ModuleNotFoundError as error:
        raise CommandError(
            f"the gateway needs the package {error.name}: pip install 'teraproof[gateway]'",
            Code.EXTRA_MISSING,
        ) from None
    return running


@command(cli, Needs.NOTHING)
@_config
def init(session: Session, config: Path) -> Result:
    """Write commented settings, and a key for one application."""
    from teraproof.gateway import keys, settings

    name = "default.key"
    key = config.absolute().parent / name
    settings.write_template(config, name)
    if not key.exists():
        keys.make_key(key)
    session.ui.step(f"{config} is written; look at [pay] in it before you run the gateway")
    session.ui.step(f"{key} holds the key that your application sends")
    return {"config": str(config), "key_file": str(key)}


@command(cli, Needs.NOTHING)
@_config
@click.option("--key", default=None, metavar="NAME", help="Only requests with this key.")
@click.option(
    "--last", type=click.IntRange(1, 100_000), default=50, show_default=True, help="Rows at most."
)
def log(session: Session, config: Path, key: str | None, last: int) -> Result:
    """Show the activity log: who was asked, what it cost, how it ended."""
    from teraproof.gateway import log as activity
    from teraproof.gateway import report, settings
    from teraproof.gateway.store import Store

    store = Store(settings.load(config).listen.data_dir, read_only=True)
    try:
        return report.show(activity.rows(store, last, key), report.decimals_of(store), session.ui)
    finally:
        store.close()


@command(cli, Needs.NOTHING)
@click.argument("owner", type=ADDRESS)
@_config
def forgive(session: Session, owner: str, config: Path) -> Result:
    """Use a provider again whose receipt did not hold, and forget what was found about it."""
    from teraproof.errors import WrongInput
    from teraproof.gateway import log as activity
    from teraproof.gateway import memory, settings
    from teraproof.gateway.store import Store

    store = Store(settings.load(config).listen.data_dir)
    try:
        dropped = store.run(lambda db: activity.forgive(db, owner))
        if not store.run(lambda db: memory.forget(db, owner)) and not dropped:
            raise WrongInput(f"nothing is known against {owner}; gateway log shows what has failed")
    finally:
        store.close()
    session.ui.step(f"{owner} may be used again")
    return {"provider": owner}

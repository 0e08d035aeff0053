# SPDX-License-Identifier: Apache-2.0
"""The command line: `provider-agent init | consent | check | run | status`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

from provider_agent.cli.command import AgentCommand, settings_option, tell
from provider_agent.errors import SettingsError
from teraproof.amounts import show_date
from teraproof.errors import LocalError, TeraproofError, of_file

# All else is imported by the commands that use it: the libraries of the agent take a second to
# load, and a command line answers at once.

_CONSENT_SECONDS = 7 * 86_400
_TEMPLATE = """\
# Settings of the provider agent. Every field can be overridden by a variable of the environment:
# TERAPROOF_<SECTION>__<FIELD>. The whole list with its meanings: provider-agent settings

[chain]
rpc_urls = {rpc_urls}
chain_id = {chain_id}
staking = "{staking}"
jobs = "{jobs}"
{others}start_block = {start_block}

[operator]
keystore = "{keystore}"
password_file = "{password_file}"

[agent]
data_dir = "agent-data"
slots = 1

[api]
host = "127.0.0.1"
port = {port}
public_url = "{public_url}"    # what tenants use; put TLS in front of it

[runner]
sandbox = "bubblewrap"
cpus = 1
memory_mb = 2048

[runner.runtimes]
# python-ml = "/path/to/a/python/environment"

[jobs]
price_per_hour = "1"      # payment tokens
min_price = "0.01"        # of any job, for the gas that it costs you
max_collateral = "1000"   # TPF per job
collateral_per_token = "100"   # TPF for each payment token of the price
# accept_judged = []      # whose orders with jurors are taken: addresses of tenants, or "anyone"

# [disputes]
# seats = {{ "finetune|python-ml|cpu" = 2 }}   # what this machine judges as a juror; locks stake

# [leases]                 # what is rented out by the second, with Docker Engine
# core_price = "0.01"      # payment tokens per hour; memory_price and disk_price per GiB
# gpu_prices = {{ h100 = "2.5" }}
# outbound = true          # a way to the internet, which most images need

# [inference]              # models of your own server that are paid by the request
# public_url = "https://models.example.org"   # your proxy with TLS, in front of port 8703
# [inference.models."tiny-1b"]
# upstream = "http://127.0.0.1:8000/v1"
# prompt_price = "0.10"    # payment tokens per million tokens of text
# completion_price = "0.40"
# context = 8192

[benchmark]
device = "cpu"            # what proves its speed: cpu, cuda, cuda:1, or GPUs as one: cuda:0,1
"""


class Later(NamedTuple):
    """A command that another module defines under its own name, and the first words of its help."""

    module: str
    help: str


LATER = {
    "backup": Later(
        "provider_agent.cli.backup",
        "Copy databases, what was signed, settings and the key into a new directory.",
    ),
    "bench": Later(
        "provider_agent.prover.bench.bench",
        "Measure raw and proven rates of exact products, without a chain.",
    ),
    "claim": Later(
        "provider_agent.cli.channels",
        "Claim what channels owe, as far as it is worth its gas.",
    ),
    "lease": Later(
        "provider_agent.cli.lease",
        "Leave a lease: give the notice that was promised.",
    ),
    "prove": Later(
        "provider_agent.prover.bench.command",
        "Make a Proof-of-GPU (format v2) for a challenge, without a chain.",
    ),
    "restore": Later(
        "provider_agent.cli.backup",
        "Put a backup's databases, settings and key in place.",
    ),
    "sandbox": Later(
        "provider_agent.cli.sandbox",
        "Say how this machine would keep jobs to themselves: walls, memory, disk.",
    ),
    "settings": Later(
        "provider_agent.cli.reference",
        "List every setting: type, default, unit, variable and meaning.",
    ),
    "vouchers": Later(
        "provider_agent.cli.channels",
        "Keep a copy of what payers of models have signed: export, import.",
    ),
}


class _Group(click.Group):
    """Errors meant for people become one line; everything else is a bug and keeps its traceback."""

    command_class = AgentCommand

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        later = LATER.get(cmd_name)
        if later is None:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(import_module(later.module), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        helps = {name: later.help for name, later in LATER.items()}
        helps |= {name: made.get_short_help_str(limit=80) for name, made in self.commands.items()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(helps.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (TeraproofError, OSError) as error:
            tell(ctx, error)


@click.group(cls=_Group)
@click.version_option(package_name="teraproof-agent", prog_name="provider-agent")
def main() -> None:
    """Sell the work of your GPU: jobs in a sandbox, leases by the second, answers of models."""


@main.command()
@settings_option
@click.option("--rpc-url", "rpc_urls", multiple=True, required=True, help="Repeat for several.")
@click.option(
    "--deployment",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="deployments/<chain id>.json; instead of the next seven.",
)
@click.option("--chain-id", type=int)
@click.option("--staking", help="Address of the Staking contract.")
@click.option("--jobs", help="Address of the Jobs contract.")
@click.option(
    "--benchmark", "proven_by", help="Address of the Benchmark contract, if there is one."
)
@click.option("--emissions", help="Address of the Emissions contract, if there is one.")
@click.option("--leases", "rented_by", help="Address of the Leases contract, if there is one.")
@click.option("--start-block", type=int, default=0, show_default=True)
@click.option("--port", type=int, default=8700, show_default=True)
@click.option("--public-url", help="What tenants call the agent; default http://127.0.0.1:PORT.")
def init(
    config: Path,
    rpc_urls: tuple[str, ...],
    deployment: Path | None,
    chain_id: int | None,
    staking: str | None,
    jobs: str | None,
    proven_by: str | None,
    emissions: str | None,
    rented_by: str | None,
    start_block: int,
    port: int,
    public_url: str | None,
) -> None:
    """Make a settings file and a new operator key next to it. Overwrites nothing."""
    from provider_agent.settings import load
    from provider_agent.tx.keys import create_keystore
    from teraproof.protocol.terms import address

    if config.exists():
        raise SettingsError(f"{config} exists already; move it away or choose another --config")
    if deployment is not None:
        chain_id, staking, jobs, proven_by, emissions, rented_by, start_block = _deployment(
            deployment
        )
    if chain_id is None or staking is None or jobs is None:
        raise SettingsError("give --deployment, or --chain-id with --staking and --jobs")
    text = _TEMPLATE.format(
        rpc_urls=json.dumps(list(rpc_urls)),
        chain_id=chain_id,
        staking=address("--staking", staking),
        jobs=address("--jobs", jobs),
        others="".join(
            f'{name} = "{address(f"--{name}", place)}"\n'
            for name, place in (
                ("benchmark", proven_by),
                ("emissions", emissions),
                ("leases", rented_by),
            )
            if place is not None
        ),
        start_block=start_block,
        keystore="operator.json",
        password_file="operator.password",  # noqa: S106 - the name of a file
        port=port,
        public_url=public_url or f"http://127.0.0.1:{port}",
    )
    home = config.absolute().parent
    try:
        config.write_text(text, "utf-8")
    except OSError as error:
        raise of_file(error, config, "cannot write") from None
    try:
        load(config, {})
        operator = create_keystore(home / "operator.json", home / "operator.password")
    except LocalError:
        config.unlink()  # nothing half done: the next try starts afresh
        raise
    click.echo(f"settings  {config}")
    click.echo(f"operator  {operator}  (send it some ETH for gas)")
    click.echo("next      provider-agent consent --owner ADDRESS, then the owner registers")


def _deployment(
    file: Path,
) -> tuple[int, str, str, str | None, str | None, str | None, int]:
    """Chain id, Staking, Jobs; Benchmark, Emissions, Leases if there are any; the first block."""
    try:
        registry = json.loads(file.read_text("utf-8"))
        contracts = registry["contracts"]
        names = ("Jobs", "Benchmark", "Leases")
        blocks = [int(contracts[name]["block"]) for name in names if name in contracts]

        def place(name: str) -> str | None:
            return str(contracts[name]["address"]) if name in contracts else None

        return (
            int(registry["chain_id"]),
            str(contracts["Staking"]["address"]),
            str(contracts["Jobs"]["address"]),
            place("Benchmark"),
            place("Emissions"),
            place("Leases"),
            min(blocks),
        )
    except OSError as error:
        raise of_file(error, file, "cannot read") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SettingsError(f"{file} is not the record of a finished deployment") from None


@main.command()
@settings_option
@click.option("--owner", required=True, help="The provider's owner address.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    help="File to write; default: standard output.",
)
@click.option(
    "--nonce",
    type=click.IntRange(min=0),
    help="Staking's consent_nonce of the operator; default: the chain is asked.",
)
@click.option(
    "--leave-unclaimed",
    is_flag=True,
    help="Although channels of another operator owe, and this key cannot claim it.",
)
def consent(
    config: Path, owner: str, output: Path | None, nonce: int | None, leave_unclaimed: bool
) -> None:
    """Sign the operator's agreement to work for an owner; the owner registers with it.

    Each consent works once. Binding the key again ends the quotes that it signed before.
    """
    from provider_agent import app as agents
    from provider_agent.cli.channels import refuse_unclaimed
    from provider_agent.cli.consent import next_consent, sign_consent
    from provider_agent.settings import load
    from teraproof.protocol.terms import address

    settings = load(config)
    key, owner = agents.read_key(settings.operator), address("--owner", owner)
    if not leave_unclaimed:
        refuse_unclaimed(settings, key.address)
    if nonce is None:
        nonce = next_consent(settings, key)
    expires = int(time.time()) + _CONSENT_SECONDS
    signed = sign_consent(settings, key, owner, nonce, expires)
    text = json.dumps(signed, indent=2) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise of_file(error, output, "cannot write") from None
    click.echo(f"{output}: good until {show_date(expires)}")


@main.command()
@settings_option
def check(config: Path) -> None:
    """Check settings, key, machine, chain and contracts, one line each."""
    if not _check(config):
        sys.exit(1)


def _check(config: Path) -> bool:
    from provider_agent import checks
    from provider_agent.settings import load

    settings = load(config)
    good = True
    for finding in checks.startup(settings):
        failed = finding.mark is checks.Mark.FAIL
        click.echo(f"{finding.mark:<5}{finding.name:<10} {finding.line}", err=failed)
        good = good and not failed
    return good


@main.command()
@settings_option
@click.option(
    "--adopt-nonces",
    is_flag=True,
    help="Accept transactions of the key that the database does not know.",
)
@click.option("--skip-checks", is_flag=True, help="Start without the start-up checks.")
@click.option("--verbose", is_flag=True, help="Log requests and single steps as well.")
def run(config: Path, adopt_nonces: bool, skip_checks: bool, verbose: bool) -> None:
    """Run the agent until it is told to stop (SIGTERM, Ctrl-C). Jobs go on meanwhile."""
    from provider_agent.app import Agent
    from provider_agent.cli.second import refuse_second
    from provider_agent.settings import load

    _set_up_logging(verbose)
    settings = load(config)
    refuse_second(settings)  # at once, and not after checks that take a minute
    if not skip_checks and not _check(config):
        raise LocalError("a start-up check failed; see above")
    running = Agent(settings, adopt_nonces=adopt_nonces)

    def end(number: int, frame: FrameType | None) -> None:
        running.stop()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    running.run()


def _set_up_logging(verbose: bool) -> None:
    from provider_agent.core.log_limit import limit

    level = logging.DEBUG if verbose else logging.INFO
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, markup=False)
        form = "%(message)s"
    else:
        handler, form = logging.StreamHandler(), "%(asctime)s %(levelname)s %(message)s"
    logging.basicConfig(level=level, format=form, handlers=[limit(handler)])
    if not verbose:
        for name in ("httpx", "httpcore", "uvicorn"):
            logging.getLogger(name).setLevel(logging.WARNING)


@main.command()
@settings_option
def resume(config: Path) -> None:
    """Have jobs taken again after one missed its deadline. Find out why it did first."""
    from provider_agent.modules.jobs.halt import RESUME
    from provider_agent.settings import load

    folder = load(config).agent.data_dir
    if not folder.is_dir():
        raise SettingsError(f"{folder} is not there; the agent has not run yet")
    (folder / RESUME).touch()
    click.echo("the agent takes jobs again with its next look at the chain")


@main.command()
@settings_option
def status(config: Path) -> None:
    """Show what the agent knows: jobs, transactions, runs. It may be running or not."""
    from provider_agent.app import database
    from provider_agent.cli.status import show
    from provider_agent.modules.all import open_store
    from provider_agent.settings import load

    settings = load(config)
    path = database(settings)
    if not path.exists():
        raise SettingsError(f"{path} is not there; the agent has not run yet")
    store = open_store(path, owner=False)
    try:
        show(store)
    finally:
        store.close()

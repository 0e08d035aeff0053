# SPDX-License-Identifier: Apache-2.0
"""The command line: `provider-agent init | consent | check | run | status`."""

from __future__ import annotations

import json
import logging
import signal
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from provider_agent.errors import SettingsError
from teraproof.errors import LocalError, TeraproofError

if TYPE_CHECKING:
    from rich.console import Console

    from provider_agent.store import JobRow, Store

# All else is imported by the commands that use it: the libraries of the agent take a second to
# load, and a command line answers at once.

_CONSENT_SECONDS = 7 * 86_400
_SHOWN_ENDED = 20  # jobs, besides those that have not ended
_SHORT_ID = len("0x") + 12
_TEMPLATE = """\
# Settings of the provider agent. Every field can be overridden by a variable of the environment:
# TERAPROOF_<SECTION>__<FIELD>. The whole list with its meanings: provider-agent settings

[chain]
rpc_urls = {rpc_urls}
chain_id = {chain_id}
staking = "{staking}"
jobs = "{jobs}"
{proofs}start_block = {start_block}

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
max_collateral = "1000"   # TPF a job
collateral_per_token = "100"   # TPF for each payment token of the price

[benchmark]
device = "cpu"            # what proves its speed: cpu, cuda, cuda:1, or GPUs as one: cuda:0,1
"""

_config = click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("provider.toml"),
    show_default=True,
    help="Settings file.",
)


class Later(NamedTuple):
    """A command that another module defines under its own name, and the first words of its help."""

    module: str
    help: str


LATER = {
    "backup": Later(
        "provider_agent.cli.backup",
        "Copy databases, settings and the encrypted key into a new directory.",
    ),
    "bench": Later(
        "provider_agent.prover.bench.bench",
        "Measure raw and proven rates of exact products, without a chain.",
    ),
    "prove": Later(
        "provider_agent.prover.bench.command",
        "Make a Proof-of-GPU (format v2) for a challenge, without a chain.",
    ),
    "restore": Later(
        "provider_agent.cli.backup",
        "Put a backup's databases in place, and what is missing of settings and key.",
    ),
    "settings": Later(
        "provider_agent.cli.reference",
        "List every setting: type, default, unit, variable and meaning.",
    ),
}


class _Group(click.Group):
    """Errors meant for people become one line; everything else is a bug and keeps its traceback."""

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
        except TeraproofError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(int(error.code.exit))


@click.group(cls=_Group)
@click.version_option(package_name="teraproof-agent", prog_name="provider-agent")
def main() -> None:
    """Sell the work of your GPU: take paid jobs, run them in a sandbox, attest the results."""


@main.command()
@_config
@click.option("--rpc-url", "rpc_urls", multiple=True, required=True, help="Repeat for several.")
@click.option(
    "--deployment",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="deployments/<chain id>.json; instead of the next six.",
)
@click.option("--chain-id", type=int)
@click.option("--staking", help="Address of the Staking contract.")
@click.option("--jobs", help="Address of the Jobs contract.")
@click.option(
    "--benchmark", "proven_by", help="Address of the Benchmark contract, if there is one."
)
@click.option("--emissions", help="Address of the Emissions contract, if there is one.")
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
    start_block: int,
    port: int,
    public_url: str | None,
) -> None:
    """Make a settings file and a new operator key beside it. Overwrites nothing."""
    from provider_agent.settings import load
    from provider_agent.tx.keys import create_keystore
    from teraproof.protocol.terms import address

    if config.exists():
        raise SettingsError(f"{config} exists already; move it away or choose another --config")
    if deployment is not None:
        chain_id, staking, jobs, proven_by, emissions, start_block = _deployment(deployment)
    if chain_id is None or staking is None or jobs is None:
        raise SettingsError("give --deployment, or --chain-id with --staking and --jobs")
    text = _TEMPLATE.format(
        rpc_urls=json.dumps(list(rpc_urls)),
        chain_id=chain_id,
        staking=address("--staking", staking),
        jobs=address("--jobs", jobs),
        proofs="".join(
            f'{name} = "{address(f"--{name}", place)}"\n'
            for name, place in (("benchmark", proven_by), ("emissions", emissions))
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
        raise SettingsError(f"cannot write {config}: {error.strerror}") from None
    try:
        load(config, {})
        operator = create_keystore(home / "operator.json", home / "operator.password")
    except LocalError:
        config.unlink()  # nothing half done: the next try starts afresh
        raise
    click.echo(f"settings  {config}")
    click.echo(f"operator  {operator}  (send it some ETH for gas)")
    click.echo("next      provider-agent consent --owner ADDRESS, then the owner registers")


def _deployment(file: Path) -> tuple[int, str, str, str | None, str | None, int]:
    """Chain id, Staking, Jobs, Benchmark and Emissions if there are any, and the first block."""
    try:
        registry = json.loads(file.read_text("utf-8"))
        contracts = registry["contracts"]
        names = ("Jobs", "Benchmark")
        blocks = [int(contracts[name]["block"]) for name in names if name in contracts]
        return (
            int(registry["chain_id"]),
            str(contracts["Staking"]["address"]),
            str(contracts["Jobs"]["address"]),
            str(contracts["Benchmark"]["address"]) if "Benchmark" in contracts else None,
            str(contracts["Emissions"]["address"]) if "Emissions" in contracts else None,
            min(blocks),
        )
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingsError(f"{file} is not the record of a finished deployment") from None


@main.command()
@_config
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
def consent(config: Path, owner: str, output: Path | None, nonce: int | None) -> None:
    """Sign the operator's agreement to work for an owner; the owner registers with it.

    Each consent works once. Binding the key anew ends the quotes that it signed before.
    """
    from provider_agent import app as agents
    from provider_agent.cli.consent import next_consent, sign_consent
    from provider_agent.settings import load
    from teraproof.protocol.terms import address

    settings = load(config)
    key, owner = agents.read_key(settings.operator), address("--owner", owner)
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
        raise SettingsError(f"cannot write {output}: {error.strerror}") from None
    click.echo(f"{output}: good until {datetime.fromtimestamp(expires, UTC):%Y-%m-%d %H:%M} UTC")


@main.command()
@_config
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
        mark = "warn" if finding.warning else "ok" if finding.ok else "FAIL"
        click.echo(f"{mark:<5}{finding.name:<10} {finding.line}", err=not finding.ok)
        good = good and finding.ok
    return good


@main.command()
@_config
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
    from provider_agent.settings import load

    _set_up_logging(verbose)
    settings = load(config)
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
@_config
def status(config: Path) -> None:
    """Show what the agent knows: jobs, transactions, runs. It may be running or not."""
    from provider_agent.app import database
    from provider_agent.settings import load
    from provider_agent.store import Store

    settings = load(config)
    path = database(settings)
    if not path.exists():
        raise SettingsError(f"{path} is not there; the agent has not run yet")
    store = Store(path, owner=False)
    try:
        _show(store)
    finally:
        store.close()


def _show(store: Store) -> None:
    from rich.console import Console
    from rich.table import Table

    from provider_agent.app import PAY_DECIMALS, PAY_SYMBOL
    from provider_agent.modules.jobs.book import decode_terms
    from teraproof.protocol.terms import Status

    console = Console(markup=False, highlight=False)  # notes are text, whatever is in them
    table = Table(title="Jobs")
    # People copy ids: they have one length, however narrow the terminal is.
    table.add_column("job", no_wrap=True, min_width=_SHORT_ID)
    for name in ("status", "outcome", "pay", "deadline", "runs", "note"):
        table.add_column(name)
    decimals, symbol = store.meta(PAY_DECIMALS), store.meta(PAY_SYMBOL)
    ended = store.ended_jobs(_SHOWN_ENDED)
    for job in [*reversed(ended), *store.jobs()]:
        deadline = "-"
        if job.assigned_at is not None:
            ends = decode_terms(job.terms).deadline(job.assigned_at)
            deadline = f"{datetime.fromtimestamp(ends, UTC):%Y-%m-%d %H:%M:%S}"
        runs = ", ".join(run.state.value for run in store.runs_of(job.job_id)) or "-"
        table.add_row(
            ("0x" + job.job_id.hex())[:_SHORT_ID],
            Status(job.status).name.lower(),
            _outcome(job),
            "-" if job.price is None else _amount(job.price, decimals, symbol),
            deadline,
            runs,
            job.note,
        )
    console.print(table)
    states = {state.value: n for state, n in store.count_intents().items() if n}
    line = ", ".join(f"{n} {state}" for state, n in states.items()) or "none"
    console.print(f"Transactions: {line}")
    _show_proof(console, store)


def _outcome(job: JobRow) -> str:
    """How a job ended, by what the chain keeps of it."""
    from teraproof.protocol.outcome import by_status, of_result
    from teraproof.protocol.terms import Status

    ended = by_status(Status(job.status))
    if ended is not None:
        return ended.value
    return "-" if job.result is None else str(of_result(job.result))


def _show_proof(console: Console, store: Store) -> None:
    """The proof of the newest epoch, and its reward; nothing without them."""
    from provider_agent.modules.proofs import duty as benchmark
    from provider_agent.modules.proofs.epochs import ProofReport
    from provider_agent.modules.rewards import duty as rewards

    kept = store.meta(benchmark.REPORT)
    if kept is not None:
        report = ProofReport.from_text(kept)
        epoch = "" if report.epoch is None else f"epoch {report.epoch}, {report.stage}: "
        console.print(f"Proof: {epoch}{report.note} ({report.device})")
        console.print(
            f"Rounds: {report.rounds} done, {report.committed_rounds} committed, "
            f"{report.verified} of {report.samples} samples verified"
        )
        console.print(
            f"Score: {_rate(report.score)} operations a second backed by stake, of "
            f"{_rate(report.proven)} proven"
        )
    unclaimed = store.meta(rewards.UNCLAIMED)
    if unclaimed is not None:
        console.print(f"Rewards: {_amount(int(unclaimed), '18', 'TPF')} to claim")


def _rate(number: int) -> str:
    """A number with a prefix: 1.5 tera."""
    for prefix, size in (("tera", 10**12), ("giga", 10**9), ("mega", 10**6)):
        if number >= size:
            return f"{number / size:.4g} {prefix}"
    return str(number)


def _amount(units: int, decimals: str | None, symbol: str | None) -> str:
    """An amount in whole tokens; units where the agent has not noted yet what token it is."""
    if decimals is None:
        return str(units)
    whole, part = divmod(units, 10 ** int(decimals))
    digits = f"{part:0{int(decimals)}d}".rstrip("0") if part else ""
    number = f"{whole}.{digits}" if digits else str(whole)
    return f"{number} {symbol}" if symbol else number

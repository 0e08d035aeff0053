# SPDX-License-Identifier: Apache-2.0
"""What a tenant does with providers' agents: quotes, uploads, results.

The tenant's own account signs in. A result counts only when its bytes hash to what was attested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from teraproof.client.jobs import AgentClient
from teraproof.contracts.jobs import Attested
from teraproof.deals import origin_of
from teraproof.errors import (
    CommandError,
    LocalError,
    RemoteError,
    WrongInput,
    counted,
    is_of_file,
    of_file,
)
from teraproof.market import answers, providers
from teraproof.market.jobs import Job, short
from teraproof.market.market import Market
from teraproof.market.packages import Package
from teraproof.market.signers import Signer
from teraproof.market.ui import Ui
from teraproof.protocol.digests import Entry
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.messages import Quote
from teraproof.protocol.outcome import Ending, Outcome, of_result
from teraproof.protocol.receipt import Receipt
from teraproof.protocol.terms import ZERO_ADDRESS, Judged, Order

# An open job is sent to this many providers at most; one of them is enough.
MAX_PROVIDERS = 5
# An agent takes inputs once it has seen the job some blocks deep.
UPLOAD_SECONDS = 180.0
_LOG_LINES = 20


@dataclass(frozen=True)
class Uploaded:
    """Where the inputs are now, and why some agents there would not take the job all the same."""

    endpoints: tuple[str, ...]
    objections: Mapping[str, str]


@dataclass(frozen=True)
class Fetched:
    """A verified result on this machine."""

    directory: Path
    files: tuple[Entry, ...]
    receipt: Path
    ending: Ending


def candidates(market: Market, order: Order, allow: Sequence[str] = ()) -> dict[str, str]:
    """Owner -> endpoint of providers that could take the order, the largest own stake first.

    `allow` are the owners that the order is for, if not for all.
    """
    able = [
        provider
        for provider in providers.read_all(market)
        if provider.active >= order.min_stake
        and provider.lockable >= order.collateral
        and provider.free_score >= order.min_score
        and (not allow or provider.owner in allow)
    ]
    return {p.owner: p.endpoint for p in able[:MAX_PROVIDERS] if p.endpoint is not None}


def connect(market: Market, signer: Signer, url: str) -> AgentClient:
    """The signer's connection to an agent. It signs in where no session is kept (`sessions`)."""
    return AgentClient(
        url, signer, market.chain.chain_id, sessions=market.sessions, reach=market.reach
    )


def quote(
    market: Market,
    signer: Signer,
    package: Package,
    endpoint: str,
    provider: str | None = None,
    judged: int = Judged.TRUSTED,
) -> tuple[Quote, bytes]:
    """A provider's signed price for a package whose result is `judged` like that, checked, and its
    signature.

    An agent binds itself only with the inputs on its own disk, so they are sent when it asks.
    CommandError when the quote is that of another provider than `provider` (the owner), or of none.
    """
    with connect(market, signer, endpoint) as client:
        client.upload_spec(package.spec)
        try:
            given = client.quote(package.spec, market.jobs_domain, judged)
        except RemoteError as refusal:
            # The refusal that reserves room for our inputs; any other is final.
            if refusal.code is not Code.INPUTS_MISSING:
                raise
            client.upload(package.spec, package.directory, UPLOAD_SECONDS)
            given = client.quote(package.spec, market.jobs_domain, judged)
    check_operator(market, given[0], endpoint, provider)
    return given


def owner_of(market: Market, operator: str) -> str:
    """The provider whose operator this is; the zero address for none."""
    return market.staking.provider_of(operator, "latest")


def check_operator(market: Market, quote: Quote, endpoint: str, provider: str | None) -> None:
    """CommandError when a quote is not by the operator of `provider` (of any, when it is None)."""
    owner = owner_of(market, quote.operator)
    if owner == ZERO_ADDRESS:
        raise CommandError(f"{endpoint} quotes for no registered provider; nothing was sent")
    if provider is not None and owner != provider:
        raise CommandError(
            f"{endpoint} quotes for another provider than {provider}; nothing was sent"
        )


def upload(
    market: Market,
    signer: Signer,
    ui: Ui,
    package: Package,
    endpoints: Sequence[str],
    wait: float = UPLOAD_SECONDS,
    job: bytes | None = None,
) -> Uploaded:
    """Send specification and inputs to agents.

    With the `job` on chain, says why an agent would not take it, if it says so at once.
    CommandError when there are endpoints and none took them.
    """
    ui.doing("sending the inputs")
    failed: dict[str, str] = {}
    reached: dict[str, AgentClient] = {}
    with ExitStack() as stack:
        for url in endpoints:
            # One after the other: an account may ask its owner to sign. Any of them may be bad:
            # the URLs are what providers announce.
            try:
                client = stack.enter_context(connect(market, signer, url))
                client.login()
                reached[url] = client
            except LocalError as error:
                failed[url] = str(error)

        def send(url: str) -> None:
            try:
                reached[url].upload(package.spec, package.directory, wait)
            except LocalError as error:
                failed[url] = str(error)

        if reached:
            with ThreadPoolExecutor(len(reached)) as pool:
                try:
                    list(pool.map(send, reached))
                except BaseException:
                    stack.close()  # Ctrl-C: each thread ends at its next request
                    raise
        done = [url for url in reached if url not in failed]
        for url in done:
            there = "is" if len(package.spec.inputs) == 1 else "are"
            ui.step(f"{counted(len(package.spec.inputs), 'input')} {there} with {url}")
        objections = (
            {}
            if job is None
            else answers.objections(market, {url: reached[url] for url in done}, job, ui)
        )
    for line in failed.values():
        ui.note(line)
    if endpoints and not done:
        raise CommandError(
            "no agent has the inputs, so nobody will start; run job upload to try again, "
            "or job cancel to take the job back"
        )
    return Uploaded(tuple(done), objections)


def announced(market: Market, provider: str | None) -> tuple[str, str]:
    """A provider (its owner) and where it is reached; the only one if none is named. CommandError
    otherwise.
    """
    known = providers.endpoints(market, provider)
    if len(known) == 1:
        return next(iter(known.items()))
    if provider is not None:
        raise WrongInput(f"{provider} announces no endpoint; pass --endpoint URL")
    raise WrongInput(
        f"{len(known)} providers are registered; choose with --provider ADDRESS "
        "(see provider status)"
    )


def endpoint_for(market: Market, job: Job, given: str | None = None) -> str:
    """Where the provider of a job is reached. CommandError when it is not known."""
    if given is not None:
        return given
    if job.provider is None:
        raise CommandError(f"job {short(job.job)} has no provider yet", Code.NOT_READY)
    return announced(market, job.provider)[1]


def fetch(
    market: Market,
    signer: Signer,
    ui: Ui,
    job: Job,
    directory: Path,
    endpoint: str | None = None,
) -> Fetched:
    """Download result and receipt of an attested job, and check both against the chain.

    CommandError with the code JOB_FAILED, after all that, when the job did not succeed.
    """
    job.record()  # refuses a job without a result
    assert job.attested is not None  # as `record` has just checked
    if job.terms.requester != signer.address:
        raise CommandError(
            f"job {short(job.job)} belongs to {job.terms.requester}, not to {signer.address}; "
            "results are given to the requester only",
            Code.NOT_REQUESTER,
        )
    url = endpoint_for(market, job, endpoint)
    with _writing(directory), connect(market, signer, url) as client:
        directory.parent.mkdir(parents=True, exist_ok=True)
        files = client.fetch_result(origin_of(job.attested), directory, job.attested.result)
        receipt = directory.with_name(directory.name + ".receipt.json")
        signed = client.receipt(job.job, job.attested.receipt)
        receipt.write_bytes(signed)
        ending = _ending(signed, job.attested)
        log = None if ending.outcome is Outcome.SUCCEEDED else _log(client, job.job)
    total = sum(entry.size for entry in files)
    ui.step(f"{counted(len(files), 'file')}, {total:,} bytes in {directory}")
    ui.step(f"result 0x{job.attested.result.hex()} is the one attested on chain")
    ui.step(f"receipt {receipt} is the one attested on chain")
    if ending.outcome is not Outcome.SUCCEEDED:
        _tell_failure(ui, job, ending, log, directory)
    return Fetched(directory, tuple(files), receipt, ending)


@contextmanager
def _writing(directory: Path) -> Iterator[None]:
    """What the disk refuses is about the directory that was named."""
    if directory.exists() and not directory.is_dir():
        raise WrongInput(f"{directory} is not a directory; name another", path=str(directory))
    try:
        yield
    except OSError as error:
        if not is_of_file(error):
            raise
        raise of_file(error, directory, "cannot write") from None


def ending_of(
    market: Market, signer: Signer, job: Job, endpoint: str | None = None
) -> Ending | None:
    """How the run of an attested job ended, by its receipt; None where its agent is not there."""
    job.record()  # refuses a job without a result
    assert job.attested is not None  # as `record` has just checked
    known = of_result(job.attested.result, origin_of(job.attested))
    if known is not None:
        return known
    url = endpoint_for(market, job, endpoint)
    try:
        with connect(market, signer, url) as client:
            signed = client.receipt(job.job, job.attested.receipt)
    except RemoteError as error:
        if error.code is Code.NOT_REQUESTER:
            raise
        return None
    except LocalError:
        return None
    return _ending(signed, job.attested)


def _ending(receipt: bytes, attested: Attested) -> Ending:
    """How the run ended: by its receipt, unless the result itself is that of a failure."""
    ending = of_result(attested.result, origin_of(attested))
    if ending is not None:
        return ending
    try:
        signed = Receipt.parse(receipt)
    except LocalError:
        # Attested all the same; the result is what the tenant paid for.
        return Ending("exited", 0)
    return Ending(signed.reason, signed.exit_code)


def _log(client: AgentClient, job: bytes) -> str | None:
    """The end of the job's log, if the agent still has it."""
    try:
        return str(client.logs(job).get("text", ""))
    except LocalError:
        return None


def _tell_failure(ui: Ui, job: Job, ending: Ending, log: str | None, directory: Path) -> None:
    """Show the end of the log and keep it next to the result. Raises JOB_FAILED."""
    if log:
        kept = directory.with_name(directory.name + ".log")
        with _writing(directory):
            kept.write_text(log)
        ui.note(f"the end of its log, in {kept}:")
        for line in log.splitlines()[-_LOG_LINES:]:
            ui.note("    " + one_line(line))
    else:
        ui.note("the agent has no log of it" if log is None else "it printed nothing")
    raise CommandError(
        f"job {short(job.job)} did not succeed: {ending}; the provider is paid all the same",
        Code.JOB_FAILED,
        outcome=ending.outcome.value,
        exit_code=ending.exit_code,
        reason=ending.reason,
    )

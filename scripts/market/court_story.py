# SPDX-License-Identifier: Apache-2.0
"""What happens on the stage of a dispute: somebody lies, jurors run the job again, one of them
dies, and in the end everybody has, to the unit, what the rules say.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from rich.console import RenderableType
from rich.live import Live

from scripts.market.agents import RUNTIME
from scripts.market.court_cast import CAPABILITY, PROVIDER, Player, Plot
from scripts.market.court_rules import Ledger, Sizes, settle
from scripts.market.court_view import picture
from scripts.market.stage import Stage
from scripts.market.story import DURATION, TPF, USD, deploy, find, follow
from teraproof.amounts import show_tpf
from teraproof.contracts.jobs import Refunded, Settled
from teraproof.contracts.payment_token import PaymentTokenContract
from teraproof.courts import docket
from teraproof.courts.docket import Dispute, Phase, Round
from teraproof.courts.votes import Ruling
from teraproof.errors import CommandError
from teraproof.market import consents, disputes, jobs, packages, providers, registry, tenant
from teraproof.market.disputes import Step, ruling_words
from teraproof.market.jury import court_of, read_jury
from teraproof.market.market import Market, fresh_nonce, transact
from teraproof.market.ui import QuietUi
from teraproof.protocol.digests import manifest
from teraproof.protocol.errors import Code
from teraproof.protocol.terms import ZERO_WORD, Order, Status

STAKE, COLLATERAL = 1_000 * TPF, 100 * TPF
SEAT_STAKE = 12 * TPF  # a seat takes ten of them; fines are paid of what it takes
PRICE = 3 * USD
MONEY = 100 * USD
_LOOK_SECONDS = 0.2
_DRAW_SECONDS = 4.0  # in which agents draw, before the tenant does
_PHASE_SECONDS = 120.0
_SEATS_EVERY = 60  # in which an agent looks after its seats, of the chain


@dataclass
class Court:
    """The stage with its players, and what the story has come to."""

    stage: Stage
    market: Market
    plot: Plot
    provider: Player
    jurors: list[Player] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    """Owners of jurors whose machine is gone."""
    is_whole: bool = False
    """Whether the jurors that come for the appeal are here."""
    has_appealed: bool = False

    @property
    def late(self) -> list[Player]:
        """The jurors that come when a ruling is appealed."""
        return self.jurors[len(self.jurors) - self.plot.late :]

    def stake(self, player: Player) -> int:
        """What a player stakes, TPF wei."""
        if player is self.provider:
            return STAKE
        return SEAT_STAKE * self.plot.seats[self.jurors.index(player)]

    @property
    def names(self) -> dict[str, str]:
        """Jurors by their owners' addresses."""
        return {juror.address: juror.name for juror in self.jurors}

    def juror(self, owner: str) -> Player:
        """A juror by its owner's address."""
        return next(one for one in self.jurors if one.address == owner)

    def picture(self, found: Dispute) -> RenderableType:
        """What one sees of a dispute now."""
        now, dead = self.market.now(), frozenset(self.dead)
        vacant = partial(disputes.vacant, self.market)
        return picture(found, self.names, dead, now, vacant)

    def read(self, job: jobs.Job) -> Dispute | None:
        """The dispute as it stood a block ago; None once it is over.

        Anvil may run a call for its newest block on the state of the next one.
        """
        case, head = disputes.case_of(self.market, job), self.market.chain.head()
        return docket.read(court_of(self.market), case, head.number - 1)


def tell(stage: Stage, plot: Plot, people: list[Player]) -> bool:
    """The whole story; whether the ruling was right and every balance as the rules say."""
    liar = "the provider lies" if plot.liar == PROVIDER else "the tenant lies"
    stage.panel(
        f"Teraproof: a dispute, seed {plot.seed}",
        [
            f"{liar}; one juror's machine dies; {'the' if plot.appeal else 'no'} loser appeals.",
            "Jurors run the job again, and the contracts pay by what they find. Nobody is trusted.",
        ],
    )
    market = deploy(stage)
    court = Court(stage, market, plot, people[0], people[1:])
    _enter(court)
    job = _order(court)
    _dispute(court, job)
    rounds = _judge(court, job)
    return _end(court, job, rounds)


# ---------------------------------------------------------------------- acts


def _enter(court: Court) -> None:
    stage, market = court.stage, court.market
    count = len(court.jurors)
    stage.ui.act(f"2  A provider and {count} jurors register, stake and start their agents")
    url = stage.chain.pool.endpoints[0].url
    file = registry.path_of(stage.home / "deployments", stage.chain.chain_id)
    players = [court.provider, *court.jurors]
    court.provider.agent.sandbox = stage.ask_for_sandbox()
    _fund(court)

    def prepare(player: Player) -> Path:
        player.agent.sandbox = court.provider.agent.sandbox
        operator = player.agent.init(url, file)
        stage.chain.pool.call("anvil_setBalance", [operator, hex(10**18)])
        return player.agent.consent(player.address)

    with ThreadPoolExecutor(2) as pool, stage.console.status("settings and keys"):
        signed = list(pool.map(prepare, players))
    for player, consent in zip(players, signed, strict=True):
        stake = court.stake(player)
        sender, quiet = stage.sender(player.owner), QuietUi()
        agreed = consents.read(consent, market, player.address)
        providers.register(
            market, sender, quiet, agreed, max_lock_per_order=stake, max_locked=stake
        )
        if player not in court.late:
            providers.delegate(market, sender, quiet, player.address, stake)
        player.agent.start()
    later = f"; {len(court.late)} of the jurors stake later" if court.late else ""
    stage.ui.step(
        f"they are registered, with {show_tpf(STAKE)} of stake, and {show_tpf(SEAT_STAKE)} for "
        f"each seat of a juror{later}"
    )
    stage.tick()
    for player in players:
        stage.await_agent(player.agent)
    stage.ui.step(f"{len(players)} agents run")
    seats = court.plot.seats
    with stage.console.status("jurors take their seats"):
        _await_seats(court, sum(seats[: len(seats) - court.plot.late]))


def _await_seats(court: Court, wanted: int) -> None:
    """Wait until jurors have this number of seats, and these count."""
    stage, market = court.stage, court.market
    capability = CAPABILITY.number().to_bytes(32, "big")
    stage.wait(
        "the jurors to take seats",
        lambda: True if read_jury(market, capability).seats >= wanted else None,
        _PHASE_SECONDS,
        shown=True,
    )
    stage.pass_time(court_of(market).period("latest"))
    stage.ui.step(f"{read_jury(market, capability).described()}; they count from now on")


def _reinforce(court: Court) -> None:
    """The others stake; then their agents take seats, from which the next jury is drawn."""
    stage, market = court.stage, court.market
    for player in court.late:
        providers.delegate(
            market, stage.sender(player.owner), QuietUi(), player.address, court.stake(player)
        )
    stage.ui.step(f"{len(court.late)} more jurors stake: they have not sat in this dispute")
    stage.pass_time(_SEATS_EVERY)
    _await_seats(court, sum(court.plot.seats))
    court.is_whole = True


def _fund(court: Court) -> None:
    """TPF for the owners, dollars for those who may have to put up a bond."""
    stage, market = court.stage, court.market
    deployer, quiet = stage.sender(stage.deployer), QuietUi()
    for juror in court.jurors:
        give = market.token.transfer(juror.address, court.stake(juror))
        transact(deployer, quiet, "transfer", market.token, give)
    dollar = PaymentTokenContract(stage.chain.pool, market.payment.address)
    mint = dollar.mint(court.provider.address, MONEY)
    transact(deployer, quiet, "mint", dollar, mint)


def _order(court: Court) -> jobs.Job:
    """A judged order, and a result that is attested."""
    stage, market, ui = court.stage, court.market, court.stage.ui
    ui.act("3  A tenant posts a job that jurors may judge, and the provider attests a result")
    package = packages.read(court.plot.write_job(stage.home / "job"))
    order = Order(
        spec=package.spec.digest(),
        start_price=PRICE,
        max_price=PRICE,
        collateral=COLLATERAL,
        duration=DURATION,
        auction=0,
        min_stake=STAKE // 2,
        min_score=0,
        allow_root=ZERO_WORD,
        nonce=fresh_nonce(),
        judged=CAPABILITY.number(),
    )
    placed = jobs.post(market, stage.sender(stage.tenant), ui, order)
    tenant.upload(market, stage.tenant, ui, package, [court.provider.agent.url])
    follow(stage, market, placed.job, Status.ASSIGNED, "the provider to take the job", 60)
    follow(stage, market, placed.job, Status.ATTESTED, "the result", 120)
    done = find(market, placed.job)
    assert done.attested is not None  # the status says so
    ui.step(f"attested: result 0x{done.attested.result.hex()}")
    return done


def _dispute(court: Court, job: jobs.Job) -> None:
    """The tenant looks at the result, and disputes it."""
    stage, market, ui = court.stage, court.market, court.stage.ui
    ui.act("4  The tenant fetches the result, runs the job itself, and disputes")
    got = stage.home / "result"
    tenant.fetch(market, stage.tenant, QuietUi(), job, got)
    own = stage.home / "own-run"
    own.mkdir(exist_ok=True)
    (own / "work.py").write_bytes((stage.home / "job" / "work.py").read_bytes())
    line = [str(RUNTIME / "bin" / "python"), "work.py"]
    subprocess.run(line, cwd=own, check=True, capture_output=True)
    ours, theirs = (place / "out" / "table.txt" for place in (own, got))
    differ = [
        number
        for number, pair in enumerate(zip(ours.read_bytes(), theirs.read_bytes(), strict=True))
        if pair[0] != pair[1]
    ]
    if differ:
        ui.step(f"byte {differ[0]:,} of table.txt is another one than in the tenant's own run")
    else:
        ui.step("every byte is that of the tenant's own run; it disputes all the same")
    evidence = hashlib.sha256(manifest(own)).digest()
    receipt = disputes.open_dispute(
        market, stage.sender(stage.tenant), ui, find(market, job.job), evidence
    )
    stage.spend("dispute", receipt)


def _judge(court: Court, job: jobs.Job) -> tuple[Round, ...]:
    """Juries are drawn, vote and are appealed; what they have said at the end."""
    stage = court.stage
    stage.ui.act("5  Jurors are drawn, run the job, commit and reveal")
    seen: Dispute | None = None
    since, phase = time.monotonic(), (0, Phase.DRAWING)
    with Live(console=stage.console, auto_refresh=False, transient=True) as live:
        while True:
            found = court.read(job)
            if found is None and seen is None:
                time.sleep(_LOOK_SECONDS)  # the block with it is still the newest one
                continue
            if found is None:
                break
            seen = found
            live.update(court.picture(found), refresh=True)
            if (found.current.number, found.phase) != phase:
                since, phase = time.monotonic(), (found.current.number, found.phase)
                _say(court, found)
            if found.phase is Phase.FINAL:
                break
            _act(court, job, found, time.monotonic() - since)
            time.sleep(_LOOK_SECONDS)
    assert seen is not None  # it was open
    stage.console.print(court.picture(seen))
    return seen.rounds


def _act(court: Court, job: jobs.Job, found: Dispute, waited: float) -> None:
    """What the players do in this phase; agents do the rest."""
    stage, market = court.stage, court.market
    sender, quiet = stage.sender(stage.tenant), QuietUi()
    current = found.current
    if waited > _PHASE_SECONDS:
        raise CommandError(f"the dispute stands still: {found.phase.name.lower()}")
    if found.phase is Phase.DRAWING:
        if waited > _DRAW_SECONDS and disputes.due(market, found) is Step.DRAW:
            _try(lambda: disputes.advance(market, sender, quiet, job))
    elif found.phase is Phase.COMMITTING:
        if current.number == 0 and not court.dead:
            _kill(court, found)
        elif all(p.has_committed for p in current.places if p.juror not in court.dead):
            _pass(court, found)
    elif found.phase is Phase.REVEALING:
        alive = [p for p in current.places if p.has_committed and p.juror not in court.dead]
        if all(p.vote is not None for p in alive):
            _pass(court, found)
    elif found.phase is Phase.FAILED:
        _try(lambda: disputes.advance(market, sender, quiet, job))
    elif found.phase is Phase.RULED:
        if court.late and not court.is_whole:
            _reinforce(court)
        elif court.has_appealed:
            pass  # the block with it is still the newest one
        elif court.plot.appeal or found.ruling is Ruling.NONE:
            court.has_appealed = True
            who = stage.tenant if found.loser() == stage.tenant.address else court.provider.owner
            receipt = disputes.appeal(market, stage.sender(who), quiet, job)
            stage.spend("appeal", receipt)
        else:
            _pass(court, found)


def _kill(court: Court, found: Dispute) -> None:
    places = found.current.places
    chosen = court.juror(places[court.plot.victim % len(places)].juror)
    chosen.agent.kill()
    court.dead.add(chosen.address)
    court.stage.ui.step(f"kill -9: the machine of {chosen.name} is gone")


def _pass(court: Court, found: Dispute) -> None:
    """Let the rest of a phase go by: those who live have done their part."""
    left = found.until + 1 - court.market.now()
    if left > 0:
        court.stage.pass_time(left)


def _say(court: Court, found: Dispute) -> None:
    ui, number = court.stage.ui, found.current.number
    if found.phase is Phase.COMMITTING:
        sits = ", ".join(court.names[place.juror] for place in found.current.places)
        ui.step(f"drawn: {sits}")
    elif found.phase is Phase.DRAWING and number:
        what = "the loser appeals: the largest jury" if number == 2 else "a second jury"
        ui.step(f"{what} is asked for")
    elif found.phase is Phase.RULED:
        ui.step(f"ruling: {ruling_words(found.ruling)}")


def _try(act: Callable[[], object]) -> None:
    """Do what an agent may have done meanwhile."""
    try:
        act()
    except CommandError as error:
        if error.code not in (Code.CONTRACT_REFUSED, Code.NOT_READY, Code.NOT_DISPUTED):
            raise


def _end(court: Court, job: jobs.Job, rounds: tuple[Round, ...]) -> bool:
    """The ruling is carried out; whether it is right, and the money is where the rules say."""
    stage, market, ui = court.stage, court.market, court.stage.ui
    ui.act("6  The ruling is carried out, and every balance is held against the rules")
    _try(lambda: disputes.conclude(market, stage.sender(stage.tenant), QuietUi(), job))

    def ended() -> Refunded | Settled | None:
        done = find(market, job.job)
        return done.refunded or done.settled

    # An agent may have been faster, and its transaction may be on its way.
    event = stage.wait("the ruling to be carried out", ended, _PHASE_SECONDS)
    receipt = stage.chain.pool.receipt(event.at.tx_hash)
    assert receipt is not None  # its event was read
    stage.spend("conclude", receipt)
    expected = settle(rounds, _sizes(market, job), stage.tenant.address, court.provider.address)
    ui.step(f"{receipt.gas_used:,} gas: {ruling_words(expected.found.ruling)}")
    kept = _compare(court, job, expected, receipt.block_number)
    guilty = expected.found.ruling.is_for_requester
    return kept and guilty == (court.plot.liar == PROVIDER)


# ---------------------------------------------------------------------- money


def _compare(court: Court, job: jobs.Job, expected: Ledger, block: int) -> bool:
    """Show what the block has changed next to what the rules say; whether they agree everywhere."""
    market, stage = court.market, court.stage
    paid, fined = expected.paid, expected.fined
    accounts = {"tenant": stage.tenant.address, "provider": court.provider.address}
    accounts |= {juror.name: juror.address for juror in court.jurors}
    rows = []

    def row(name: str, found: int, due: int, shown: Callable[[int], str]) -> None:
        rows.append((name, shown(found), shown(due), found == due))

    def change(read: Callable[[str, int], int], account: str) -> int:
        return read(account, block) - read(account, block - 1)

    for name, account in accounts.items():
        found = change(market.jobs.credit_of, account)
        row(f"{name}: credit", found, paid[account], market.show_price)
    collateral = job.terms.order.collateral if expected.found.ruling.is_for_requester else 0
    # What the tenant does not get of it is burned: nobody earns by a verdict.
    to_tenant = collateral * market.jobs.victim_bps("latest") // disputes.BPS
    burned = collateral - to_tenant
    row(
        "tenant: compensation",
        change(market.staking.credit_of, accounts["tenant"]),
        to_tenant,
        show_tpf,
    )
    for name, account in list(accounts.items())[1:]:
        due = -collateral if account == court.provider.address else -fined[account]
        row(f"{name}: stake", change(market.staking.owner_assets, account), due, show_tpf)
    supply = market.token.total_supply(block) - market.token.total_supply(block - 1)
    row("all TPF", supply, -burned - fined.total(), show_tpf)
    stage.grid(
        "What the ruling has changed",
        ["", "on chain", "by the rules", ""],
        [[name, is_, due, "✓" if same else "DIFFERS"] for name, is_, due, same in rows],
    )
    return all(same for *_, same in rows)


def _sizes(market: Market, job: jobs.Job) -> Sizes:
    """What the plan and the order say."""
    court, order = court_of(market), job.terms.order
    now = "latest"
    fee = max(
        court.min_fee(now),
        PRICE * court.fee_bps(now) // disputes.BPS,
        court.hourly_fee(now) * order.duration // 3_600,
    )
    return Sizes(
        panels=(court.panel(now), court.redraw_panel(now), court.appeal_panel(now)),
        fee=fee,
        attendance=court.attendance(now),
        small_fine=court.small_fine(now) * fee,
        big_fine=court.big_fine(now) * fee,
        price=PRICE,
        market_fee=PRICE * job.terms.fee_bps // disputes.BPS,
    )

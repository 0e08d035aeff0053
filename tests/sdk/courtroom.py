# SPDX-License-Identifier: Apache-2.0
"""A market with a court on a real node: jurors by their keys, a provider that attests what a test
says, and people that run `teraproof`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from eth_account import Account
from eth_account.signers.local import LocalAccount

from scripts.deployment import plan
from scripts.deployment.artifacts import compile_all
from teraproof.cli.main import main
from teraproof.contracts.base import Contract
from teraproof.courts import docket, votes
from teraproof.courts.docket import Dispute
from teraproof.courts.votes import Opinion
from teraproof.market import consents, disputes, jobs, packages, providers, tokens
from teraproof.market.jobs import Job, Placed
from teraproof.market.market import Market, open_market
from teraproof.market.sending import Call, Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol import messages
from teraproof.protocol.capability import of_job
from teraproof.protocol.digests import Origin, result_digest
from teraproof.protocol.dispute import Case
from teraproof.protocol.errors import Exit
from teraproof.protocol.terms import ZERO_WORD, Judged, Order
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.support.anvil import ROOT, Anvil

USD, TPF = 10**6, 10**18
EXAMPLE = ROOT / "examples" / "finetune-digits"
PRICE, COLLATERAL = 10 * USD, 30 * TPF
JURORS, SEATS = 8, 2
# A machine under load must not miss a deadline of the test's own.
PATIENT = {
    "period": "10 minutes",
    "draw_time": "10 minutes",
    "commit_time": "10 minutes",
    "reveal_time": "10 minutes",
    "redraw_time": "20 minutes",
    "appeal_time": "20 minutes",
}


@dataclass
class Person:
    """Runs `teraproof` with a key file."""

    home: Path
    anvil: Anvil
    key: LocalAccount

    @property
    def address(self) -> str:
        return str(self.key.address)

    def run(self, *line: str) -> Result:
        file = self.home / f"{self.address}.key"
        if not file.exists():
            file.write_text(self.key.key.hex())
            file.chmod(0o600)
        environment = {
            "TERAPROOF_RPC_URL": self.anvil.url,
            "TERAPROOF_DEPLOYMENTS": str(self.home / "deployments"),
            "XDG_STATE_HOME": str(self.home / "state"),
            "COLUMNS": "250",
        }
        return CliRunner(env=environment).invoke(main, line, catch_exceptions=False)

    def shown(self, *line: str) -> str:
        """What a command that succeeds prints, in one line."""
        done = self.run(*line, *self._options(line))
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    def json(self, *line: str) -> Any:
        """The document of a command that succeeds."""
        done = self.run(*line, *self._options(line), "--json")
        assert done.exit_code == 0, done.output
        return json.loads("{" + done.output.partition("{")[2])

    def fails(self, kind: Exit, *line: str) -> tuple[str, str]:
        """The code and the line of a command that fails; it has sent nothing."""
        nonce = self.anvil.nonce(self.address)
        done = self.run(*line, *self._options(line), "--json")
        assert done.exit_code == kind, done.output
        error = json.loads("{" + done.output.partition("{")[2])["error"]
        assert "\n" not in error["message"] and self.anvil.nonce(self.address) == nonce
        return error["code"], error["message"]

    def _options(self, line: tuple[str, ...]) -> tuple[str, ...]:
        if line[:2] in (("dispute", "status"), ("juror", "seats")):
            return ()
        return ("--key-file", str(self.home / f"{self.address}.key"), "--yes")


@dataclass
class Courtroom:
    """See the module. `jurors` are operators by their owners' addresses."""

    home: Path
    anvil: Anvil
    market: Market
    tenant: Person
    stranger: Person
    owner: Person
    operator: LocalAccount
    jurors: dict[str, LocalAccount] = field(default_factory=dict)
    orders: int = 0

    @property
    def capability(self) -> bytes:
        return of_job(packages.read(EXAMPLE).spec).number().to_bytes(32, "big")

    @property
    def court(self) -> Any:
        assert self.market.court is not None
        return self.market.court

    def send(self, key: LocalAccount, contract: Contract, data: bytes) -> None:
        """A transaction of a key."""
        sender = Sender(self.market.chain, KeySigner(key, "key"))
        sender.send(Call("call", contract.address, data))

    def sender(self, person: Person) -> Sender:
        return Sender(self.market.chain, KeySigner(person.key, "person"))

    # -------------------------------------------------------------- jobs

    def post(self, **changes: Any) -> Placed:
        self.orders += 1
        values: dict[str, Any] = {
            "spec": packages.read(EXAMPLE).spec.digest(),
            "start_price": PRICE,
            "max_price": PRICE,
            "collateral": COLLATERAL,
            "duration": 600,
            "auction": 0,
            "min_stake": 0,
            "min_score": 0,
            "allow_root": ZERO_WORD,
            "nonce": self.orders,
            "judged": int.from_bytes(self.capability, "big"),
            **changes,
        }
        sender = self.sender(self.tenant)
        return jobs.post(self.market, sender, QuietUi(), Order(**values))

    def accepted(self, **changes: Any) -> Placed:
        placed = self.post(**changes)
        self.send(self.operator, self.market.jobs, self.market.jobs.accept(placed.terms))
        return placed

    def digest(self, job: bytes, listed: bytes) -> bytes:
        """What the provider attests of a result with this manifest."""
        return result_digest(listed, Origin(job, self.owner.address))

    def attested(self, listed: bytes, **changes: Any) -> Job:
        """A judged job with the result of this manifest on chain."""
        placed = self.accepted(**changes)
        now, result = self.market.now(), self.digest(placed.job, listed)
        data = self.market.jobs.attest(placed.terms, result, b"\x03" * 32, now, now, b"")
        self.send(self.operator, self.market.jobs, data)
        return self.find(placed.job)

    def trusted(self, listed: bytes) -> Job:
        return self.attested(listed, judged=Judged.TRUSTED)

    def find(self, job: bytes) -> Job:
        return jobs.find(self.market, job.hex())

    def signed(self, job: bytes, spec: bytes, listed: bytes, key: LocalAccount) -> dict[str, Any]:
        """An attestation as an agent shows it."""
        result = self.digest(job, listed)
        said = messages.Attestation(job, spec, result, b"\x03" * 32, 1, 2)
        signature = messages.sign(self.market.jobs_domain, said, key)
        return {
            "spec": "0x" + spec.hex(),
            "result": "0x" + result.hex(),
            "receipt": "0x" + said.receipt.hex(),
            "started": 1,
            "finished": 2,
            "signature": "0x" + signature.hex(),
        }

    # -------------------------------------------------------------- the court

    def case(self, job: Job) -> Case:
        return disputes.case_of(self.market, job)

    def read(self, job: Job) -> Dispute:
        return disputes.read(self.market, job)

    def name(self, job: Job) -> str:
        return "0x" + job.job.hex()

    def dispute(self, job: Job) -> None:
        disputes.open_dispute(self.market, self.sender(self.tenant), QuietUi(), job)

    def draw(self, job: Job) -> None:
        """Mine the named block and draw; another block for a jury without a quorum.

        Votes of jurors that sat in an earlier round are nobody's, and jurors are few here.
        """
        for _ in range(30):
            kept = self.anvil.snapshot()
            self.anvil.mine(3)
            disputes.advance(self.market, self.sender(self.stranger), QuietUi(), job)
            number = self.read(job).current.number
            if 2 * self.cast(job) > (3, 5, 9)[number]:
                return
            self.anvil.revert(kept)
        raise AssertionError("no jury with a quorum in 30 blocks")

    def cast(self, job: Job) -> int:
        """Votes that the present jury can cast."""
        return sum(place.votes for place in self.read(job).current.places)

    def vote(self, job: Job, opinion: Opinion | None, others: Mapping[int, Opinion | None]) -> None:
        """All jurors of the present jury say this, but those in these places; None is silence."""
        said = {
            place.number: others.get(place.number, opinion)
            for place in self.read(job).current.places
        }
        self.commit(job, said)
        if None in said.values():
            self.pass_phase(job)
        self.reveal(job, said)

    def commit(self, job: Job, said: Mapping[int, Opinion | None]) -> None:
        dispute = self.read(job)
        for place in dispute.current.places:
            opinion = said[place.number]
            if opinion is not None:
                key = self.jurors[place.juror]
                number = dispute.current.number
                digest = votes.commitment(
                    job.job, number, place.juror, opinion, self._salt(key, job, number)
                )
                data = self.court.commit(dispute.case, place.number, digest)
                self.send(key, self.court, data)

    def reveal(self, job: Job, said: Mapping[int, Opinion | None]) -> None:
        dispute = self.read(job)
        for place in dispute.current.places:
            opinion = said[place.number]
            if opinion is not None:
                key = self.jurors[place.juror]
                salt = self._salt(key, job, dispute.current.number)
                data = self.court.reveal(
                    dispute.case, place.number, int(opinion.vote), opinion.seal, salt
                )
                self.send(key, self.court, data)

    def pass_phase(self, job: Job) -> None:
        """Until just after the present phase."""
        until = self.read(job).until
        self.anvil.increase_time(until + 1 - self.market.now())

    def standing(self, job: Job) -> docket.Phase:
        return self.read(job).phase

    def _salt(self, key: LocalAccount, job: Job, number: int) -> bytes:
        domain = messages.Domain(self.market.chain.chain_id, self.court.address)
        return votes.salt(key, domain, job.job, number)

    # -------------------------------------------------------------- people

    def register(self, owner: LocalAccount, operator: LocalAccount, stake: int) -> None:
        """A provider with a stake of its own."""
        market, ui = self.market, QuietUi()
        for key in (owner, operator):
            self.anvil.set_balance(key.address, 10**18)
        tokens.send_stake(market, sender_of(self.anvil, 0), ui, str(owner.address), stake)
        said = messages.OperatorConsent(
            str(owner.address), str(operator.address), 0, market.now() + 3_600
        )
        consent = consents.Consent(
            said, messages.sign(market.staking_domain, said, operator), "http://127.0.0.1:1029"
        )
        sender = Sender(market.chain, KeySigner(owner, "owner"))
        providers.register(market, sender, ui, consent, max_lock_per_order=stake, max_locked=stake)
        providers.delegate(market, sender, ui, str(owner.address), stake)

    def juror(self, seats: int) -> str:
        """A new juror; its owner's address."""
        owner, operator = Account.create(), Account.create()
        self.register(owner, operator, 2 * max(seats, 2) * self.court.seat("latest"))
        if seats:
            self.send(operator, self.court, self.court.enlist(self.capability, seats))
        self.jurors[str(owner.address)] = operator
        return str(owner.address)


def deploy_court(home: Path, anvil: Anvil) -> Courtroom:
    """The local plan with patient phases, a provider, a tenant with money, and no juror yet."""
    document = yaml.safe_load((ROOT / "deployments" / "params" / "local.yaml").read_text())
    document["contracts"]["Disputes"] |= PATIENT
    document["contracts"]["Jobs"]["challenge_window"] = "10 minutes"
    changed = home / "plan.yaml"
    changed.write_text(yaml.safe_dump(document))
    artifacts = compile_all()
    folder = home / "deployments"
    deploy(plan.load(changed, artifacts), artifacts, sender_of(anvil, 0), folder)
    market = open_market(folder, chain_of(anvil))
    people = []
    for _ in range(3):
        key = Account.create()
        anvil.set_balance(key.address, 10**20)
        people.append(Person(home, anvil, key))
        people[-1].run("job", "list")  # writes its key file
    tenant, stranger, owner = people
    room = Courtroom(home, anvil, market, tenant, stranger, owner, Account.create())
    room.register(owner.key, room.operator, 2_000 * TPF)
    tokens.mint_payment(market, room.sender(tenant), QuietUi(), tenant.address, 10_000 * USD)
    tokens.mint_payment(market, room.sender(owner), QuietUi(), owner.address, 10_000 * USD)
    return room

# SPDX-License-Identifier: Apache-2.0
"""A market with leases on a real node, tenants that run `teraproof`, and a provider.

The provider's agent is played: a small HTTP server that says what a test wants, and a thread that
does on the chain what an agent would. What it computes for a challenge is real.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from eth_account import Account
from eth_account.signers.local import LocalAccount

from provider_agent.prover.acceptance.memory import HostMemory
from provider_agent.prover.acceptance.respondent import Respondent
from scripts.deployment import plan
from scripts.deployment.artifacts import compile_all
from teraproof.acceptance.format import Lease as Named
from teraproof.acceptance.messages import Step, hex32, work_from_json
from teraproof.errors import CommandError, TeraproofError
from teraproof.market import consents, leases, providers, tokens
from teraproof.market.leases import Lease
from teraproof.market.market import Market, open_market
from teraproof.market.sending import Call, Sender
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol import messages
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_checkpoints import AskedSave
from teraproof.protocol.lease_offer import Capacity, LeaseOffer, Prices
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.lease_wire import (
    ContainerReport,
    LeaseReport,
    QuoteRequest,
    RegistryLogins,
    SignedLeaseQuote,
)
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.agent.engines import quick_engine
from tests.scripts.actors import chain_of, deploy, sender_of
from tests.sdk.courtroom import Person
from tests.support.anvil import ROOT, Anvil
from tests.support.sdl import SMALL

USD, TPF = 10**6, 10**18
GIB = 1 << 30
ROOM = Capacity(64_000, 256 * GIB, 4_096 * GIB)
# A core costs 36 cents an hour: 100 units a second.
OFFER = LeaseOffer(
    total=ROOM,
    free=ROOM,
    prices=Prices(core=Fraction(36, 100)),
    outbound=True,
    public_ports=64,
    free_ports=64,
    most_notice=86_400,
    attributes={"region": "eu-north", "bandwidth": "1000"},
)
COLLATERAL = 20 * TPF


@dataclass
class Agent:
    """A provider's agent. The fields say what it does; a test changes them."""

    market: Market
    owner: str
    operator: LocalAccount
    url: str
    offer: LeaseOffer = OFFER
    rate: int = 100
    takes: bool = True
    """Whether it accepts open leases."""
    makes_ready: bool = True
    answers: bool = True
    """Whether it answers challenges."""
    honest: bool = True
    refuses: Code | None = None
    """What it says when it is asked for a quote."""
    fetches: int = 0
    """How often it says that it still fetches the images, or what `waits` says."""
    waits: Code = Code.IMAGES_MISSING
    saves: list[AskedSave | Code] = field(default_factory=list)
    """What it says of a checkpoint that is asked for, one after the other; the last one stays."""
    specs: dict[str, bytes] = field(default_factory=dict)
    logins: dict[bytes, RegistryLogins] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    """Method and path of every request."""
    bodies: list[bytes] = field(default_factory=list)
    note: str = ""
    _quoted: int = 0
    _examined: dict[bytes, Respondent] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def forget(self) -> None:
        """As it was when it was made, but for what is on the chain."""
        fresh = Agent(self.market, self.owner, self.operator, self.url)
        for name in ("offer", "rate", "takes", "makes_ready", "answers", "honest"):
            setattr(self, name, getattr(fresh, name))
        self.saves = []
        self.refuses, self.fetches, self.waits = None, 0, Code.IMAGES_MISSING
        self.specs, self.logins, self.seen, self.note = {}, {}, [], ""

    # ------------------------------------------------------------- the chain

    def live(self) -> None:
        """Do on the chain what is due, until it is stopped."""
        seen: tuple[object, ...] | None = None
        while not self._stop.wait(0.2):
            try:
                # What is due changes with the chain, and with what it was sent and what it heard.
                now = self._situation()
                if now != seen:
                    found = leases.find_all(self.market)
                    left = [lease for lease in found if not self._turned(lease)]
                    seen = None if left else now
            except TeraproofError:  # a node that is busy
                seen = None

    def _situation(self) -> tuple[object, ...]:
        head = self.market.chain.pool.head()
        return head.hash, self.takes, self.makes_ready, len(self.specs), len(self.logins)

    def _turned(self, lease: Lease) -> bool:
        """Whether it could do what is due for a lease; another provider may be faster."""
        try:
            self._turn(lease)
        except CommandError:
            return False
        return True

    def _turn(self, lease: Lease) -> None:
        chain, terms = leases.contract(self.market), lease.terms
        if lease.status is LeaseStatus.OPEN and self.takes and terms.order.spec.hex() in self.specs:
            self.operate("accept", chain.accept(terms))
        elif lease.status is LeaseStatus.ASSIGNED and lease.provider == self.owner:
            spec = json.loads(self.specs.get(terms.order.spec.hex(), '{"services": []}'))
            private = "checkpoints" in spec or any("registry" in one for one in spec["services"])
            if self.makes_ready and (lease.lease in self.logins or not private):
                self.operate("ready", chain.ready(terms))

    def operate(self, label: str, data: bytes) -> None:
        """A transaction of its operator."""
        sender = Sender(self.market.chain, KeySigner(self.operator, "operator"))
        sender.send(Call(label, leases.contract(self.market).address, data))

    def beat(self) -> None:
        """A heartbeat, once it has had a lease."""
        chain = leases.contract(self.market)
        number = chain.number_of(self.owner, "latest")
        if number:
            self.operate("heartbeat", chain.heartbeat(number))

    # ------------------------------------------------------------- its API

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Status and document."""
        self.seen.append(f"{method} {path}")
        self.bodies.append(body)
        parts = path.strip("/").split("/")[1:]
        if parts[0] == "auth":
            return self._sign_in(parts[1])
        if parts[0] == "specs":
            return self._refused(Code.SPEC_MISSING)
        if parts[1:] == ["offer"]:
            return 200, self.offer.to_json()
        if parts[1] == "specs":
            if method == "PUT":
                self.specs[parts[2]] = body
            known = parts[2] in self.specs
            return (200, {}) if known else self._refused(Code.SPEC_MISSING)
        if parts[1] == "quotes":
            return self._quote(json.loads(body))
        lease = bytes.fromhex(parts[1].removeprefix("0x"))
        if parts[2:] == ["credentials"]:
            self.logins[lease] = RegistryLogins.from_json(json.loads(body))
            return 200, {}
        if parts[2:] == ["checkpoint"]:
            said = self.saves.pop(0) if len(self.saves) > 1 else self.saves[0]
            return self._refused(said) if isinstance(said, Code) else (200, said.to_json())
        if parts[2:] == ["challenge"]:
            return self._challenged(lease, json.loads(body))
        return self._report(lease)

    def _sign_in(self, what: str) -> tuple[int, Any]:
        if what == "nonce":
            domain = self.url.removeprefix("http://")
            chain_id = self.market.chain.chain_id
            return 200, {"nonce": secrets.token_hex(8), "chain_id": chain_id, "domain": domain}
        return 200, {"token": secrets.token_hex(16), "expires": int(time.time()) + 3_600}

    def _refused(self, code: Code) -> tuple[int, Any]:
        error = {
            "code": code.value,
            "message": code.meaning,
            "retryable": code.retryable,
            "details": {},
        }
        return code.status, {"error": error}

    def _quote(self, body: Mapping[str, str]) -> tuple[int, Any]:
        if self.refuses is not None:
            return self._refused(self.refuses)
        if self.fetches:
            self.fetches -= 1
            return self._refused(self.waits)
        asked = QuoteRequest.from_json(body)
        self._quoted += 1
        consent = self.market.staking.consent_nonce(self.operator.address, "latest") - 1
        quote = messages.LeaseQuote(
            operator=self.operator.address,
            requester=ZERO_ADDRESS,
            spec=asked.spec,
            rate=self.rate,
            collateral=COLLATERAL,
            ready_within=asked.ready_within or 600,
            term=asked.term,
            notice=asked.notice,
            expires=self.market.now() + 600,
            nonce=messages.quote_nonce(consent, self._quoted),
        )
        signature = messages.sign(leases.domain(self.market), quote, self.operator)
        return 200, SignedLeaseQuote(quote, signature).to_json()

    def _report(self, lease: bytes) -> tuple[int, Any]:
        (found,) = [one for one in leases.find_all(self.market) if one.lease == lease]
        report = LeaseReport(
            lease=lease,
            spec=found.terms.order.spec,
            requester=found.terms.requester,
            status=found.status,
            rate=found.rate or 0,
            note=self.note,
            containers=(ContainerReport("page", 0, "running", started=1),),
        )
        return 200, report.to_json()

    def _challenged(self, lease: bytes, body: Mapping[str, str]) -> tuple[int, Any]:
        if not self.answers:
            return self._refused(Code.CHALLENGE_FAILED)
        step, nonce = Step(body["step"]), hex32(body["nonce"])
        if step is Step.FILL:
            chain = leases.contract(self.market)
            named = Named(self.market.chain.chain_id, chain.address, self.owner, lease)
            work = work_from_json(body["work"])
            self._examined[lease] = Respondent(named, work, 0, quick_engine(), HostMemory)
        one = self._examined[lease]
        answer: Any
        if step is Step.FILL:
            answer = {"filled": [one.fill(nonce)]}
        elif step is Step.WORK:
            done = one.work(nonce) if self.honest else bytes(32)
            answer = {"commitments": [done.hex()]}
            if not self.honest:
                one.work(nonce)
        elif step is Step.SWEEP:
            answer = {"sweeps": [[root.hex() for root in one.sweep(nonce)]]}
        else:
            answer = {"openings": [one.open(nonce).to_json()]}
        return 200, {"done": True, "progress": 1.0, "answer": answer}


@contextlib.contextmanager
def serving(agent: Agent, port: int) -> Iterator[None]:
    """Its API, and its life on the chain."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, document = agent.answer(self.command, self.path, body)
            data = b"" if self.command == "HEAD" else json.dumps(document).encode()
            self.send_response(status)
            if "error" in document:
                self.send_header("teraproof-error", document["error"]["code"])
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = _serve

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threads = [threading.Thread(target=run) for run in (server.serve_forever, agent.live)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        agent._stop.set()
        server.shutdown()
        for thread in threads:
            thread.join()
        server.server_close()


@dataclass
class LeaseStage:
    """The market and who acts on it."""

    home: Path
    anvil: Anvil
    market: Market
    tenant: Person
    stranger: Person

    @contextlib.contextmanager
    def agent(self, port: int, **changes: Any) -> Iterator[Agent]:
        """A new provider with its agent."""
        owner, operator = Account.create(), Account.create()
        for key in (owner, operator):
            self.anvil.set_balance(key.address, 10**18)
        market, ui = self.market, QuietUi()
        tokens.send_stake(market, sender_of(self.anvil, 0), ui, str(owner.address), 1_000 * TPF)
        said = messages.OperatorConsent(
            str(owner.address), str(operator.address), 0, market.now() + 3_600
        )
        url = f"http://127.0.0.1:{port}"
        consent = consents.Consent(said, messages.sign(market.staking_domain, said, operator), url)
        sender = Sender(market.chain, KeySigner(owner, "owner"))
        providers.register(
            market, sender, ui, consent, max_lock_per_order=500 * TPF, max_locked=900 * TPF
        )
        providers.delegate(market, sender, ui, str(owner.address), 1_000 * TPF)
        agent = replace(Agent(market, str(owner.address), operator, url), **changes)
        with serving(agent, port):
            yield agent

    def balance(self, account: str) -> int:
        """Payment token units of an account, in its wallet and in the contract."""
        credit = leases.contract(self.market).credit_of(account, "latest")
        return self.market.payment_balance(account) + credit

    def lease(self, name: str) -> Lease:
        """As the chain has it."""
        return leases.find(self.market, name)

    def wait(self, name: str, status: LeaseStatus) -> Lease:
        """The lease, once it is there."""
        end = time.monotonic() + 60
        while self.lease(name).status is not status:
            assert time.monotonic() < end
            time.sleep(0.1)
        return self.lease(name)


def deploy_leases(home: Path, anvil: Anvil) -> LeaseStage:
    """The local plan with a patient grace, and two people with money."""
    document = yaml.safe_load((ROOT / "deployments" / "params" / "local.yaml").read_text())
    document["contracts"]["Leases"] |= {"challenge_window": "10 minutes"}
    changed = home / "plan.yaml"
    changed.write_text(yaml.safe_dump(document))
    artifacts = compile_all()
    folder = home / "deployments"
    deploy(plan.load(changed, artifacts), artifacts, sender_of(anvil, 0), folder)
    market = open_market(folder, chain_of(anvil))
    people = []
    for _ in range(2):
        key = Account.create()
        anvil.set_balance(key.address, 10**20)
        people.append(Person(home, anvil, key))
        people[-1].run("job", "list")  # writes its key file
        sender = Sender(market.chain, KeySigner(key, "tenant"))
        tokens.mint_payment(market, sender, QuietUi(), str(key.address), 1_000 * USD)
    return LeaseStage(home, anvil, market, *people)


# A core for at most $0.90 an hour; the provider of the tests asks $0.36 for one.
PLAIN = SMALL.replace("amount: 150", "amount: 1500").replace("units: 0.5", "units: 1")

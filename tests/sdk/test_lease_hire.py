# SPDX-License-Identifier: Apache-2.0
"""`teraproof lease hire` on a real node: quotes, credentials, challenges, and what a break leaves
behind.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from scripts.market.ports import free_port
from teraproof.acceptance import policy
from teraproof.contracts.base import Event
from teraproof.contracts.leases import LeasesContract
from teraproof.errors import CommandError
from teraproof.market import lease_challenges, lease_specs, leases, sending
from teraproof.market.sending import Call, Sender, Signed
from teraproof.market.signers import KeySigner
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.lease_terms import LeaseStatus
from tests.sdk.lease_stage import OFFER, PLAIN, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil

SECRET = "a-token-that-nobody-else-may-have"
LOGIN = f"    credentials: {{host: registry.example.com, username: me, password: {SECRET}}}\n"
PRIVATE = PLAIN.replace("    expose:", f"{LOGIN}    expose:", 1).replace(
    "nginx:1.29", "registry.example.com/page:1"
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def providers(stage: LeaseStage) -> Iterator[tuple[Agent, Agent]]:
    with stage.agent(free_port()) as one, stage.agent(free_port()) as other:
        yield one, other


@pytest.fixture
def agent(providers: tuple[Agent, Agent]) -> Agent:
    for one in providers:
        one.forget()
    return providers[0]


@pytest.fixture
def other(agent: Agent, providers: tuple[Agent, Agent]) -> Agent:
    return providers[1]


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path, PLAIN)


def written(folder: Path, text: str) -> str:
    path = folder / "deploy.yaml"
    path.write_text(text)
    return str(path)


def failed(stage: LeaseStage, *line: str) -> str:
    """What a command says whose lease came to nothing."""
    done = stage.tenant.run("lease", *line, *stage.tenant._options(("lease",)), "--json")
    assert done.exit_code == Exit.JOB_FAILED and Code.LEASE_FAILED in done.output, done.output
    return done.output


def test_hire__quoted_deposited_ready_challenged_confirmed(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    before = stage.balance(stage.tenant.address)
    shown = stage.tenant.json("lease", "hire", file, agent.owner, "--term", "1 hour")
    assert shown["status"] == "active" and shown["confirmed"] and shown["rate"] == "100"
    assert shown["endpoint"] == agent.url and shown["usd_per_hour"] == "0.360000"
    assert before - stage.balance(stage.tenant.address) == int(shown["deposit"]) == 360_000
    challenged = stage.tenant.json("lease", "challenge", shown["lease"])["challenges"]
    assert challenged[0]["passed"] and challenged[0]["decision"] == "keep"
    stage.tenant.json("lease", "close", shown["lease"])
    assert stage.tenant.json("lease", "list")["leases"] == []


def test_credentials__for_the_hired_provider_alone_and_after_it_was_hired(
    stage: LeaseStage, agent: Agent, other: Agent, tmp_path: Path
) -> None:
    agent.makes_ready = False
    file = written(tmp_path, PRIVATE)
    line = ("lease", "hire", file, agent.owner, "--timeout", "2")
    done = stage.tenant.run(*line, *stage.tenant._options(line))
    assert done.exit_code == Exit.UNAVAILABLE and "is still assigned" in done.output
    assert SECRET not in done.output
    (lease,) = agent.logins
    assert agent.logins[lease].by_service["page"].password == SECRET and not other.logins
    asked = next(at for at, said in enumerate(agent.seen) if said.endswith("/quotes"))
    given = next(at for at, said in enumerate(agent.seen) if said.endswith("/credentials"))
    assert asked < given
    for path in stage.home.rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    # The same command goes on with the same lease, and so does `lease wait`, by the file it knows.
    agent.logins.clear()
    agent.makes_ready = True
    shown = stage.tenant.json("lease", "wait", "0x" + lease.hex())
    assert shown["confirmed"] and lease in agent.logins
    stage.tenant.json("lease", "close", shown["lease"])


def test_false_answer__rejected_with_the_reason_and_nothing_paid(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    agent.honest = False
    before = stage.balance(stage.tenant.address)
    said = failed(stage, "hire", file, agent.owner)
    assert "wrong_entry" in said
    assert stage.balance(stage.tenant.address) == before
    (last,) = stage.tenant.json("lease", "list", "--all")["leases"][-1:]
    assert last["ending"] == "rejected" and last["rent"] == "0"


def test_promise_that_is_not_kept__rejected(
    stage: LeaseStage, agent: Agent, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_challenges, "PAUSE", 0.1)
    monkeypatch.setattr(policy, "SECONDS", 0.01)  # what a device of that speed needs for the rounds
    said = failed(stage, "hire", file, agent.owner, "--min-score", "1 TOPS")
    assert "too_slow" in said


def test_silence__a_second_try_and_then_rejected(
    stage: LeaseStage, agent: Agent, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_challenges, "PAUSE", 0.1)
    agent.answers = False
    said = failed(stage, "hire", file, agent.owner)
    assert "no_answer" in said
    asked = [line for line in agent.seen if line.startswith("POST") and "challenge" in line]
    assert len(asked) == 2


def test_challenge__all_leases_of_the_provider_at_one_time(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    tenant = stage.tenant
    first = tenant.json("lease", "hire", file, agent.owner)["lease"]
    second = tenant.json("lease", "hire", file, agent.owner)["lease"]
    found = tenant.json("lease", "challenge", second)["challenges"]
    assert [one["lease"] for one in found] == [second, first]
    agent.honest = False
    said = failed(stage, "challenge", first, "--act")
    assert "wrong_entry" in said
    for lease in (first, second):
        closed = tenant.json("lease", "status", lease)
        assert closed["ending"] == "by_tenant"


# ---------------------------------------------------------------------- quotes


def test_quote__asked_for_again_while_the_images_are_fetched(
    stage: LeaseStage, agent: Agent, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_specs, "_AGAIN", 0.01)
    agent.fetches = 3
    shown = stage.tenant.json("lease", "hire", file, agent.owner)
    assert shown["confirmed"] and agent.fetches == 0
    stage.tenant.json("lease", "close", shown["lease"])


def test_quote__an_agent_that_cannot_ask_the_chain_for_a_moment__asked_again(
    stage: LeaseStage, agent: Agent, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_specs, "_AGAIN", 0.01)
    agent.fetches, agent.waits = 2, Code.CHAIN_UNAVAILABLE
    shown = stage.tenant.json("lease", "hire", file, agent.owner)
    assert shown["confirmed"] and agent.fetches == 0
    stage.tenant.json("lease", "close", shown["lease"])
    agent.fetches = 1
    monkeypatch.setitem(lease_specs._PATIENCE, Code.CHAIN_UNAVAILABLE, -1.0)
    found, _ = stage.tenant.fails(Exit.UNAVAILABLE, "lease", "hire", file, agent.owner)
    assert found == Code.CHAIN_UNAVAILABLE


@pytest.mark.parametrize(
    ("change", "kind", "code"),
    [
        ({"rate": 251}, Exit.REFUSED, Code.PRICE_TOO_LOW),
        ({"refuses": Code.DEVICES_TAKEN}, Exit.REFUSED, Code.DEVICES_TAKEN),
        ({"refuses": Code.QUOTES_NOT_OFFERED}, Exit.REFUSED, Code.QUOTES_NOT_OFFERED),
    ],
)
def test_quote_that_will_not_do__nothing_sent(
    stage: LeaseStage, agent: Agent, file: str, change: dict[str, Any], kind: Exit, code: Code
) -> None:
    for name, value in change.items():
        setattr(agent, name, value)
    found, _ = stage.tenant.fails(kind, "lease", "hire", file, agent.owner)
    assert found == code


def test_quote_of_another_provider__nothing_sent(
    stage: LeaseStage, agent: Agent, other: Agent, file: str
) -> None:
    line = ("lease", "hire", file, agent.owner, "--endpoint", other.url)
    code, said = stage.tenant.fails(Exit.FAULT, *line)
    assert code == Code.QUOTE_INVALID and other.owner in said


def test_not_a_provider__exit_of_input_and_nothing_sent(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    _, said = stage.tenant.fails(Exit.INPUT, "lease", "hire", file, stage.stranger.address)
    assert "is not a registered provider" in said
    done = stage.tenant.run("lease", "hire", file, "0x12", *stage.tenant._options(("lease",)))
    assert done.exit_code == Exit.INPUT and "0x12" in done.output


# ---------------------------------------------------------------------- offers


def test_offers__every_provider_with_its_price_or_the_first_reason(
    stage: LeaseStage, agent: Agent, other: Agent, file: str
) -> None:
    other.offer = replace(OFFER, outbound=False, most_term=60)
    found = stage.tenant.json("lease", "offers", file)["offers"]
    assert [one["provider"] for one in found] == [agent.owner, other.owner]
    assert found[0]["takes_it"] and found[0]["usd_per_hour"] == "0.360000"
    assert [one["code"] for one in found[1]["refusals"]] == [
        Code.NETWORK_NOT_OFFERED,
        Code.LIMIT_EXCEEDED,
    ]
    shown = stage.tenant.shown("lease", "offers", file)
    assert "gives leases no way to the internet" in shown and "$0.36 an hour" in shown


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("--region", "us-west", Code.ATTRIBUTE_MISSING),
        ("--bandwidth", "2000", Code.ATTRIBUTE_MISSING),
        ("--vram", "24", Code.MACHINE_UNFIT),
        ("--interconnect", "sxm", Code.MACHINE_UNFIT),
        ("--max-price", "0.30", Code.PRICE_TOO_LOW),
    ],
)
def test_filters__who_does_not_fit_is_named_with_the_reason(
    stage: LeaseStage, agent: Agent, file: str, option: str, value: str, code: Code
) -> None:
    found = stage.tenant.json("lease", "offers", file, option, value)["offers"]
    assert all(not one["takes_it"] for one in found)
    assert {one["refusals"][0]["code"] for one in found} == {code}


def test_filters__what_fits_is_taken(stage: LeaseStage, agent: Agent, file: str) -> None:
    line = ("--region", "EU-north", "--bandwidth", "1000", "--max-price", "0.36")
    found = stage.tenant.json("lease", "offers", file, *line)["offers"]
    assert all(one["takes_it"] for one in found)


def test_nobody_takes_it__each_reason_and_nothing_sent(
    stage: LeaseStage, agent: Agent, other: Agent, file: str
) -> None:
    for one in (agent, other):
        one.offer = replace(OFFER, free=replace(OFFER.free, cpu_millis=0))
    code, said = stage.tenant.fails(Exit.REFUSED, "lease", "open", file)
    assert code == Code.NOBODY_TAKES_IT and "nothing was sent" in said
    done = stage.tenant.run("lease", "open", file, *stage.tenant._options(("lease",)), "--json")
    assert done.output.count("cores_taken") == 2


def test_price__the_dearest_that_an_offer_asks_is_what_is_shown(
    stage: LeaseStage, agent: Agent, other: Agent, file: str
) -> None:
    agent.offer = replace(OFFER, prices=replace(OFFER.prices, core=Fraction(1, 3)))
    found = stage.tenant.json("lease", "offers", file)["offers"]
    assert found[0]["provider"] == agent.owner
    # 92.59 units a second: 93, which are $0.3348 an hour.
    assert found[0]["rate"] == "93" and found[0]["usd_per_hour"] == "0.334800"


def test_it_ends_while_it_is_read__seen_whole_as_it_was(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    lease = stage.tenant.json("lease", "hire", file, agent.owner)["lease"]
    opened, read, left = leases.find(stage.market, lease).opened, LeasesContract.find_any, [lease]

    def find_any(self: LeasesContract, *given: Any, **more: Any) -> list[Event]:
        found = read(self, *given, **more)
        while left:
            stage.tenant.json("lease", "close", left.pop())
        return found

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LeasesContract, "find_any", find_any)
        seen = leases.current(stage.market, opened)
    assert (seen.status, seen.closed) == (LeaseStatus.ACTIVE, None)
    now = leases.current(stage.market, opened)
    assert now.status is LeaseStatus.NONE and now.closed is not None
    stage.tenant.json("lease", "withdraw")


def test_transaction_that_fails_in_its_block__says_why(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    """Two that would both pass, and the first one ends the lease."""
    lease = leases.find(
        stage.market, stage.tenant.json("lease", "hire", file, agent.owner)["lease"]
    )
    chain = leases.contract(stage.market)
    sender = Sender(stage.market.chain, KeySigner(stage.tenant.key, "tenant"))
    call = Call("close", chain.address, chain.close(lease.terms))
    nonce = stage.anvil.nonce(sender.address)
    stage.anvil.set_automine(False)
    try:
        second = sender.start(call, nonce=nonce + 1)
        first = sender.start(call, nonce=nonce)
    finally:
        stage.anvil.set_automine(True)
        stage.anvil.mine()
    sender.wait(first, 1)
    with pytest.raises(CommandError, match=r"failed in block \d+ \(leases: not active\); the"):
        sender.wait(second, 1)
    stage.tenant.json("lease", "withdraw")


# ---------------------------------------------------------------------- breaks


class Killed(BaseException):
    """The process dies here."""


def dies(monkeypatch: pytest.MonkeyPatch, at: str, *, after: bool) -> None:
    """The command dies at a transaction: before it is sent, or once it is on its way."""
    start = Sender.start

    def run(self: Sender, call: Call, **more: Any) -> Signed:
        if call.label != at:
            return start(self, call, **more)
        if after:
            start(self, call, **more)
        raise Killed

    monkeypatch.setattr(sending.Sender, "start", run)


def broken_off(stage: LeaseStage, *line: str) -> None:
    with pytest.raises(Killed):
        stage.tenant.run("lease", *line, *stage.tenant._options(("lease",)))


@pytest.mark.parametrize(
    ("name", "label"), [("open", "open the lease"), ("hire", "hire")], ids=["open", "hire"]
)
@pytest.mark.parametrize("after", [False, True], ids=["deposited", "sent"])
def test_break__the_next_command_finds_it_and_pays_once(
    stage: LeaseStage, agent: Agent, file: str, name: str, label: str, after: bool
) -> None:
    line = (name, file, *([agent.owner] if name == "hire" else []))
    tenant = stage.tenant
    wallet, count = stage.market.payment_balance(tenant.address), len(leases.find_all(stage.market))
    with pytest.MonkeyPatch.context() as patched:
        dies(patched, label, after=after)
        broken_off(stage, *line)
    paid = wallet - stage.market.payment_balance(tenant.address)
    assert paid > 0  # what it had put into the market
    shown = tenant.json("lease", *line)
    assert shown["status"] == "active" and int(shown["deposit"]) == paid
    assert stage.market.payment_balance(tenant.address) == wallet - paid
    assert len(leases.find_all(stage.market)) == count + 1
    again = tenant.json("lease", *line)  # that one was brought to its end: another one
    assert again["lease"] != shown["lease"]
    for one in (shown, again):
        tenant.json("lease", "close", one["lease"])
    tenant.json("lease", "withdraw")


def test_break__while_the_order_waits_to_be_mined_nothing_is_sent_twice(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    agent.takes = False
    stage.anvil.set_automine(False)
    try:
        with pytest.MonkeyPatch.context() as patched:
            dies(patched, "allow", after=True)  # nothing of that name: it is broken off below
            patched.setattr(sending.Sender, "wait", _die)
            broken_off(stage, "open", file, "--funds", "allowance")
        code, said = stage.tenant.fails(Exit.UNAVAILABLE, "lease", "open", file)
        assert code == Code.COMMAND_RUNNING and "not mined yet" in said
    finally:
        stage.anvil.set_automine(True)
        stage.anvil.mine()


def _die(*_: Any, **__: Any) -> Any:
    raise Killed


def test_lost_notes__the_lease_is_still_there(stage: LeaseStage, agent: Agent, file: str) -> None:
    lease = stage.tenant.json("lease", "hire", file, agent.owner)["lease"]
    for path in sorted((stage.home / "state").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (listed,) = stage.tenant.json("lease", "list")["leases"]
    assert listed["lease"] == lease and listed["name"] is None
    assert stage.wait(lease, LeaseStatus.ACTIVE).state.confirmed
    stage.tenant.json("lease", "close", lease)

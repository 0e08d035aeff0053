# SPDX-License-Identifier: Apache-2.0
"""`teraproof lease` on a real node: auctions, what a lease costs, and every way to its end."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.market.ports import free_port
from teraproof.market import lease_notes, leases, tokens
from teraproof.market.sending import Call, LastingSender, Sender, hold
from teraproof.market.signers import KeySigner
from teraproof.market.ui import QuietUi
from teraproof.protocol import allow_list
from teraproof.protocol.errors import Code, Exit
from teraproof.protocol.lease_terms import LeaseStatus
from teraproof.protocol.terms import ZERO_WORD
from teraproof.sdl.leases import read
from tests.sdk.lease_stage import COLLATERAL, PLAIN, TPF, Agent, LeaseStage, deploy_leases
from tests.support.anvil import Anvil

HOUR = 3_600


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeaseStage]:
    with Anvil() as anvil:
        yield deploy_leases(tmp_path_factory.mktemp("home"), anvil)


@pytest.fixture(scope="module")
def provider(stage: LeaseStage) -> Iterator[Agent]:
    with stage.agent(free_port()) as running:
        yield running


@pytest.fixture
def agent(provider: Agent) -> Agent:
    provider.forget()
    return provider


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "deploy.yaml"
    path.write_text(PLAIN)
    return str(path)


def opened(stage: LeaseStage, file: str, *options: str) -> dict[str, Any]:
    """A lease that nobody has to be waited for."""
    found: dict[str, Any] = stage.tenant.json("lease", "open", file, "--no-wait", *options)
    return found


def running(stage: LeaseStage, file: str, *options: str) -> str:
    """The id of an active and confirmed lease."""
    return str(stage.tenant.json("lease", "open", file, *options)["lease"])


def test_auction__opened_taken_challenged_confirmed_closed_withdrawn(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    tenant = stage.tenant
    before = stage.balance(tenant.address)
    shown = tenant.json("lease", "open", file, "--term", "2 hours")
    assert shown["status"] == "active" and shown["confirmed"] and shown["provider"] == agent.owner
    lease = stage.lease(shown["lease"])
    # The offer starts where the provider asks, and all that left the tenant is what was shown.
    assert lease.terms.order.start_rate == 100 <= int(shown["rate"]) < int(shown["max_rate"])
    assert before - stage.balance(tenant.address) == int(shown["deposit"]) == 250 * 2 * HOUR
    assert "PUT /v1/leases/specs/" + lease.terms.order.spec.hex() in agent.seen

    stage.anvil.increase_time(40)
    agent.beat()
    (listed,) = tenant.json("lease", "list")["leases"]
    assert listed["lease"] == shown["lease"] and listed["seconds"] >= 40
    told = tenant.json("lease", "status", shown["lease"][:12])
    assert told["agent"]["containers"][0]["status"] == "running"

    closed = tenant.json("lease", "close", shown["lease"])
    assert closed["status"] == "closed" and closed["ending"] == "by_tenant"
    assert int(closed["rent"]) == closed["seconds"] * int(shown["rate"])
    assert int(closed["refund"]) == int(shown["deposit"]) - int(closed["rent"])
    assert tenant.json("lease", "withdraw")["payment"] == closed["refund"]
    assert before - stage.balance(tenant.address) == int(closed["rent"])
    assert tenant.json("lease", "list")["leases"] == []
    listed = tenant.json("lease", "list", "--all")["leases"]
    assert shown["lease"] in [one["lease"] for one in listed]


def test_open__the_total_stands_before_the_question(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    agent.takes = False
    shown = stage.tenant.shown("lease", "open", file, "--term", "10 hours", "--no-wait")
    assert "$0.36 an hour, rising to $0.90 an hour within 10 min" in shown
    total = shown.index("total, everything included")
    assert total < shown.index("open the lease:") and "$9.00" in shown[total : total + 80]
    (lease,) = stage.tenant.json("lease", "list")["leases"]
    assert lease["status"] == "open" and lease["provider"] is None
    cancelled = stage.tenant.json("lease", "cancel", lease["lease"])
    assert cancelled["status"] == "cancelled" and cancelled["refund"] == str(250 * 10 * HOUR)
    stage.tenant.json("lease", "withdraw")


def test_top_up__adds_time_and_moves_no_end(stage: LeaseStage, agent: Agent, file: str) -> None:
    tenant = stage.tenant
    price = ("--start-price", "0.90")  # what the file pays: nothing rises
    lease = running(stage, file, "--term", "3 hours", "--pay-for", "1 hour", *price)
    before = tenant.json("lease", "status", lease)
    after = tenant.json("lease", "top-up", lease, "--pay-for", "30 minutes")
    assert int(after["deposit"]) - int(before["deposit"]) == int(before["rate"]) * 1_800
    assert after["ends_at"] == before["ends_at"]
    tenant.json("lease", "top-up", lease, "--amount", "0.01")
    whole = tenant.json("lease", "top-up", lease)
    assert int(whole["deposit"]) == int(before["rate"]) * 3 * HOUR
    code, said = tenant.fails(Exit.REFUSED, "lease", "top-up", lease)
    assert "whole term already" in said and code == Code.CONTRACT_REFUSED
    tenant.fails(Exit.INPUT, "lease", "top-up", lease, "--amount", "1", "--pay-for", "1h")
    tenant.json("lease", "close", lease)


def test_not_ready_in_time__refund_and_the_collateral_is_seized(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    agent.makes_ready = False
    tenant, before = stage.tenant, stage.balance(stage.tenant.address)
    lease = opened(stage, file, "--collateral", "20", "--ready-within", "5 minutes")["lease"]
    stage.wait(lease, LeaseStatus.ASSIGNED)
    code, said = tenant.fails(Exit.REFUSED, "lease", "expire", lease)
    assert "can still be ready until" in said and code == Code.CONTRACT_REFUSED
    stage.anvil.increase_time(301)
    done = tenant.run("lease", "wait", lease, *tenant._options(("lease",)), "--json")
    assert done.exit_code == Exit.JOB_FAILED, done.output
    assert Code.LEASE_FAILED in done.output and "not ready in time" in done.output
    assert stage.balance(tenant.address) == before
    # Four fifths as the tenant, and half of the rest for having shown it.
    assert tenant.json("lease", "withdraw")["tpf"] == str(COLLATERAL * 9 // 10)


def test_silent_provider__accused_and_closed_by_anyone(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    lease = running(stage, file, "--term", "1 day", "--collateral", "20")
    stranger = stage.stranger
    code, said = stranger.fails(Exit.REFUSED, "lease", "close", lease)
    assert "is running, and belongs to" in said and code == Code.CONTRACT_REFUSED
    code, said = stranger.fails(Exit.REFUSED, "lease", "accuse", lease)
    assert "cannot be accused before" in said
    chain = leases.contract(stage.market)
    stage.anvil.increase_time(chain.abandon("latest") + 1)
    accused = stranger.json("lease", "accuse", lease)
    assert accused["accused_at"] is not None and accused["status"] == "active"
    stage.anvil.increase_time(chain.max_gap("latest") + 1)
    closed = stranger.json("lease", "close", lease)
    assert closed["ending"] == "abandoned"
    # Paid are the seconds that one heartbeat was good for, and the stranger has the bounty.
    assert closed["seconds"] <= chain.max_gap("latest")
    assert int(stranger.json("lease", "withdraw")["tpf"]) == 2 * TPF
    stage.tenant.json("lease", "withdraw")


def test_over__settled_and_closed_by_anyone(stage: LeaseStage, agent: Agent, file: str) -> None:
    lease = running(stage, file, "--term", "20 minutes")
    stage.anvil.increase_time(30)
    agent.beat()
    settled = stage.stranger.json("lease", "settle", lease)
    assert settled["done"] == "settle" and settled["status"] == "active"
    stage.anvil.increase_time(1_200)
    closed = stage.stranger.json("lease", "close", lease)
    assert closed["ending"] == "over"


def test_leave__only_its_operator(stage: LeaseStage, agent: Agent, file: str) -> None:
    lease = running(stage, file, "--term", "1 hour")
    _, said = stage.stranger.fails(Exit.REFUSED, "lease", "leave", lease)
    assert agent.operator.address in said
    stage.tenant.json("lease", "close", lease)


def test_grace__confirmed_once_and_then_no_way_back(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    lease = running(stage, file, "--by-hand")
    held = stage.tenant.json("lease", "status", lease)
    assert held["confirmed"] is False and held["grace_until"] is not None
    code, said = stage.stranger.fails(Exit.REFUSED, "lease", "reject", lease)
    assert code == Code.NOT_TENANT
    stage.tenant.json("lease", "confirm", lease)
    code, said = stage.tenant.fails(Exit.REFUSED, "lease", "reject", lease)
    assert code == Code.TIME_OVER and "was confirmed already" in said
    stage.tenant.json("lease", "close", lease)


def test_reject_by_hand__for_nothing(stage: LeaseStage, agent: Agent, file: str) -> None:
    before = stage.balance(stage.tenant.address)
    lease = running(stage, file, "--by-hand")
    stage.anvil.increase_time(100)
    agent.beat()
    done = stage.tenant.json("lease", "reject", lease)
    assert done["ending"] == "rejected" and done["rent"] == "0"
    assert stage.balance(stage.tenant.address) == before


def test_nobody_takes_it_in_time__taken_back(stage: LeaseStage, agent: Agent, file: str) -> None:
    agent.takes = False
    tenant, before = stage.tenant, stage.balance(stage.tenant.address)
    lease = opened(stage, file)["lease"]
    code, _ = tenant.fails(Exit.UNAVAILABLE, "lease", "wait", lease, "--timeout", "1")
    assert code == Code.NOT_READY
    stage.anvil.increase_time(600 + leases.contract(stage.market).open_margin("latest") + 60)
    done = tenant.run("lease", "wait", lease, *tenant._options(("lease",)), "--json")
    assert done.exit_code == Exit.JOB_FAILED and Code.LEASE_FAILED in done.output, done.output
    assert stage.lease(lease).word == "cancelled"
    assert stage.balance(tenant.address) == before


def test_wait__only_for_its_tenant(stage: LeaseStage, agent: Agent, file: str) -> None:
    agent.takes = False
    lease = opened(stage, file)["lease"]
    code, _ = stage.stranger.fails(Exit.REFUSED, "lease", "wait", lease)
    assert code == Code.NOT_TENANT
    _, said = stage.tenant.fails(Exit.REFUSED, "lease", "close", lease)
    assert "lease cancel" in said
    stage.tenant.json("lease", "cancel", lease)


def test_two_orders_of_one_file_at_a_time__the_second_is_told(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    (wanted,) = read(PLAIN.encode())
    where = leases.notes_of(stage.market, stage.tenant.address)
    with lease_notes.alone(where, "order", wanted.spec.digest()):
        code, _ = stage.tenant.fails(Exit.UNAVAILABLE, "lease", "open", file)
    assert code == Code.COMMAND_RUNNING


def test_lasting_command__lets_others_send_and_waits_for_them(stage: LeaseStage) -> None:
    market, tenant = stage.market, stage.tenant
    sender = LastingSender(market.chain, KeySigner(tenant.key, "tenant"))
    call = Call("allow", market.payment.address, market.payment.approve(tenant.address, 1))
    sent: list[int] = []
    with hold(market.chain, tenant.address):
        thread = threading.Thread(target=lambda: sent.append(sender.send(call).status))
        thread.start()
        thread.join(1)
        assert not sent
    thread.join(30)
    assert sent == [1]
    with hold(market.chain, tenant.address):
        pass  # it has let go


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--term", "x"), "--term"),
        (("--term", "5 minutes"), "can be rejected"),
        (("--term", "400 days"), "the longest is"),
        (("--pay-for", "1 minute"), "the least is"),
        (("--pay-for", "2 days"), "more than the whole term"),
        (("--notice", "2 days"), "notice is longer"),
        (("--max-price", "0.001"), "pays for nothing"),
        (("--start-price", "5"), "--start-price"),
        (("--auction", "31 days", "--start-price", "0.1"), "auction is too long"),
        (("--group", "nowhere"), "asks for no lease"),
        (("--reliability", "101 %"), "--reliability"),
        (("--ready-within", "0"), "some time to be ready"),
    ],
)
def test_wrong_input__one_line_exit_2_nothing_sent(
    stage: LeaseStage, agent: Agent, file: str, options: tuple[str, ...], said: str
) -> None:
    extra = () if "--reliability" in options else ("--wait-for-provider",)
    _, line = stage.tenant.fails(Exit.INPUT, "lease", "open", file, *options, *extra)
    assert said in line


@pytest.mark.parametrize("name", ["0x12", "zz", "0x" + "12" * 40])
def test_no_such_name__exit_2(stage: LeaseStage, name: str) -> None:
    stage.tenant.fails(Exit.INPUT, "lease", "status", name)


def test_unknown_lease__said(stage: LeaseStage) -> None:
    code, said = stage.tenant.fails(Exit.REFUSED, "lease", "status", "0x" + "12" * 32)
    assert code == Code.LEASE_UNKNOWN and "see lease list" in said


def test_files__several_leases_one_total_and_a_price_in_akt_has_to_be_named(
    stage: LeaseStage, agent: Agent, tmp_path: Path
) -> None:
    path = tmp_path / "two.yaml"
    more = "    other: {pricing: {page: {denom: uact, amount: 1500}}}\n"
    text = PLAIN.replace("  placement:\n", "  placement:\n" + more)
    path.write_text(text + "    other: {profile: page, count: 1}\n")
    _, said = stage.tenant.fails(Exit.INPUT, "lease", "hire", str(path), agent.owner)
    assert "anywhere, other" in said and "--group" in said
    found = stage.tenant.json("lease", "open", str(path), "--term", "1 hour")
    assert [one["name"] for one in found["leases"]] == ["anywhere", "other"]
    assert all(one["confirmed"] for one in found["leases"])
    assert found["total"] == str(sum(int(one["deposit"]) for one in found["leases"]))
    for one in found["leases"]:
        stage.tenant.json("lease", "close", one["lease"])
    one = opened(stage, str(path), "--group", "other")
    assert one["name"] == "other"
    stage.wait(one["lease"], LeaseStatus.ACTIVE)
    stage.tenant.json("lease", "close", one["lease"])
    path.write_text(PLAIN.replace("uact", "uakt"))
    _, said = stage.tenant.fails(Exit.INPUT, "lease", "open", str(path))
    assert "--akt-usd" in said
    path.write_text("version: '2.0'\n")
    code, _ = stage.tenant.fails(Exit.INPUT, "lease", "open", str(path))
    assert code == Code.SDL_INVALID
    stage.tenant.fails(Exit.INPUT, "lease", "open", str(tmp_path / "missing.yaml"))


def test_files__a_later_lease_that_nobody_takes__the_first_is_not_opened(
    stage: LeaseStage, agent: Agent, tmp_path: Path
) -> None:
    path = tmp_path / "two.yaml"
    more = "    other: {pricing: {page: {denom: uact, amount: 10}}}\n"
    text = PLAIN.replace("  placement:\n", "  placement:\n" + more)
    path.write_text(text + "    other: {profile: page, count: 1}\n")
    before = stage.balance(stage.tenant.address)
    code, _ = stage.tenant.fails(Exit.REFUSED, "lease", "open", str(path))
    assert code == Code.NOBODY_TAKES_IT
    assert stage.balance(stage.tenant.address) == before and not agent.specs


@pytest.mark.parametrize("funds", ["auto", "permit", "allowance", "credit"])
def test_files__money_for_the_first_alone__it_is_not_opened(
    stage: LeaseStage, agent: Agent, tmp_path: Path, funds: str
) -> None:
    path = tmp_path / "two.yaml"
    more = "    other: {pricing: {page: {denom: uact, amount: 1500}}}\n"
    text = PLAIN.replace("  placement:\n", "  placement:\n" + more)
    path.write_text(text + "    other: {profile: page, count: 1}\n")
    line = ("lease", "open", str(path), "--term", "1 hour", "--funds", funds)
    poor, market = stage.stranger, stage.market
    first, both = 250 * HOUR, 500 * HOUR
    sender = Sender(market.chain, KeySigner(poor.key, "tenant"))
    chain = leases.contract(market)

    def give(wallet: int, credit: int) -> None:
        if chain.credit_of(poor.address, "latest"):
            poor.json("lease", "withdraw")
        held = market.payment_balance(poor.address)
        if held > wallet + credit:
            bank = market.payment.transfer(stage.tenant.address, held - wallet - credit)
            sender.send(Call("move", market.payment.address, bank))
        else:
            tokens.mint_payment(market, sender, QuietUi(), poor.address, wallet + credit - held)
        if credit:
            approve = market.payment.approve(chain.address, credit)
            sender.send(Call("allow", market.payment.address, approve))
            sender.send(Call("deposit", chain.address, chain.deposit(credit)))

    there, few = ((0, first), (0, both)) if funds == "credit" else ((first, 0), (both, 0))
    give(*there)
    code, said = poor.fails(Exit.REFUSED, *line)
    assert code == Code.FUNDS_MISSING and "1.8 tUSD together; nothing was sent" in said
    if funds == "auto":  # from its credit and its wallet: each is enough for one, and for no other
        give(first - 1, first)
        code, _ = poor.fails(Exit.REFUSED, *line)
        assert code == Code.FUNDS_MISSING
        give(first, first)
    else:
        give(*few)
    stage.anvil.set_balance(poor.address, 10**9)
    code, said = poor.fails(Exit.REFUSED, *line)
    assert code == Code.GAS_MISSING and "all 2 of them" in said
    stage.anvil.set_balance(poor.address, 10**20)
    opened = poor.json(*line)["leases"]
    assert [one["name"] for one in opened] == ["anywhere", "other"]
    for one in opened:
        poor.json("lease", "close", one["lease"])


# ------------------------------------------------------------------ for some providers alone


def test_allow__listed_with_others__the_order_is_for_them_and_its_specification_names_them(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    other = "0x" + "2" * 40
    shown = opened(stage, file, "--allow", f"{other},{agent.owner}")
    order = stage.lease(shown["lease"]).terms.order
    assert order.allow_root == allow_list.root([other, agent.owner]) != ZERO_WORD
    (sent,) = (json.loads(one) for name, one in agent.specs.items() if name == order.spec.hex())
    assert sent["allow"] == list(allow_list.ordered([other, agent.owner]))
    stage.tenant.json("lease", "cancel", shown["lease"])


def test_allow__nobody_that_answers_is_listed__refused_by_name_before_money_moves(
    stage: LeaseStage, agent: Agent, file: str
) -> None:
    line = ("lease", "open", file, "--allow", "0x" + "2" * 40)
    before = stage.balance(stage.tenant.address)
    done = stage.tenant.run(*line, *stage.tenant._options(line))
    assert done.exit_code != 0 and "is not on the order's list" in done.output
    assert stage.balance(stage.tenant.address) == before


@pytest.mark.parametrize("allowed", ["", "0x12", f"0x{'2' * 40},", "me"])
def test_allow__no_addresses__one_line_exit_2(stage: LeaseStage, file: str, allowed: str) -> None:
    _, line = stage.tenant.fails(Exit.INPUT, "lease", "open", file, "--allow", allowed)
    assert "--allow" in line

# SPDX-License-Identifier: Apache-2.0
"""Owners, delegators and tenants on a deployed market; the operator is played by its key."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount

from teraproof.errors import CommandError, LocalError, WrongInput
from teraproof.market import consents, credits, endings, jobs, packages, providers, tokens
from teraproof.market import registry as registries
from teraproof.market.conditions import protection
from teraproof.market.funds import Funds
from teraproof.market.market import open_market
from teraproof.protocol import messages
from teraproof.protocol.channels import CHANNELS
from teraproof.protocol.terms import Judged, Status
from tests.scripts.stage import ENDPOINT, TPF, USD, Stage
from tests.support.anvil import ROOT
from tests.support.signatures import encodings

# ---------------------------------------------------------------------- the contracts


def test_market__of_the_plan__one_score_for_jobs_and_leases(stage: Stage) -> None:
    market = stage.market
    assert market.leases is not None
    assert market.leases.address == market.registry.address("Leases")
    # Jobs sees what leases leave of a score, and leases see what jobs have reserved.
    assert market.jobs.scores("latest") == market.leases.address
    assert market.leases.scores("latest") == market.benchmark.address
    assert market.leases.jobs("latest") == market.jobs.address
    assert market.channels is not None
    assert market.channels.address == CHANNELS


def test_market__file_of_a_deployment_before_leases__read_without_them(
    stage: Stage, tmp_path: Path
) -> None:
    registry = stage.market.registry.model_copy(deep=True)
    del registry.contracts["Leases"], registry.contracts["Channels"]
    registries.save(tmp_path, registry)
    market = open_market(tmp_path, stage.market.chain)
    assert market.leases is None
    assert market.channels is None
    assert market.jobs.address == stage.market.jobs.address


# ---------------------------------------------------------------------- providers


def test_register__valid_consent__provider_can_be_read(running: Stage) -> None:
    found = providers.read(running.market, running.owner.address)
    assert found.operator == running.operator.address
    assert found.payout == running.owner.address
    assert found.endpoint == ENDPOINT
    assert found.active == found.own == 600 * TPF
    assert found.lockable == 100 * TPF
    assert providers.read_all(running.market) == [found]
    providers.show(running.market, found, running.ui)
    assert any("600 TPF, of which own 600 TPF" in line for line in running.ui.lines)


def test_register__twice__one_line(running: Stage) -> None:
    with pytest.raises(CommandError, match="is registered already"):
        providers.register(
            running.market,
            running.owner,
            running.ui,
            running.consent(),
            max_lock_per_order=1,
            max_locked=1,
        )


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"owner": "0x" + "11" * 20}, "names the owner"),
        ({"expires": 1}, "not signed by its operator"),
        ({"signature": "0x00"}, "expected 65 or 64 bytes"),
        ({"signature": "0x" + "00 " * 65}, "expected hex digits"),
        ({"chain_id": 5}, "on chain 5, but this is"),
        ({"staking": "0x" + "11" * 20}, "but this is"),
        ({"operator": 5}, "not an address"),
    ],
)
def test_read_consent__does_not_fit__one_line(
    change: dict[str, Any], line: str, stage: Stage, tmp_path: Path
) -> None:
    consent = stage.consent()
    document = {
        "owner": consent.message.owner,
        "operator": consent.message.operator,
        "nonce": consent.message.nonce,
        "expires": consent.message.expires,
        "signature": "0x" + consent.signature.hex(),
        "chain_id": stage.market.chain.chain_id,
        "staking": stage.market.staking.address,
        "endpoint": ENDPOINT,
    }
    path = tmp_path / "consent.json"
    path.write_text(json.dumps(document))
    assert consents.read(path, stage.market, stage.owner.address) == consent
    # However a wallet writes it, the contract gets the form that it takes.
    for form in encodings(consent.signature):
        path.write_text(json.dumps({**document, "signature": form}))
        assert consents.read(path, stage.market, stage.owner.address) == consent
    path.write_text(json.dumps({**document, **change}))
    with pytest.raises(LocalError, match=line):
        consents.read(path, stage.market, stage.owner.address)
    path.write_text("[]")
    with pytest.raises(CommandError, match="not a consent"):
        consents.read(path, stage.market, stage.owner.address)


def test_read_consent__used_already__one_line(running: Stage, tmp_path: Path) -> None:
    used = replace(running.consent().message, nonce=0)
    domain = running.market.staking_domain
    document = {
        **used.values(),
        "signature": "0x" + messages.sign(domain, used, running.operator).hex(),
        "chain_id": running.market.chain.chain_id,
        "staking": running.market.staking.address,
    }
    path = tmp_path / "consent.json"
    path.write_text(json.dumps(document))
    with pytest.raises(WrongInput, match=r"was used already: .* works for .* see provider status"):
        consents.read(path, running.market, running.owner.address)
    # The same numbers, but the key works for that owner no longer, or not yet.
    other: LocalAccount = Account.create()
    consent = running.consent(other)
    providers.set_operator(running.market, running.owner, running.ui, consent)
    with pytest.raises(WrongInput, match="was bound since, by this consent or another"):
        consents.read(path, running.market, running.owner.address)
    early = replace(used, nonce=7)
    document |= early.values() | {
        "signature": "0x" + messages.sign(domain, early, running.operator).hex()
    }
    path.write_text(json.dumps(document))
    with pytest.raises(WrongInput, match=r"its number is 7, 1 is due"):
        consents.read(path, running.market, running.owner.address)


def test_stake__more_than_held_or_no_provider__one_line(running: Stage) -> None:
    owner = running.owner.address
    with pytest.raises(CommandError, match="holds 400 TPF, but 401 TPF are needed"):
        providers.delegate(running.market, running.owner, running.ui, owner, 401 * TPF)
    with pytest.raises(CommandError, match="is not a registered provider"):
        providers.delegate(running.market, running.owner, running.ui, "0x" + "11" * 20, TPF)


def test_stake__nothing__the_least_is_told_and_is_enough(running: Stage) -> None:
    owner = running.owner.address
    with pytest.raises(WrongInput, match=r"AMOUNT: 0 TPF stake nothing; 0\.0{17}1 TPF are"):
        providers.delegate(running.market, running.owner, running.ui, owner, 0)
    providers.delegate(running.market, running.owner, running.ui, owner, 1)
    with pytest.raises(WrongInput, match="AMOUNT: 0 TPF take nothing out"):
        providers.unstake(running.market, running.owner, running.ui, owner, 0)


def test_unstake_and_withdraw__after_unbonding__everything_comes_back(running: Stage) -> None:
    market, ui = running.market, running.ui
    tokens.send_stake(market, running.deployer, ui, running.stranger.address, 50 * TPF)
    owner = running.owner.address
    providers.delegate(market, running.stranger, ui, owner, 50 * TPF)
    with pytest.raises(CommandError, match="has 50 TPF with"):
        providers.unstake(market, running.stranger, ui, owner, 51 * TPF)
    part = providers.unstake(market, running.stranger, ui, owner, 20 * TPF)
    assert part.ticket.assets == 20 * TPF
    with pytest.raises(CommandError, match="nothing to withdraw; a ticket is ready at"):
        providers.withdraw(market, running.stranger, ui, owner)
    providers.unstake(market, running.stranger, ui, owner)
    running.anvil.increase_time(market.staking.unbonding("latest") + 1)
    paid = providers.withdraw(market, running.stranger, ui, owner)
    assert paid.unbonded == 50 * TPF
    assert market.token_balance(running.stranger.address) == 50 * TPF


def test_unstake__own_stake_is_locked__says_how_much_and_what_to_do(running: Stage) -> None:
    market, ui, owner = running.market, running.ui, running.owner.address
    placed = running.post()
    running.accept(placed)
    with pytest.raises(CommandError) as caught:
        providers.unstake(market, running.owner, ui, owner)
    said = str(caught.value)
    assert "590 TPF of 600 TPF can be unstaked now, 10 TPF are locked" in said
    assert "when their jobs end" in said and "bond" not in said
    assert int(caught.value.details["free"]) // TPF in (589, 590)
    assert [lock["amount"] for lock in caught.value.details["locks"]] == [str(10 * TPF)]
    # What is free goes, although shares are rounded.
    assert providers.unstake(market, running.owner, ui, owner, 590 * TPF).ticket.assets // TPF > 588


def test_set_limits_and_endpoint__owner_only(running: Stage) -> None:
    market, ui = running.market, running.ui
    assert not any("no throughput can be proven" in line for line in ui.lines)
    providers.set_limits(market, running.owner, ui, 5 * TPF, 6 * TPF)
    assert any("below the bond of 50 TPF: no throughput can be proven" in line for line in ui.lines)
    providers.set_endpoint(market, running.owner, ui, "https://gpu.example/")
    found = providers.read(market, running.owner.address)
    assert (found.max_lock_per_order, found.max_locked) == (5 * TPF, 6 * TPF)
    assert found.endpoint == "https://gpu.example"
    with pytest.raises(CommandError, match="is not a registered provider"):
        providers.set_limits(market, running.stranger, ui, 1, 1)
    with pytest.raises(CommandError, match="--max-locked must be at least --max-lock-per-order"):
        providers.set_limits(market, running.owner, ui, 2, 1)
    with pytest.raises(CommandError, match=r"give an http\(s\) URL"):
        providers.set_endpoint(market, running.owner, ui, "ftp://gpu.example")


# ---------------------------------------------------------------------- jobs


def test_post__wallet_with_permit__escrowed_in_two_transactions(running: Stage) -> None:
    before = running.market.payment_balance(running.tenant.address)
    placed = running.post()
    assert len(placed.receipts) == 2
    assert running.market.payment_balance(running.tenant.address) == before - 2 * USD
    job = running.find(placed)
    assert job.status is Status.OPEN
    assert job.terms == placed.terms
    assert placed.terms.job_id() == placed.job
    jobs.show_list(
        running.market, jobs.find_all(running.market, running.tenant.address), running.ui
    )
    assert any("open until" in line for line in running.ui.lines)


def test_post__allowance_then_credit__one_transaction_each(running: Stage) -> None:
    market, tenant = running.market, running.tenant
    first = jobs.post(market, tenant, running.ui, running.order(), Funds.ALLOWANCE)
    assert len(first.receipts) == 2
    endings.cancel(market, tenant, running.ui, running.find(first))
    assert credits.credits_of(market, tenant.address).payment == 2 * USD
    second = running.post(nonce=2)
    assert len(second.receipts) == 1
    assert credits.credits_of(market, tenant.address).payment == 0


def test_post__what_cannot_work__one_line_and_nothing_sent(running: Stage) -> None:
    nonce = running.anvil.nonce(running.tenant.address)
    for changes, line in (
        ({"start_price": 0, "max_price": 0}, "the price is zero"),
        ({"start_price": 0, "max_price": 101 * USD}, "holds 100 tUSD, but 101 tUSD are needed"),
        ({"duration": 40 * 86_400}, "the longest is"),
        ({"duration": 0}, "is not possible here"),
        ({"auction": 31 * 86_400}, "auction is too long"),
    ):
        with pytest.raises(CommandError, match=line):
            running.post(**changes)
    with pytest.raises(CommandError, match="of credit, but 2 tUSD are needed"):
        jobs.post(running.market, running.tenant, running.ui, running.order(), Funds.CREDIT)
    assert running.anvil.nonce(running.tenant.address) == nonce


def test_job__attested_and_approved__provider_is_paid(running: Stage) -> None:
    market, ui = running.market, running.ui
    placed = running.post(start_price=2 * USD)
    with pytest.raises(CommandError, match="is open; only a job that is attested"):
        endings.approve(market, running.tenant, ui, running.find(placed))
    running.accept(placed)
    assert running.find(placed).status is Status.ASSIGNED
    with pytest.raises(CommandError, match="only after it can the job be expired"):
        endings.expire(market, running.stranger, ui, running.find(placed))
    attestation = running.attest(placed)
    job = running.find(placed)
    assert job.record().attestation == attestation.struct_hash()
    jobs.show(market, job, ui)
    assert any("ran 1 min 30 s" in line for line in ui.lines)
    with pytest.raises(CommandError, match="belongs to"):
        endings.approve(market, running.stranger, ui, job)
    with pytest.raises(CommandError, match=r"challenge window of .* ends"):
        endings.finalize(market, running.stranger, ui, job)
    endings.approve(market, running.tenant, ui, job)
    done = running.find(placed)
    assert done.status is Status.SETTLED
    assert done.settled is not None
    assert done.settled.paid == 1_980_000
    assert f"1.98 tUSD to {running.owner.address}, fee 0.02 tUSD" in ui.lines
    ui.lines.clear()
    jobs.show(market, done, ui)
    assert not any("deadline" in line for line in ui.lines)
    paid = providers.withdraw(market, running.owner, ui, running.owner.address)
    assert paid.credits.payment == 1_980_000
    with pytest.raises(CommandError, match="has nothing to withdraw"):
        credits.withdraw(market, running.tenant, ui)


def test_refuse__refusable_order__price_and_collateral_are_burned(running: Stage) -> None:
    market, ui = running.market, running.ui
    trusted, placed = running.post(), running.post(nonce=3, judged=Judged.REFUSABLE)
    assert any("not get it" in line for line in ui.lines)
    for job in (trusted, placed):
        running.accept(job)
    with pytest.raises(CommandError, match="only a job that is attested can be refused"):
        endings.refuse(market, running.tenant, ui, running.find(placed))
    running.attest(trusted)
    with pytest.raises(CommandError, match="was not posted with --judged refusable"):
        endings.refuse(market, running.tenant, ui, running.find(trusted))
    running.attest(placed)
    with pytest.raises(CommandError, match="belongs to"):
        endings.refuse(market, running.stranger, ui, running.find(placed))
    price = market.show_price(running.find(placed).accepted.price)  # type: ignore[union-attr]
    ui.lines.clear()
    endings.refuse(market, running.tenant, ui, running.find(placed))
    assert f"{price} burned" in ui.lines
    done = running.find(placed)
    assert done.status is Status.REFUSED and done.refused is not None
    assert done.refused.seized == 10 * TPF
    said = jobs.next_step(market, done, market.now())
    assert said == f"burned {price} and 10 TPF of the provider's collateral"


def test_refuse__window_over__one_line(running: Stage) -> None:
    placed = running.post(judged=Judged.REFUSABLE)
    running.accept(placed)
    running.attest(placed)
    running.anvil.increase_time(running.market.jobs.challenge_window("latest") + 2)
    with pytest.raises(CommandError, match="it can no longer be refused"):
        endings.refuse(running.market, running.tenant, running.ui, running.find(placed))


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({}, "it is paid all the same, whoever takes the job"),
        ({"allow_root": b"\x01" * 32}, "only the providers that you named can take the job"),
        ({"judged": Judged.REFUSABLE}, "you can burn the price and the collateral"),
        ({"collateral": 0}, "without a result in time the price comes back; if"),
        ({"collateral": 1}, "the price comes back with a part of the collateral; if"),
    ],
)
def test_protection__one_line_on_what_the_order_is_worth(
    stage: Stage, order: dict[str, Any], said: str
) -> None:
    line = protection(stage.order(**order))
    assert said in line and "\n" not in line


def test_protection__hired__the_choice_alone(stage: Stage) -> None:
    line = protection(stage.order(), hired=True)
    assert "nothing protects you but your choice of this provider" in line
    refusable = stage.order(judged=Judged.REFUSABLE)
    assert protection(refusable, hired=True) == protection(refusable)


def test_restricted__list_in_the_specification_and_its_root_in_the_order() -> None:
    package = packages.read(ROOT / "examples" / "finetune-digits")
    owners = ["0x" + "22" * 20, "0x" + "11" * 20]
    named = packages.restricted(package, owners)
    assert named.spec.allow == tuple(reversed(owners))
    assert named.spec.digest() != package.spec.digest()
    assert packages.restricted(package, []) is package
    with pytest.raises(LocalError, match="allow: '0x5' is not an address"):
        packages.restricted(package, ["0x5"])


def test_job__window_over__anyone_finalizes(running: Stage) -> None:
    placed = running.post()
    running.accept(placed)
    running.attest(placed)
    running.anvil.increase_time(running.market.jobs.challenge_window("latest") + 2)
    endings.finalize(running.market, running.stranger, running.ui, running.find(placed))
    assert running.find(placed).status is Status.SETTLED


def test_job__deadline_missed__tenant_is_made_whole(running: Stage) -> None:
    market, ui = running.market, running.ui
    placed = running.post()
    running.accept(placed)
    running.anvil.increase_time(601)
    endings.expire(market, running.stranger, ui, running.find(placed))
    done = running.find(placed)
    assert done.expired is not None
    assert done.expired.seized == 10 * TPF
    told = "\n".join(ui.lines)
    # The price had not risen to its end when the job was accepted.
    assert "tUSD (the rest was returned when the job was accepted)" in told
    assert "10 TPF seized: 8 TPF to the tenant, 1 TPF bounty, 1 TPF burned" in told
    stranger = running.stranger.address
    assert f"1 TPF wait for {stranger}; take them with: job withdraw" in told
    paid = credits.withdraw(market, running.tenant, ui)
    assert any(line.endswith("seizures and bounties | 8 TPF") for line in ui.lines)
    assert paid.payment == 2 * USD
    assert paid.stake == 8 * TPF


def test_cancel__by_another__only_when_the_open_time_is_over(running: Stage) -> None:
    placed = running.post()
    with pytest.raises(CommandError, match="others may cancel it from"):
        endings.cancel(running.market, running.stranger, running.ui, running.find(placed))
    running.anvil.increase_time(3_700)
    endings.cancel(running.market, running.stranger, running.ui, running.find(placed))
    assert running.find(placed).status is Status.CANCELLED
    assert f"refund 2 tUSD to {running.tenant.address}" in running.ui.lines


def test_hire__signed_quote__assigned_at_once_and_used_up(running: Stage) -> None:
    market = running.market
    quote = messages.Quote(
        operator=running.operator.address,
        requester=running.tenant.address,
        spec=b"\x05" * 32,
        price=3 * USD,
        collateral=5 * TPF,
        duration=300,
        expires=market.now() + 60,
        nonce=7,
    )
    signature = messages.sign(market.jobs_domain, quote, running.operator)
    placed = jobs.hire(market, running.tenant, running.ui, quote, signature)
    job = running.find(placed)
    assert job.status is Status.ASSIGNED
    assert job.provider == running.owner.address
    assert placed.terms.order == quote.order()
    with pytest.raises(CommandError, match="was used or taken back"):
        jobs.hire(market, running.tenant, running.ui, quote, signature)
    with pytest.raises(CommandError, match="has expired"):
        jobs.hire(market, running.tenant, running.ui, replace(quote, expires=1), signature)
    other = replace(quote, nonce=messages.quote_nonce(1, 7))
    with pytest.raises(CommandError, match="was bound again since"):
        jobs.hire(market, running.tenant, running.ui, other, signature)


def test_find__by_first_digits__unknown_and_malformed_are_told(running: Stage) -> None:
    placed = running.post()
    assert jobs.find(running.market, "0x" + placed.job.hex()[:8]).job == placed.job
    with pytest.raises(CommandError, match="no job 0x00000000 on chain 31337"):
        jobs.find(running.market, "0x00000000")
    with pytest.raises(CommandError, match="is not a job id"):
        jobs.find(running.market, "0xzz")


def test_send__no_gas_money__one_line(running: Stage) -> None:
    running.anvil.set_balance(running.tenant.address, 0)
    with pytest.raises(CommandError, match="holds 0 ETH"):
        running.post()


# ---------------------------------------------------------------------- packages


def test_read__template__digests_are_filled_in() -> None:
    package = packages.read(ROOT / "examples" / "finetune-digits")
    assert {entry.path for entry in package.spec.inputs} == {"finetune.py", "base_model.npy"}
    assert all(len(entry.sha256) == 64 for entry in package.spec.inputs)


def test_read__mistakes__one_line(tmp_path: Path) -> None:
    template = json.loads((ROOT / "examples" / "finetune-digits" / "job.json").read_text())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text("a")

    def write(inputs: Any) -> Path:
        (tmp_path / "job.json").write_text(json.dumps({**template, "inputs": inputs}))
        return tmp_path

    assert [e.path for e in packages.read(write(["data"])).spec.inputs] == ["data/a.txt"]
    for inputs, line in (
        ([{"path": "gone"}], "no such file"),
        ([{"path": "../up"}], "has a part"),
        ([{"path": "data", "size": 1}], "is a directory"),
        ([{"path": "data/a.txt", "size": 5}], "has another size"),
        ([7], "not a path"),
        ("all", "list of inputs"),
    ):
        with pytest.raises(LocalError, match=line) as raised:
            packages.read(write(inputs))
        assert "\n" not in str(raised.value)
        assert str(raised.value).startswith(str(tmp_path / "job.json"))
    (write(["data"]) / "job.json").write_text(
        json.dumps({**template, "inputs": ["data"], "kind": "magic"})
    )
    with pytest.raises(CommandError, match=r"job\.json: kind"):
        packages.read(tmp_path)
    with pytest.raises(CommandError, match="cannot read"):
        packages.read(tmp_path / "nothing")

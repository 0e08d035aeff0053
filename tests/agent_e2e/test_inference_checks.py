# SPDX-License-Identifier: Apache-2.0
"""`provider-agent check` of channels on a real chain: what is there, what is wrong, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_utils.address import to_checksum_address

from provider_agent.core.trial import Caution, Mark, Trial, finding
from provider_agent.modules.inference.checks import ChannelChecks
from teraproof.protocol.channels import CHANNELS, COLLECTOR
from teraproof.rpc.errors import Reverted
from tests.agent_e2e.chain import Deployment
from tests.agent_e2e.channel_rig import ChannelRig, channel_rig

RECEIVER = "0x5e5E5e5e5E5e5E5E5e5E5E5e5e5E5E5E5e5E5E5e"


@pytest.fixture
def rig(market: Deployment, tmp_path: Path) -> Iterator[ChannelRig]:
    with channel_rig(market, tmp_path, receiver=RECEIVER) as made:
        yield made


def checks(rig: ChannelRig) -> ChannelChecks:
    trial = Trial(rig.settings)
    trial.pool, trial.address = rig.pool, rig.operator.address
    return ChannelChecks(trial)


def test_all_is_well__lines_say_what_is_there(rig: ChannelRig) -> None:
    made = checks(rig)
    found = {name: finding(name, check) for name, check in made.all()}
    assert {one.mark for one in found.values()} == {Mark.OK}, found
    assert found["channels"].line == f"at {CHANNELS}"
    assert found["channels token"].line.endswith(f", paid to {RECEIVER}")
    assert found["channels gas"].line.startswith("a claim costs ")


@pytest.mark.parametrize(
    ("place", "named"), [(CHANNELS, "contract"), (COLLECTOR, "deposit collector")]
)
def test_nothing_stands_there__said_with_what_to_do(
    rig: ChannelRig, place: str, named: str
) -> None:
    with rig.anvil.isolated():
        rig.anvil.rpc("anvil_setCode", place, "0x")
        found = finding("channels", checks(rig).contract)
    assert (found.mark, found.line) == (
        Mark.FAIL,
        f"x402's {named} is not at {place} on chain {rig.anvil.chain_id}: no payment channels "
        "there; leave [inference.models] out",
    )


def test_something_else_stands_there__named(rig: ChannelRig) -> None:
    code = rig.anvil.rpc("eth_getCode", rig.payment.address, "latest")
    with rig.anvil.isolated():
        rig.anvil.rpc("anvil_setCode", CHANNELS, code)
        found = finding("channels", checks(rig).contract)
    assert (found.mark, found.line) == (
        Mark.FAIL,
        f"what stands at {CHANNELS} is not x402's contract of channels",
    )


def test_token_without_eip_3009__refused(market: Deployment, tmp_path: Path) -> None:
    token = str(to_checksum_address(market.token.address))
    with channel_rig(market, tmp_path, receiver=RECEIVER, token=token) as rig:
        found = finding("channels token", checks(rig).token)
    assert (found.mark, found.line) == (
        Mark.FAIL,
        f"the token {token} has no EIP-3009: payers could not deposit; name another one in "
        "inference.token",
    )


def test_token_that_does_not_pay_the_receiver__refused(
    rig: ChannelRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rig.pool.eth_call

    def blocked(to: str, data: bytes, block: Any, sender: str | None = None, **more: Any) -> bytes:
        if sender == CHANNELS:
            raise Reverted("blocked")
        return real(to, data, block, sender, **more)

    monkeypatch.setattr(rig.pool, "eth_call", blocked)
    found = finding("channels token", checks(rig).token)
    assert found.mark is Mark.FAIL
    assert found.line.endswith(
        f"does not pay {RECEIVER} (blocked); name another receiver in inference.receiver"
    )


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"min_deposit": "0.000001"}, "payers could make this agent spend more gas"),
        (
            {"min_deposit": "1000000", "max_unclaimed": "0.000001"},
            "channels would stand still before a claim is worth its gas",
        ),
    ],
)
def test_settings_that_do_not_bear_the_gas__a_warning(
    market: Deployment, tmp_path: Path, setting: dict[str, str], said: str
) -> None:
    with channel_rig(market, tmp_path, coin_price="1000", receiver=RECEIVER, **setting) as rig:
        made = checks(rig)
        made.token()
        with pytest.raises(Caution, match=said):
            made.gas()

# SPDX-License-Identifier: Apache-2.0
"""A tenant takes its session keys back: whoever has one gets in no more, and the tenant does."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account

from provider_agent.dataplane.access import Access
from provider_agent.dataplane.holders import Phase
from provider_agent.dataplane.link import Link
from provider_agent.dataplane.revoked import Revoked
from teraproof.client import dataplane as client
from teraproof.client.dataplane import SessionKey, Signed, lease_url, session_key
from teraproof.client.sessions import Sessions
from teraproof.errors import LocalError, RemoteError
from teraproof.market.signers import KeySigner
from teraproof.protocol import siwe
from teraproof.protocol.dataplane import LONGEST_DELEGATION, SKEW, Frame, What
from teraproof.protocol.errors import Code
from tests.agent.dataplane.conftest import DOMAIN, LEASE, OTHER, Rig, asking, run


def signer(rig: Rig, lease: bytes = LEASE) -> KeySigner:
    return KeySigner(rig.tenant if lease == LEASE else rig.other, "test")


def revoke(rig: Rig, lease: bytes = LEASE) -> None:
    """As the tenant's tool does it."""
    signed = Signed(signer(rig, lease))
    client.asked(rig.place(lease), signed, asking(What.REVOKE, lease))


def signed_at(rig: Rig, when: float, seconds: int = LONGEST_DELEGATION) -> SessionKey:
    """A key that was signed at a time."""
    return session_key(rig.place(), signer(rig), seconds=seconds, clock=lambda: when)


def refused(rig: Rig, key: Any, what: What = What.PORTS, lease: bytes = LEASE) -> Code:
    with pytest.raises(RemoteError) as caught:
        client.asked(rig.place(lease), key, asking(what, lease))
    return caught.value.code


def let_in(rig: Rig, key: Any, lease: bytes = LEASE) -> bool:
    return client.asked(rig.place(lease), key, asking(What.PORTS, lease)) == {"ports": []}


def next_second() -> None:
    """Times are whole seconds: a key of this one may have been signed before."""
    begun = int(time.time())
    while int(time.time()) == begun:
        time.sleep(0.05)


# ------------------------------------------------------------------ who gets in


@pytest.mark.parametrize("restarts", [False, True])
def test_keys_of_before__get_nothing_more_and_a_new_one_does(rig: Rig, restarts: bool) -> None:
    rig.start()
    used, unused, other = rig.key(), rig.key(), rig.key(OTHER, rig.other)
    assert let_in(rig, used)
    revoke(rig)
    if restarts:
        rig.stop()
        rig.start()
    for key in (used, unused):
        assert refused(rig, key) is Code.SIGN_IN_EXPIRED
    assert let_in(rig, other, OTHER)
    assert let_in(rig, Signed(signer(rig)))
    next_second()
    assert let_in(rig, rig.key())


def test_key_signed_by_a_clock_that_is_ahead__and_used__is_taken_back_as_well(rig: Rig) -> None:
    rig.start()
    key = signed_at(rig, time.time() + SKEW - 5)
    assert let_in(rig, key)
    revoke(rig)
    assert refused(rig, key) is Code.SIGN_IN_EXPIRED


@pytest.mark.parametrize("age", [0, 60, LONGEST_DELEGATION - 60])
def test_key_of_any_age__is_taken_back(rig: Rig, age: int) -> None:
    rig.start()
    key = signed_at(rig, time.time() - age)
    assert let_in(rig, key)
    revoke(rig)
    assert refused(rig, key) is Code.SIGN_IN_EXPIRED


def test_streams_that_are_open__end(rig: Rig) -> None:
    rig.start().serve()
    mine, others = rig.key(), rig.key(OTHER, rig.other)
    rig.serve(lease=OTHER)

    async def work() -> None:
        open_one = await client.connect(rig.place(), asking(), mine)
        other = await client.connect(rig.place(OTHER), asking(lease=OTHER), others)
        await open_one.write(b"hello")
        assert (await open_one.read())[1] == b"hello"
        await asyncio.to_thread(revoke, rig)
        with pytest.raises(RemoteError) as caught:
            await open_one.read()
        assert caught.value.code is Code.SIGN_IN_EXPIRED
        await other.write(b"hello")
        assert (await other.read())[1] == b"hello"
        await open_one.close()
        await other.close()

    run(work())


def test_revocation_whose_answer_is_not_heard__ends_what_is_open(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.start().serve()
    stolen = rig.key()
    said = Link.send

    async def unheard(link: Link, kind: Frame, data: bytes = b"") -> None:
        if kind is Frame.READY:
            raise ConnectionResetError("the tenant is gone")
        await said(link, kind, data)

    async def work() -> None:
        shell = await client.connect(rig.place(), asking(), stolen)
        await shell.write(b"hello")
        assert (await shell.read())[1] == b"hello"
        monkeypatch.setattr(Link, "send", unheard)
        with pytest.raises(LocalError):
            await asyncio.to_thread(revoke, rig)
        with pytest.raises(RemoteError) as caught:
            await shell.read()
        assert caught.value.code is Code.SIGN_IN_EXPIRED
        await shell.close()

    run(work())


def test_disk_that_fails__open_streams_end_as_well(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rig.start().serve()
    stolen = rig.key()
    monkeypatch.setattr(Revoked, "_write", full)

    async def work() -> None:
        shell = await client.connect(rig.place(), asking(), stolen)
        with pytest.raises(RemoteError):
            await asyncio.to_thread(revoke, rig)
        with pytest.raises(RemoteError) as caught:
            await shell.read()
        assert caught.value.code is Code.SIGN_IN_EXPIRED
        await shell.close()

    run(work())


@pytest.mark.parametrize("ahead", [0, SKEW - 5])
def test_key_that_is_taken_back_while_its_contract_is_asked__opens_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    rig.start().serve()
    stolen = signed_at(rig, time.time() + ahead)
    asked, answered, ask = threading.Event(), threading.Event(), siwe.refusal

    def slow(*given: Any) -> Any:
        if not asked.is_set():
            asked.set()
            assert answered.wait(20)
        return ask(*given)

    monkeypatch.setattr(siwe, "refusal", slow)

    async def work() -> None:
        opening = asyncio.create_task(client.connect(rig.place(), asking(), stolen))
        await asyncio.to_thread(asked.wait, 20)
        await asyncio.to_thread(revoke, rig)
        answered.set()
        with pytest.raises(RemoteError) as caught:
            await opening
        assert caught.value.code is Code.SIGN_IN_EXPIRED

    run(work())


def test_key_that_is_taken_back_between_its_check_and_its_stream__opens_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.start().serve()
    stolen, check = rig.key(), Access.check
    turns: list[Revoked] = []

    def then_taken_back(self: Access, *given: Any) -> Any:
        holding = check(self, *given)
        turns.append(self._revoked)
        self._revoked.take_back(LEASE)
        return holding

    monkeypatch.setattr(Access, "check", then_taken_back)
    assert refused(rig, stolen) is Code.SIGN_IN_EXPIRED
    assert turns


def test_key_that_expires__ends_what_it_has_opened_and_the_tenants_own_word_goes_on(
    rig: Rig,
) -> None:
    rig.start().serve()
    short = signed_at(rig, time.time(), 2)

    async def work() -> None:
        by_key = await client.connect(rig.place(), asking(), short)
        by_tenant = await client.connect(rig.place(), asking(), Signed(signer(rig)))
        with pytest.raises(RemoteError) as caught:
            while True:
                await by_key.read()
        assert caught.value.code is Code.SIGN_IN_EXPIRED
        await by_tenant.write(b"hello")
        assert (await by_tenant.read())[1] == b"hello"
        await by_key.close()
        await by_tenant.close()

    run(work())


def test_tenant_of_the_keys__is_named_to_whoever_keeps_other_sessions(rig: Rig) -> None:
    rig.start()
    assert refused(rig, rig.key(), What.REVOKE) is Code.NOT_TENANT
    assert rig.gone == []
    revoke(rig)
    assert rig.gone == [rig.tenant.address]


def test_who_has_a_session_key_alone__takes_none_back(rig: Rig) -> None:
    rig.start()
    key, stolen = rig.key(), rig.key()
    assert refused(rig, stolen, What.REVOKE) is Code.NOT_TENANT
    assert refused(rig, Signed(KeySigner(Account.create(), "x")), What.REVOKE) is Code.NOT_TENANT
    assert let_in(rig, key)


def test_key_for_a_shorter_time__refused_until_none_of_before_can_be_alive(rig: Rig) -> None:
    rig.start()
    revoke(rig)
    next_second()
    assert refused(rig, signed_at(rig, time.time(), 600)) is Code.SIGN_IN_EXPIRED


def test_key_that_was_kept__is_forgotten_once_it_is_refused(rig: Rig, tmp_path: Path) -> None:
    rig.start()
    sessions = Sessions(DOMAIN.chain_id, "0x00", DOMAIN.contract, tmp_path / "sessions", time.time)
    place, account = rig.place(), signer(rig)
    kept = sessions.of(lease_url(place), account.address)
    key = session_key(place, account, kept)
    assert session_key(place, account, kept) == key
    revoke(rig)
    assert refused(rig, session_key(place, account, kept)) is Code.SIGN_IN_EXPIRED
    next_second()
    assert let_in(rig, session_key(place, account, kept))


def test_lease_that_ended__is_not_remembered(rig: Rig) -> None:
    rig.start()
    revoke(rig)
    assert LEASE.hex() in (rig.state / "revoked.json").read_text()
    rig.holders.move(LEASE, Phase.ENDED)
    assert rig.plane is not None
    rig.plane.sweep()
    assert LEASE.hex() not in (rig.state / "revoked.json").read_text()


def test_agent_has_lost_its_leases__keys_that_were_taken_back_stay_so(rig: Rig) -> None:
    rig.start()
    key = rig.key()
    revoke(rig)
    rig.stop()
    held, rig.holders.leases = rig.holders.leases, {}
    rig.holders.all_known = False
    rig.start()
    assert rig.plane is not None
    rig.plane.sweep()
    rig.holders.leases, rig.holders.all_known = held, True
    rig.plane.sweep()
    assert refused(rig, key) is Code.SIGN_IN_EXPIRED


# ------------------------------------------------------------------ what is remembered

NOW = 1_900_000_000


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


def test_remembered__until_no_key_of_before_can_be_alive(tmp_path: Path) -> None:
    clock = Clock()
    made = Revoked(tmp_path / "revoked.json", clock)
    made.take_back(LEASE)
    last = NOW + LONGEST_DELEGATION
    for _ in range(2):
        made.keep_only([LEASE])
        assert made.is_dead(LEASE, last) and not made.is_dead(LEASE, last + 1)
        assert not made.is_dead(OTHER, last)
        made = Revoked(tmp_path / "revoked.json", clock)
        clock.now = last
    clock.now = last + SKEW + 1
    made.keep_only([LEASE])
    assert (tmp_path / "revoked.json").read_text() == "{}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"xy": 1}', '{"01": "no"}', '{"01": null}'])
def test_file_that_cannot_be_read__no_key_of_before_is_good(tmp_path: Path, text: str) -> None:
    clock = Clock()
    place = tmp_path / "revoked.json"
    place.write_text(text)
    made = Revoked(place, clock)
    assert made.is_dead(LEASE, NOW + LONGEST_DELEGATION)
    assert not made.is_dead(LEASE, NOW + LONGEST_DELEGATION + 1)


def test_disk_that_fails__taken_back_all_the_same_and_said(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    rig.start()
    key = rig.key()
    assert let_in(rig, key)
    with monkeypatch.context() as patch:
        patch.setattr(Revoked, "_write", full)
        with pytest.raises(RemoteError) as caught:
            revoke(rig)
    assert caught.value.code is Code.SERVER_BUSY
    assert refused(rig, key) is Code.SIGN_IN_EXPIRED

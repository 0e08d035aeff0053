# SPDX-License-Identifier: Apache-2.0
"""What a tenant has said of its public ports outlives the agent, is read by nobody else, and ends
with the lease.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from provider_agent.dataplane import certificate
from provider_agent.dataplane.holders import Phase
from provider_agent.dataplane.outer import Key
from provider_agent.dataplane.published import Published, Served
from tests.agent.dataplane.conftest import LEASE, OTHER, Rig
from tests.agent.dataplane.test_public import door, greeted, opened, own, published, shown

__all__ = ["door"]

KEY = Key(LEASE, "web", 80)
SECRET = "a-private-key-of-a-tenant"
SAID = Served("tls", "its certificate", SECRET)


def again(rig: Rig) -> None:
    """The agent ends, and another one starts over the same files."""
    rig.stop()
    rig.start()


def kept_in(state: Path) -> list[Path]:
    return [path for path in files(state) if path.name.startswith("published.")]


def files(place: Path) -> list[Path]:
    return [path for path in place.rglob("*") if path.is_file()]


# ------------------------------------------------------------------ over restarts


def test_agent_starts_again__shows_the_tenants_certificate_and_nobody_has_to_come(
    door: Rig,
) -> None:
    pair = own()
    door.start().serve()
    outer = opened(door).outer
    published(door, certificate=pair.certificate, key=pair.key)
    for _ in range(2):
        again(door)
        found = opened(door)
        assert (found.outer, found.own_certificate) == (outer, True)
        assert shown(outer) == pair.der
        assert greeted(outer) == b"hello"


def test_agent_starts_again__a_plain_port_stays_plain(door: Rig) -> None:
    pair = own()
    context = certificate.context(pair.certificate, pair.key, ssl.TLSVersion.TLSv1_3)

    def secure(link: socket.socket) -> None:
        with context.wrap_socket(link, server_side=True) as secured:
            secured.sendall(secured.recv(100))

    door.start().serve(secure)
    published(door, mode="plain")
    again(door)
    outer = opened(door).outer
    assert shown(outer) == pair.der
    assert greeted(outer) == b"hello"


def test_agent_starts_again__what_was_said_last_counts(door: Rig) -> None:
    pair, newer = own(), own()
    door.start().serve()
    published(door, certificate=pair.certificate, key=pair.key)
    published(door, certificate=newer.certificate, key=newer.key)
    again(door)
    assert shown(opened(door).outer) == newer.der
    published(door)
    again(door)
    assert not opened(door).own_certificate


def test_agent_starts_again_before_it_knows_the_lease__keeps_it(door: Rig) -> None:
    pair = own()
    door.start().serve()
    opened(door)
    published(door, certificate=pair.certificate, key=pair.key)
    door.stop()
    door.holders.move(LEASE, Phase.GRACE)  # as far as is known so far
    door.start()
    assert door.plane is not None
    door.plane.sweep()
    door.holders.move(LEASE, Phase.CONFIRMED)
    assert shown(opened(door).outer) == pair.der


def test_agent_has_lost_its_leases__forgets_nothing_of_them_before_all_are_known(
    door: Rig,
) -> None:
    pair = own()
    door.start().serve()
    outer = opened(door).outer
    published(door, certificate=pair.certificate, key=pair.key)
    door.stop()
    lost, door.holders.leases = door.holders.leases, {}
    door.holders.all_known = False
    door.start()
    assert door.plane is not None
    door.plane.sweep()
    door.holders.leases = lost
    assert opened(door).outer == outer
    assert shown(outer) == pair.der
    door.stop()
    door.holders.leases, door.holders.all_known = {}, True
    door.start()
    door.plane.sweep()
    assert kept_in(door.state) == []


def test_lease_ends__its_certificate_is_wiped_and_others_stay(door: Rig) -> None:
    pair = own()
    door.hold(OTHER, account=door.other, said=door.holders.leases[LEASE].spec)
    door.start().serve()
    opened(door, OTHER)
    published(door, certificate=pair.certificate, key=pair.key)
    (kept,) = kept_in(door.state)
    with kept.open("rb") as file:  # who has it open sees what is left of it
        door.holders.move(LEASE, Phase.ENDED)
        assert door.plane is not None
        door.plane.sweep()
        assert not kept.exists()
        assert not file.read().strip(b"\0")
    door.holders.move(LEASE, Phase.CONFIRMED)
    assert not opened(door).own_certificate


# ------------------------------------------------------------------ who can read it


def test_kept__read_by_nobody_who_has_the_disk_alone(tmp_path: Path) -> None:
    place = tmp_path / "published"
    Published(place, b"operator").keep(KEY, SAID)
    (kept,) = files(place)
    assert kept.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_mode & 0o777 == 0o700
    assert SECRET.encode() not in kept.read_bytes()
    assert Published(place, b"operator").of(KEY) == SAID
    assert Published(place, b"another operator").of(KEY) is None


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:10],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: b"x" * 5_000,
    ],
)
def test_kept__a_file_that_was_changed__says_nothing(
    tmp_path: Path, harm: Callable[[bytes], bytes]
) -> None:
    made = Published(tmp_path, b"operator")
    made.keep(KEY, SAID)
    (kept,) = files(tmp_path)
    kept.write_bytes(harm(kept.read_bytes()))
    assert made.of(KEY) is None
    made.keep(KEY, SAID)
    assert made.of(KEY) == SAID


@pytest.mark.parametrize(
    "other", [Key(OTHER, "web", 80), Key(LEASE, "api", 80), Key(LEASE, "web", 443)]
)
def test_kept__a_file_that_was_moved__serves_no_other_port(tmp_path: Path, other: Key) -> None:
    made = Published(tmp_path, b"operator")
    made.keep(KEY, SAID)
    made._of(KEY).rename(made._of(other))
    assert made.of(other) is None


def test_kept__each_port_by_itself(tmp_path: Path) -> None:
    made = Published(tmp_path, b"operator")
    ports = [Key(lease, "web", number) for lease in (LEASE, OTHER) for number in (80, 443)]
    for number, key in enumerate(ports):
        made.keep(key, Served("tls", str(number), SECRET))
    made.keep_only([OTHER])
    assert [None if made.of(key) is None else key for key in ports] == [None, None, *ports[2:]]


def test_disk_is_full__served_all_the_same(door: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    pair = own()
    door.start().serve()
    outer = opened(door).outer
    monkeypatch.setattr(Published, "keep", full)
    published(door, certificate=pair.certificate, key=pair.key)
    assert shown(outer) == pair.der


def test_operator_key__is_what_seals_it(door: Rig) -> None:
    pair = own()
    door.start().serve()
    opened(door)
    published(door, certificate=pair.certificate, key=pair.key)
    door.operator = Account.create()
    again(door)
    assert not opened(door).own_certificate

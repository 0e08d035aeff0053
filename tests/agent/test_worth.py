# SPDX-License-Identifier: Apache-2.0
"""What uploads are worth: as much as the orders of their account pay now, and no order of old."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from provider_agent.core import means
from provider_agent.core.capacity import UNWANTED, Amounts, Kind
from teraproof.contracts.jobs import Cancelled
from teraproof.protocol.terms import Status, Terms
from tests.agent.duty_parts import OTHER, OWNER, TENANT
from tests.agent.duty_rig import Rig

DEAR, CHEAP = 10**9, 10**6
MARGIN = 3_600


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:

    def free(place: Path) -> Amounts:
        """Of a disk of 2 MiB with nothing but uploads."""
        files = [path for path in (tmp_path / "inputs").rglob("*") if path.is_file()]
        return Amounts(disk=(2 << 20) - sum(p.stat().st_size for p in files), inodes=1 << 24)

    monkeypatch.setattr(means, "free_on", free)
    made = Rig(tmp_path)
    made.chain.operator = OTHER  # it takes nothing itself here
    made.cycle()
    made.housekeeper.see(made.block.number, OWNER)
    yield made
    made.duty.close()


def send(rig: Rig, content: bytes, worth: int | None, account: str = TENANT) -> None:
    name = hashlib.sha256(content).hexdigest()
    with rig.inputs.receive(account, name, len(content), worth) as upload:
        upload.write(content)
        upload.finish()


def worth(rig: Rig, account: str = TENANT) -> int:
    """What the ledger thinks of an account's files."""
    return rig.capacity.holds(Kind.SPARE)["files", account.lower()].worth


def order(rig: Rig, price: int) -> Terms:
    return rig.post(rig.spec(), start_price=price, max_price=price)


def cancel(rig: Rig, terms: Terms) -> None:
    """The chain says so, and the agent has read it."""
    job = terms.job_id()
    rig.chain.words[job] = Status.CANCELLED
    rig.duty.consume([Cancelled(rig.entry(), job, terms.requester, 0)], [])
    look(rig)


def look(rig: Rig) -> None:
    """As the module does in each cycle."""
    rig.next_block()
    rig.cycle()
    rig.housekeeper.value(rig.duty.moved(), MARGIN)


def test_best_order_is_cancelled__worth_what_the_next_one_pays(rig: Rig) -> None:
    dear, _cheap = order(rig, DEAR), order(rig, CHEAP)
    send(rig, b"a", DEAR)
    assert worth(rig) == DEAR
    cancel(rig, dear)
    assert worth(rig) == CHEAP


def test_only_order_is_cancelled__worth_nothing_at_once(rig: Rig) -> None:
    dear = order(rig, DEAR)
    send(rig, b"a", DEAR)
    cancel(rig, dear)
    assert worth(rig) == UNWANTED


def test_other_provider_takes_it__worth_nothing(rig: Rig) -> None:
    terms = order(rig, DEAR)
    send(rig, b"a", DEAR)
    rig.assign(terms, OTHER)
    look(rig)
    assert worth(rig) == UNWANTED


def test_another_order_is_cancelled__worth_as_before(rig: Rig) -> None:
    _dear, cheap = order(rig, DEAR), order(rig, CHEAP)
    send(rig, b"a", DEAR)
    cancel(rig, cheap)
    assert worth(rig) == DEAR


def test_cancelled_while_a_file_is_on_its_way__its_end_changes_nothing(rig: Rig) -> None:
    dear = order(rig, DEAR)
    send(rig, b"a", DEAR)
    with rig.inputs.receive(TENANT, hashlib.sha256(b"bb").hexdigest(), 2, DEAR) as upload:
        upload.write(b"b")
        cancel(rig, dear)
        upload.write(b"b")
        upload.finish()
    assert worth(rig) == UNWANTED


def test_sent_for_less__what_is_here_for_more_stays_worth_it(rig: Rig) -> None:
    order(rig, DEAR)
    send(rig, b"a", DEAR)
    send(rig, b"b", 0)
    assert worth(rig) == DEAR


def test_open_no_longer__worth_nothing_at_the_next_round(rig: Rig) -> None:
    order(rig, DEAR)
    send(rig, b"a", DEAR)
    rig.housekeeper.prune(MARGIN)
    assert worth(rig) == DEAR
    rig.next_block(10 * MARGIN)
    rig.housekeeper.prune(MARGIN, paused=10 * MARGIN)
    assert worth(rig) == DEAR, "a pause stops its clock"
    rig.housekeeper.prune(MARGIN)
    assert worth(rig) == UNWANTED


def test_junk_for_a_cancelled_order__gives_way_to_who_pays(rig: Rig) -> None:
    """A tenth of the price that a stranger had named, and taken back, is more than nothing."""
    junk, honest = bytes(800 << 10), b"honest"
    dear = order(rig, DEAR)
    name = hashlib.sha256(junk).hexdigest()
    with rig.inputs.receive(TENANT, name, len(junk), DEAR) as upload:
        upload.write(junk)
        upload.finish()
    big = 400 << 10
    digest = hashlib.sha256(honest).hexdigest()
    assert not rig.capacity.fit(Amounts(disk=big, inodes=1), Kind.SPARE, DEAR // 10)
    cancel(rig, dear)
    assert rig.capacity.fit(Amounts(disk=big, inodes=1), Kind.SPARE, DEAR // 10)
    rig.inputs.receive(OTHER, digest, big, DEAR // 10)
    assert rig.inputs.path(TENANT, name) is None


def test_strangers_without_files__cost_no_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(rig.records, "best_orders", lambda account, limit: looked.append(account))
    cancel(rig, order(rig, DEAR))
    assert looked == []

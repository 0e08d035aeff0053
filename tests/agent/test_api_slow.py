# SPDX-License-Identifier: Apache-2.0
"""Clients that keep the API waiting: whatever they are slow at, they keep nobody else out.

And IPv6: whoever has a large network of addresses is not a crowd by that.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from provider_agent.http.clients import RateLimit
from provider_agent.http.crowd import Crowd
from provider_agent.http.limits import ApiLimits
from provider_agent.http.pace import Pace
from teraproof.protocol.errors import Code
from tests.agent.api_rig import Rig, code_of, serve, wait_until
from tests.agent.test_api_crowds import alive, client, held, session

LOGIN = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{"
UNREAD = b"GET /v1/provider HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{"
CHUNKED = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"

# ---------------------------------------------------------------------- bodies


@pytest.mark.parametrize("said", [LOGIN, UNREAD, CHUNKED], ids=["read", "unread", "chunked"])
def test_bodies_that_do_not_come__newcomer_is_served(tmp_path: Path, said: bytes) -> None:
    """The time for a body is far away; the grace of it is not."""
    limits = ApiLimits(connections=16, connections_per_address=4, body_seconds=8)
    with (
        serve(Rig(tmp_path, limits)) as rig,
        held(rig.url, 16, said, addresses=16),
        client(1) as other,
    ):
        assert other.get(rig.url + "/v1/provider").status_code == 200


def test_upload_that_is_slow__makes_room__steady_one_stays(tmp_path: Path) -> None:
    limits = ApiLimits(connections=2, connections_per_address=2, body_seconds=4, header_seconds=30)
    rig = Rig(tmp_path, limits)
    with serve(rig) as served, contextlib.ExitStack() as stack:
        headers = session(served)
        size = 40 << 20
        slow, steady = (
            stack.enter_context(held(served.url, 1, _put(headers, size, n), first=n))[0]
            for n in (1, 2)
        )
        wait_until(lambda: len(rig.left_behind()) == 2)
        stop = threading.Event()

        def send() -> None:
            while not stop.wait(0.02):
                with contextlib.suppress(OSError):
                    steady.send(bytes(64 << 10))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            for _ in range(3):
                with client(3) as other:
                    assert other.get(served.url + "/v1/provider").status_code == 200
            assert alive([slow, steady]) == 1 and alive([steady]) == 1
        finally:
            stop.set()
            sender.join()


def _put(headers: dict[str, str], size: int, number: int) -> bytes:
    lines = {**headers, "content-length": str(size)}
    head = f"PUT /v1/inputs/{number:064x} HTTP/1.1\r\nHost: x\r\n"
    return (head + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode()


@pytest.mark.parametrize("pause", [0.1, 0.3], ids=["often", "seldom"])
def test_upload_with_large_size__byte_now_and_then__ended_soon(
    tmp_path: Path, pause: float
) -> None:
    """The more it announces, the longer it could stay, if only the end of all counted."""
    limits = ApiLimits(body_seconds=0.6)
    rig = Rig(tmp_path, limits)
    with serve(rig), held(rig.url, 1, _put(session(rig), 1 << 30, 1)) as connections:
        connection = connections[0]
        connection.settimeout(0.01)
        for _ in range(100):
            with contextlib.suppress(TimeoutError):
                if connection.recv(4_096).startswith(b"HTTP/1.1 408"):
                    break
            with contextlib.suppress(OSError):
                connection.send(b"x")
            time.sleep(pause)
        else:
            pytest.fail("it could stay")
        wait_until(lambda: not rig.left_behind())


def test_uploads__unpaid_ones_leave_room_for_paid_ones(tmp_path: Path) -> None:
    """Of four at once two may be for quotes, three for orders that pay, and all for our jobs."""
    rig = Rig(tmp_path, ApiLimits(uploads=4))
    with serve(rig), contextlib.ExitStack() as stack:
        headers, number = session(rig), 0
        for worth, most in ((0, 2), (10**6, 3), (None, 4)):
            rig.worth = worth
            for _ in range(2):
                number += 1
                (one,) = stack.enter_context(held(rig.url, 1, _put(headers, 1 << 20, number)))
                if number <= most:
                    wait_until(lambda n=number: len(rig.left_behind()) == n)
                    continue
                assert one.recv(4_096).split(b" ")[1] in (b"429", b"503")
                number -= 1
                break
        assert number == 4


def test_answers_that_are_not_read__newcomer_is_served(tmp_path: Path) -> None:
    limits = ApiLimits(connections=4, connections_per_address=4, body_seconds=8, header_seconds=30)
    asked = b"GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 400
    with serve(Rig(tmp_path, limits)) as rig, held(rig.url, 4, b"", addresses=4) as readers:
        for reader in readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            reader.setblocking(False)
            with contextlib.suppress(OSError):
                reader.send(asked)
        with client(1) as other:
            assert other.get(rig.url + "/v1/provider").status_code == 200


def test_pace__at_the_least_rate_never_late() -> None:
    pace = Pace(100, 0.0)
    for second in range(1_000):
        pace.look(second, 100 * second)
        assert pace.late <= 1
    pace.look(1_005, 100 * 999)
    assert pace.late > 4


def test_pace__our_own_time_does_not_count() -> None:
    pace = Pace(100, 0.0)
    pace.look(0, 0)
    pace.look(50, 0, owed=False)
    pace.look(90, 0)
    assert pace.late == 0
    pace.look(95, 0)
    assert pace.late == 5
    pace.rest(100, 0)
    pace.look(101, 0)
    assert pace.late == 0


# ---------------------------------------------------------------------- networks


@dataclass(eq=False)
class Fake:
    """A connection that has kept us waiting for so long."""

    late: float | None
    dropped: bool = False

    def owed_for(self, now: float) -> float | None:
        return self.late

    def drop(self) -> None:
        self.dropped = True


def fill(crowd: Crowd, addresses: list[str], late: float | None = 1.0) -> list[Fake]:
    """One connection of each address, as the acceptor takes them."""
    found = []
    for address in addresses:
        if not (crowd.has_room() and crowd.admits(address)):
            continue
        crowd.make_room()
        member = Fake(late)
        crowd.join(member, address)
        found.append(member)
    return found


def many(prefix: str, number: int) -> list[str]:
    """Addresses of as many /64s; `prefix` has a place for two hexadecimal digits."""
    return [prefix.format(n) for n in range(number)]


ONE_56 = "2001:db8:1:1{:02x}::1"
ONE_48 = "2001:db8:2:{:02x}00::1"


@pytest.mark.parametrize("prefix", [ONE_56, ONE_48])
@pytest.mark.parametrize("honest", ["192.0.2.7", "2001:db8:77::1"])
def test_network_of_many_64s__loses_to_everybody_else(prefix: str, honest: str) -> None:
    """However long the honest one has waited, and though no /64 holds more than one."""
    crowd = Crowd(32, 8)
    (first, second) = fill(crowd, [honest, honest], late=9.0)
    fill(crowd, many(prefix, 256))
    assert not first.dropped and not second.dropped
    assert len(crowd) <= crowd.most
    assert fill(crowd, ["192.0.2.8"]), "a newcomer finds room"


@pytest.mark.parametrize(("prefix", "share"), [(ONE_56, 16), (ONE_48, 32)])
def test_network_of_many_64s__its_share_at_work__no_more(prefix: str, share: int) -> None:
    crowd = Crowd(256, 8)
    assert len(fill(crowd, many(prefix, 200), late=None)) == share
    assert len(fill(crowd, ["2001:db8:77::1"] * 9, late=None)) == 8


def test_part_of_a_network__its_neighbours_lose_last() -> None:
    """Customers of one /48: the /56 that holds most gives way, not the neighbour."""
    crowd = Crowd(16, 16)
    neighbour = fill(crowd, ["2001:db8:2:ab00::1"], late=9.0)[0]
    fill(crowd, many("2001:db8:2:1{:02x}::1", 64))
    assert not neighbour.dropped


@pytest.mark.parametrize("mapped", ["{}", "::ffff:{}"])
def test_ipv4__each_address_for_itself(mapped: str) -> None:
    crowd = Crowd(256, 2)
    addresses = [mapped.format(f"192.0.2.{n}") for n in range(100)]
    assert len(fill(crowd, addresses * 3, late=None)) == 200


def test_latest_of_the_same_network__goes_first() -> None:
    crowd = Crowd(3, 3)
    first, second, third = (fill(crowd, ["192.0.2.1"], late)[0] for late in (2.0, 7.0, 4.0))
    fill(crowd, ["192.0.2.2"])
    assert (first.dropped, second.dropped, third.dropped) == (False, True, False)


def test_nobody_late__nobody_dropped() -> None:
    crowd = Crowd(3, 3)
    members = fill(crowd, ["192.0.2.1", "192.0.2.2", "192.0.2.3"], late=None)
    assert not crowd.has_room()
    crowd.make_room()
    crowd.shed()
    assert not any(member.dropped for member in members)


@pytest.mark.parametrize(("prefix", "times"), [(ONE_56, 2), (ONE_48, 4)])
def test_rate__many_64s_of_one_network__a_few_shares(prefix: str, times: int) -> None:
    limit = RateLimit(per_minute=60, burst=5, clock=lambda: 0.0)
    allowed = Counter(limit.allow(one) for one in itertools.chain(*[many(prefix, 250)] * 2))
    assert allowed[True] == 5 * times
    assert limit.allow("2001:db8:77::1") and limit.allow("192.0.2.1")


def test_rate__refused_tries_cost_the_network_nothing() -> None:
    limit = RateLimit(per_minute=60, burst=2, clock=lambda: 0.0)
    assert [limit.allow("2001:db8:1:100::1") for _ in range(50)].count(True) == 2
    assert [limit.allow("2001:db8:1:101::1") for _ in range(50)].count(True) == 2


def test_requests_behind_a_proxy__many_64s_of_one_network__a_few_shares(tmp_path: Path) -> None:
    limits = ApiLimits(requests_per_second=1)
    with serve(Rig(tmp_path, limits, trusted_proxies=("127.0.2.0/24",))) as rig, client(1) as proxy:

        def ask(sender: str) -> httpx.Response:
            headers = {"x-forwarded-for": sender}
            return proxy.get(rig.url + "/v1/provider", headers=headers)

        answers = [ask(address) for address in many(ONE_56, 60)]
        assert [answer.status_code for answer in answers[:20]] == [200] * 20
        assert code_of(answers[-1]) is Code.RATE_LIMITED
        assert ask("2001:db8:77::1").status_code == 200

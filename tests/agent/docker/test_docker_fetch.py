# SPDX-License-Identifier: Apache-2.0
"""Images are here before a lease is accepted: in time, in bounds, and as long as it needs them."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from provider_agent.errors import RunnerError
from provider_agent.runners.base import MIB
from provider_agent.runners.docker.engine import EngineAway
from provider_agent.runners.lease import Credentials, ImageRoom, Lease, Status
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code
from tests.agent.docker.conftest import Yard
from tests.agent.docker.daemon import busybox
from tests.agent.docker.test_docker_kill import SEED, again, revived
from tools.images import Registry, layer, shell_layer

__all__ = ["revived"]

SMALL = 64 * MIB


@pytest.fixture
def own(yard: Yard) -> Iterator[Registry]:
    """A registry of this test alone, so that it may fall silent."""
    made = Registry()
    yield made
    made.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for what waits."""
    with ThreadPoolExecutor(4) as made:
        yield made


def image(registry: Registry, name: str = "app", size: int = MIB) -> str:
    """An image that nobody has yet: a shell, and some bytes that do not get smaller."""
    return registry.add(f"{name}:1", shell_layer(busybox()), layer({"noise": os.urandom(size)}))


def lease_of(yard: Yard, image: str, lease_id: str = "lease-1") -> Lease:
    return Lease(lease_id, (yard.service(image=image),))


def fetch(yard: Yard, lease: Lease, most: int = SMALL, seconds: float = 120) -> None:
    yard.runner.fetch(lease, most=most, seconds=seconds)


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def code_of(future: Future[None]) -> Code:
    error = future.exception(60)
    assert isinstance(error, LocalError), error
    return error.code


# ---------------------------------------------------------------------- before the acceptance


def test_fetched__the_lease_runs_although_its_registry_is_gone(yard: Yard, own: Registry) -> None:
    lease = lease_of(yard, image(own))
    fetch(yard, lease)
    arrival = yard.runner.arrival("lease-1")
    assert arrival is not None and arrival.whole and not arrival.under_way
    own.close()
    yard.runner.prepare(lease)
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running


def test_fetched__the_agent_restarts__no_registry_is_asked(yard: Yard, own: Registry) -> None:
    lease = lease_of(yard, image(own))
    fetch(yard, lease)
    own.asked.clear()
    after = again(yard)
    arrival = after.runner.arrival("lease-1")
    assert arrival is not None and arrival.whole
    fetch(after, lease)
    after.runner.prepare(lease)
    assert own.asked == []


def test_not_fetched__another_lease_has_it__its_tenant_is_asked_for(yard: Yard) -> None:
    closed = Registry("me:word")
    lease, mine = lease_of(yard, image(closed)), Credentials("me", "word", closed.host)
    yard.runner.fetch(lease, {"app": mine}, most=SMALL, seconds=60)
    yard.runner.prepare(lease)
    with pytest.raises(Refused):
        fetch(yard, lease_of(yard, lease.services[0].image, "lease-2"))
    closed.close()


@pytest.mark.parametrize("whose", ["fetched before", "the owner's"])
def test_open_to_everybody__fetched_under_another_name__no_registry_is_asked(
    yard: Yard, own: Registry, whose: str
) -> None:
    wanted = image(own)
    if whose == "the owner's":
        name, _, digest = wanted.partition("@")
        query = {"fromImage": name, "tag": digest}
        with yard.runner.engine.stream("POST", "/images/create", query) as stream:
            assert list(stream.lines())
    fetch(yard, lease_of(yard, wanted, "spec-1"))
    own.asked.clear()
    yard.runner.prepare(lease_of(yard, wanted))
    yard.runner.give_up("spec-1")
    assert own.asked == []
    yard.runner.remove("lease-1")
    yard.runner.free_images(1 << 60)
    assert yard.runner._images.has(wanted) is (whose == "the owner's")


def test_only_fetched__is_no_lease_that_runs_and_is_listed(yard: Yard, own: Registry) -> None:
    fetch(yard, lease_of(yard, image(own)))
    assert yard.runner.list() == ("lease-1",)
    assert yard.runner.keep(["lease-1"]) == {}
    with pytest.raises(RunnerError):
        yard.runner.state("lease-1")
    yard.runner.keep(())
    assert yard.runner.list() == ()


# ---------------------------------------------------------------------- deadlines and ends


@pytest.mark.parametrize("silent", ["manifests", "parts", "drips"])
def test_registry__too_slow__refused_in_time_and_the_engine_is_not_blamed(
    yard: Yard, own: Registry, silent: str
) -> None:
    lease = lease_of(yard, image(own))
    (own.silent if silent == "manifests" else own.stalls).set()
    own.first = 10_000 if silent == "drips" else 0
    with pytest.raises(Refused) as refused:
        fetch(yard, lease, seconds=3)
    assert refused.value.code is Code.IMAGE_UNFIT
    assert not yard.runner._images.has(lease.services[0].image)
    own.close()


def test_tag__its_registry_says_nothing__refused_and_the_engine_is_not_blamed(
    yard: Yard, own: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provider_agent.runners.docker.images._ASK_SECONDS", 2.0)
    image(own)
    own.silent.set()
    with pytest.raises(Refused):
        yard.runner.resolve(f"{own.host}/app:1")


def test_engine__gone_while_it_fetches__is_away(
    revived: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    own.stalls.set()
    fetching = pool.submit(fetch, revived, lease_of(revived, image(own)))
    until(lambda: [one for one in own.asked if "/blobs/" in one])
    revived.daemon.kill()
    assert isinstance(fetching.exception(60), EngineAway)


@pytest.mark.parametrize("end", ["give_up", "remove"])
@pytest.mark.parametrize("call", ["fetch", "prepare"])
@pytest.mark.parametrize("silent", ["manifests", "parts"])
def test_given_up__ends_at_once_and_leaves_nothing(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor, end: str, call: str, silent: str
) -> None:
    lease = lease_of(yard, image(own))
    (own.silent if silent == "manifests" else own.stalls).set()
    work = (
        pool.submit(fetch, yard, lease)
        if call == "fetch"
        else pool.submit(yard.runner.prepare, lease)
    )
    until(lambda: [one for one in own.asked if "manifests" in one])
    getattr(yard.runner, end)("lease-1")
    assert code_of(work) is Code.IMAGE_GIVEN_UP
    assert yard.runner.arrival("lease-1") is None
    assert yard.runner.list() == ()
    own.close()


def test_agent_ends__fetches_end_at_once_and_the_next_one_goes_on(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    yard.run(lease_id="lease-2")
    lease = lease_of(yard, image(own))
    own.stalls.set()
    work = pool.submit(fetch, yard, lease)
    until(lambda: [one for one in own.asked if "/blobs/" in one])
    yard.runner.close()
    assert code_of(work) is Code.IMAGE_GIVEN_UP
    with pytest.raises(RunnerError) as ended:
        fetch(yard, lease_of(yard, image(own, "other"), "lease-3"))
    assert ended.value.code is Code.IMAGE_GIVEN_UP
    own.stalls.clear()
    after = again(yard)
    arrival = after.runner.arrival("lease-1")
    assert arrival is not None and not arrival.whole
    fetch(after, lease)
    assert after.runner.state("lease-2").running


def test_given_up__a_lease_that_is_prepared__keeps_its_images(yard: Yard, own: Registry) -> None:
    lease = lease_of(yard, image(own))
    yard.runner.prepare(lease)
    yard.runner.give_up("lease-1")
    yard.runner.free_images(1 << 60)
    yard.runner.start("lease-1")
    assert yard.runner.state("lease-1").running


def test_arrival__grows_with_what_comes(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    assert yard.runner.arrival("lease-1") is None
    own.stalls.set()
    own.first = 600_000
    work = pool.submit(fetch, yard, lease_of(yard, image(own, size=4 * MIB)))

    def came() -> bool:
        arrival = yard.runner.arrival("lease-1")
        return arrival is not None and 0 < arrival.received < arrival.expected

    until(came)
    arrival = yard.runner.arrival("lease-1")
    assert arrival is not None and arrival.under_way and not arrival.whole
    own.stalls.clear()
    work.result(60)
    arrival = yard.runner.arrival("lease-1")
    assert arrival is not None and arrival.whole and not arrival.under_way


# ---------------------------------------------------------------------- bounds


def test_image__larger_than_the_fetch_may_be__refused_and_deleted(
    yard: Yard, own: Registry
) -> None:
    large = own.add("bomb:1", layer({"zeros": bytes(24 * MIB)}))
    with pytest.raises(Refused) as refused:
        fetch(yard, lease_of(yard, large), most=8 * MIB)
    assert refused.value.code is Code.IMAGE_UNFIT
    assert not yard.runner._images.has(large)


def test_images__of_a_lease__share_one_bound(yard: Yard, own: Registry) -> None:
    images = [own.add(f"part-{n}:1", layer({f"zeros-{n}": bytes(6 * MIB)})) for n in range(2)]
    services = [yard.service(f"s{n}", image=one) for n, one in enumerate(images)]
    with pytest.raises(Refused):
        fetch(yard, Lease("lease-1", tuple(services)), most=8 * MIB)
    fetch(yard, Lease("lease-1", tuple(services)), most=16 * MIB)


def test_image__another_lease_needs_it__one_that_may_not_be_so_large_deletes_nothing(
    yard: Yard, own: Registry
) -> None:
    large = own.add("large:1", shell_layer(busybox()), layer({"zeros": bytes(24 * MIB)}))
    fetch(yard, lease_of(yard, large))
    with pytest.raises(Refused):
        fetch(yard, lease_of(yard, large, "lease-2"), most=8 * MIB)
    assert yard.runner._images.has(large)


def test_disk__has_less_than_may_come__nothing_is_asked_for(yard: Yard, own: Registry) -> None:
    lease = lease_of(yard, image(own))
    with pytest.raises(RunnerError) as full:
        fetch(yard, lease, most=1 << 50)
    assert full.value.code is Code.DISK_FULL
    assert own.asked == []


def test_disk__two_fetches__are_not_promised_the_same_bytes(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    disk = os.statvfs(yard.daemon.place)
    half = disk.f_bavail * disk.f_frsize * 6 // 10
    first, second = image(own, "first"), image(own, "second")
    own.stalls.set()
    work = pool.submit(fetch, yard, lease_of(yard, first), half)
    until(lambda: [one for one in own.asked if "/blobs/" in one])
    assert half - SMALL < yard.runner.image_room().expected <= half
    with pytest.raises(RunnerError) as full:
        fetch(yard, lease_of(yard, second, "lease-2"), half)
    assert full.value.code is Code.DISK_FULL
    yard.runner.give_up("lease-1")
    assert code_of(work) is Code.IMAGE_GIVEN_UP
    own.stalls.clear()
    fetch(yard, lease_of(yard, second, "lease-2"), half)
    assert yard.runner.image_room().expected == 0


def test_image__of_many_files__takes_no_inode_that_has_to_stay_free(
    yard: Yard, own: Registry
) -> None:
    many = own.add("many:1", layer({f"d/{n}": b"" for n in range(6000)}))
    free = os.statvfs(yard.daemon.place).f_favail
    if not free:
        pytest.skip("this file system makes inodes as it needs them")
    yard.runner._space.inodes = free - 3000
    with pytest.raises(RunnerError) as full:
        fetch(yard, lease_of(yard, many))
    assert full.value.code is Code.DISK_FULL
    assert not yard.runner._images.has(many)


# ---------------------------------------------------------------------- how long they stay


def test_images__of_ended_leases__go_when_the_disk_is_short_and_no_others(
    yard: Yard, own: Registry
) -> None:
    ended, runs, only_fetched = (image(own, name) for name in ("ended", "runs", "fetched"))
    yard.run(yard.service(image=ended), lease_id="lease-1")
    yard.run(yard.service(image=runs), lease_id="lease-2")
    fetch(yard, lease_of(yard, only_fetched, "lease-3"))
    yard.run(yard.service(), lease_id="lease-4")  # of the owner's image
    yard.runner.remove("lease-1")
    yard.runner.remove("lease-4")
    wanted = ["lease-2", "lease-3"]
    yard.runner.keep(wanted)
    assert yard.runner._images.has(ended)
    yard.runner._space.reserve = 1 << 60
    yard.runner.keep(wanted)
    assert not yard.runner._images.has(ended)
    for one in (runs, only_fetched, yard.image):
        assert yard.runner._images.has(one)


def test_images__the_one_asked_for_least_lately__goes_first(yard: Yard, own: Registry) -> None:
    images = [image(own, f"n{number}") for number in range(3)]
    for number, one in enumerate(images):
        fetch(yard, lease_of(yard, one, f"lease-{number}"))
    for number in (1, 0, 2):
        yard.runner.give_up(f"lease-{number}")
    assert yard.runner.free_images(1) > MIB
    assert [yard.runner._images.has(one) for one in images] == [True, False, True]


def test_image_room__says_what_lies_there_and_what_can_go(yard: Yard, own: Registry) -> None:
    assert yard.runner.image_room() == ImageRoom()
    for lease_id in ("lease-1", "lease-2"):
        fetch(yard, lease_of(yard, image(own, size=4 * MIB), lease_id))
    one = own.add("one:1", layer({"noise": os.urandom(3 * MIB)}))
    for lease_id in ("lease-3", "lease-4"):
        fetch(yard, lease_of(yard, one, lease_id))
    before = yard.runner.image_room()
    assert before.idle == before.expected == 0
    yard.runner.give_up("lease-3")
    assert yard.runner.image_room() == before
    yard.runner.give_up("lease-4")
    after = yard.runner.image_room()
    assert after.idle >= 3 * MIB and after.held + after.idle == before.held
    assert yard.runner.free_images(after.idle) == after.idle
    assert yard.runner.image_room() == ImageRoom(held=after.held)


# ---------------------------------------------------------------------- others meanwhile


def test_keep__while_one_waits_for_its_registry__serves_the_others(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    script = "test -e /root/once && sleep 600; touch /root/once; exit 3"
    yard.run(yard.service(script=script), lease_id="lease-2")
    until(lambda: yard.runner.state("lease-2").containers[0].status is Status.EXITED)
    lease = lease_of(yard, image(own))
    own.stalls.set()
    work = pool.submit(yard.runner.prepare, lease)
    until(lambda: [one for one in own.asked if "/blobs/" in one])
    for wanted in (["lease-2"], ["lease-1", "lease-2"]):
        states = pool.submit(yard.runner.keep, wanted).result(30)
        assert set(states) == {"lease-2"} and states["lease-2"].running
    pool.submit(yard.runner.remove, "lease-2").result(30)
    own.stalls.clear()
    work.result(60)
    yard.runner.start("lease-1")
    assert yard.runner.keep(["lease-1"])["lease-1"].running


def test_keep__another_thread_is_at_a_lease__is_not_waited_for(
    yard: Yard, pool: ThreadPoolExecutor
) -> None:
    yard.run(lease_id="lease-1")
    yard.run(lease_id="lease-2")
    held, done = threading.Event(), threading.Event()

    def at_work() -> None:
        with yard.runner._locks.held("lease-1"):
            held.set()
            assert done.wait(60)

    work = pool.submit(at_work)
    assert held.wait(30)
    assert pool.submit(yard.runner.keep, ()).result(60) == {}
    assert yard.runner.list() == ("lease-1",)
    done.set()
    work.result(30)
    yard.runner.keep(())
    assert yard.runner.list() == ()


def test_everything_at_once__no_image_of_a_lease_is_lost_and_nothing_stays(
    yard: Yard, own: Registry, pool: ThreadPoolExecutor
) -> None:
    """Four threads do whatever they like to three leases of two images, at any moment."""
    images = [image(own, name, size=1000) for name in ("one", "two")]
    leases = [lease_of(yard, images[number % 2], f"lease-{number}") for number in range(3)]
    runner = yard.runner

    def live(seed: int) -> None:
        chance = random.Random(SEED + seed)
        for _ in range(25):
            lease = chance.choice(leases)
            acts = (
                lambda lease=lease: fetch(yard, lease),
                lambda lease=lease: runner.prepare(lease),
                lambda lease=lease: runner.start(lease.lease_id),
                lambda lease=lease: runner.give_up(lease.lease_id),
                lambda lease=lease: runner.remove(lease.lease_id),
                lambda: runner.keep([one.lease_id for one in leases if chance.random() < 0.7]),
                lambda: runner.free_images(1 << 60),
            )
            try:
                chance.choice(acts)()
            except (Refused, RunnerError) as error:
                assert not isinstance(error, EngineAway), error

    for work in [pool.submit(live, seed) for seed in range(4)]:
        work.result(300)
    for lease in leases:
        runner.prepare(lease)
    runner.free_images(1 << 60)
    for lease in leases:
        runner.start(lease.lease_id)
    assert all(state.running for state in runner.keep([one.lease_id for one in leases]).values())
    runner.keep(())
    runner.free_images(1 << 60)
    assert runner.image_room() == ImageRoom()
    assert not runner._fetches._works and not runner._locks._known
    assert not any(runner._images.has(one) for one in images)
    assert runner._images.has(yard.image)

# SPDX-License-Identifier: Apache-2.0
"""The worker of the proofs: what it leaves on the disk, when it dies, and whose turn it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from provider_agent.modules.proofs.prover import Prover, measure
from provider_agent.prover import worker as workers
from provider_agent.prover.engine import Timings, make_engine
from provider_agent.prover.folder import ProofFolder, Request, Task
from provider_agent.prover.turns import Turn, names
from teraproof.pog import merkle
from teraproof.pog.errors import BenchmarkError
from teraproof.pog.format import Shape, samples, score
from teraproof.pog.opening import verify
from tests.support.anvil import ROOT
from tests.support.processes import with_argument

CHALLENGE, DRAW = b"\x07" * 32, b"\x08" * 32
SHAPE = Shape(256, 1)
WAIT = 60.0


def make_folder(path: Path, device: str = "cpu", challenge: bytes = CHALLENGE) -> ProofFolder:
    folder = ProofFolder(path)
    folder.create(Task(challenge, SHAPE, device, turn_seconds=1))
    return folder


def wait_for_rounds(folder: ProofFolder, rounds: int) -> None:
    end = time.monotonic() + WAIT
    while len(folder.roots()) < rounds:
        assert time.monotonic() < end, folder.last_words()
        time.sleep(0.02)


@pytest.fixture
def prover(tmp_path: Path) -> Iterator[Prover]:
    made = Prover(tmp_path)
    yield made
    made.stop()


# ---------------------------------------------------------------------- rounds


def test_prove__killed_and_started_again__goes_on_with_the_same_chain(
    tmp_path: Path, prover: Prover
) -> None:
    folder = make_folder(tmp_path / "1-aa")
    for rounds in (2, 4, 7):
        prover.prove(folder)
        wait_for_rounds(folder, rounds)
        prover.stop()
    found = folder.roots()
    engine = make_engine("numpy")
    engine.prepare(CHALLENGE, SHAPE)
    expected = [root for root, _ in zip(engine.roots(()), found, strict=False)]
    assert found == expected


def test_prove__torn_root_and_zeros_on_the_disk__done_again(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "1-aa")
    workers.prove(folder, Turn("cpu", tmp_path), rounds=4)
    whole = (tmp_path / "1-aa" / "roots").read_bytes()
    for damage in (whole[:70], whole[:64] + bytes(32), whole[:64] + bytes(45), b""):
        (tmp_path / "1-aa" / "roots").write_bytes(damage)
        assert len(folder.roots()) == min(2, len(damage) // 32)
        workers.prove(folder, Turn("cpu", tmp_path), rounds=4)
        assert (tmp_path / "1-aa" / "roots").read_bytes() == whole


def test_worker__parent_dies__dies_too(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "1-aa")
    program = (
        "import sys, time; from pathlib import Path;"
        "from provider_agent.prover.folder import ProofFolder;"
        "from provider_agent.modules.proofs.prover import Prover;"
        "path = Path(sys.argv[1]);"
        "Prover(path.parent).prove(ProofFolder(path)); print('started', flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(folder.path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"started\n"
    wait_for_rounds(folder, 1)
    mine = with_argument(str(folder.path))
    assert len(mine) == 2  # the parent and its worker
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + WAIT
    while with_argument(str(folder.path)):
        assert time.monotonic() < end, "the worker outlives its parent"
        time.sleep(0.02)


def test_worker__device_cannot_be_used__says_why_and_is_tried_again_later(tmp_path: Path) -> None:
    now = [0.0]
    prover = Prover(tmp_path, clock=lambda: now[0])
    folder = make_folder(tmp_path / "1-aa", device="abacus")
    try:
        prover.prove(folder)
        end = time.monotonic() + WAIT
        while prover.is_running:
            assert time.monotonic() < end
            time.sleep(0.02)
        prover.prove(folder)
        assert "device 'abacus' is unknown" in prover.trouble
        ran = [prover.is_running]
        now[0] += 100
        prover.prove(folder)
        assert [*ran, prover.is_running] == [False, True]
    finally:
        prover.stop()
    assert prover.trouble == ""


def test_wait__worker_that_is_ready_makes_the_proof(tmp_path: Path, prover: Prover) -> None:
    ready = make_folder(tmp_path / "ready", challenge=bytes(32))
    prover.wait(ready)
    process = prover._process
    assert process is not None and process.poll() is None
    prover.wait(ready)
    assert prover._process is process
    folder = make_folder(tmp_path / "1-aa")
    prover.prove(folder)
    prover.prove(folder)
    wait_for_rounds(folder, 3)
    assert prover._process is process and ready.roots() == []
    prover.stop()
    engine = make_engine("numpy")
    engine.prepare(CHALLENGE, SHAPE)
    found = folder.roots()[:3]
    assert found == [root for root, _ in zip(engine.roots(()), found, strict=False)]


def test_wait__proof_of_another_kind__a_worker_of_its_own(tmp_path: Path, prover: Prover) -> None:
    prover.wait(make_folder(tmp_path / "ready"))
    process = prover._process
    folder = make_folder(tmp_path / "1-aa", device="numpy")
    prover.prove(folder)
    assert prover._process is not process
    wait_for_rounds(folder, 1)


def test_wait__worker_has_been_killed__another_one_proves(tmp_path: Path, prover: Prover) -> None:
    ready = make_folder(tmp_path / "ready")
    prover.wait(ready)
    assert prover._process is not None
    prover._process.kill()
    prover._process.wait()
    folder = make_folder(tmp_path / "1-aa")
    prover.prove(folder)
    wait_for_rounds(folder, 1)


def test_wait__device_is_used_by_another_proof__that_is_not_disturbed(tmp_path: Path) -> None:
    ready, folder = make_folder(tmp_path / "ready"), make_folder(tmp_path / "1-aa")
    prepared = list[bytes]()

    class Engine(SlowEngine):
        def prepare(self, challenge: bytes, shape: Shape) -> None:
            prepared.append(challenge)

    with Turn("cpu", tmp_path):
        workers.wait(
            ready,
            Turn("cpu", tmp_path),
            engines=lambda device: Engine(SharedDevice(1)),
            orders=lambda: "",
        )
    assert prepared == [] and folder.roots() == []


def test_wait__agent_is_gone__no_proof(tmp_path: Path) -> None:
    ready = make_folder(tmp_path / "ready")
    workers.wait(ready, Turn("cpu", tmp_path), orders=lambda: "")
    assert ready.roots() == []


def test_worker__another_one_in_the_folder__waits_for_its_end(
    tmp_path: Path, prover: Prover
) -> None:
    folder = make_folder(tmp_path / "1-aa")
    with folder.locked() as ours:
        assert ours
        prover.prove(folder)
        with folder.locked() as second:
            assert not second
    wait_for_rounds(folder, 1)


def test_measure__default_behavior(tmp_path: Path) -> None:
    device, rate = measure("cpu", tmp_path)
    assert device.startswith("cpu") and rate is not None and rate > 0
    with Turn("cpu", tmp_path):
        assert measure("cpu", tmp_path) == ("cpu, in use by another proof", None)


def test_prove__device_is_in_use__waits_for_it(tmp_path: Path, prover: Prover) -> None:
    folder = make_folder(tmp_path / "1-aa")
    with Turn("cpu", tmp_path) as turn:
        prover.prove(folder)
        end = time.monotonic() + WAIT
        while not turn.wanted():
            assert time.monotonic() < end, folder.last_words()
            time.sleep(0.02)
        assert folder.roots() == []
    wait_for_rounds(folder, 1)


# ---------------------------------------------------------------------- openings


@pytest.mark.parametrize("kept", [5, 2, 0])
def test_open__whatever_is_left_on_the_disk__right_openings(tmp_path: Path, kept: int) -> None:
    folder = make_folder(tmp_path / "1-aa")
    turn = Turn("cpu", tmp_path)
    workers.prove(folder, turn, rounds=5)
    roots = folder.roots()
    (tmp_path / "1-aa" / "roots").write_bytes(b"".join(roots[:kept]))
    request = Request(DRAW, rounds=5, count=6)
    folder.request(request)
    assert folder.openings(request) is None

    workers.open_samples(folder, turn)

    openings = folder.openings(request)
    commitment = merkle.commitment(roots)
    wanted = samples(DRAW, 5, commitment, CHALLENGE, SHAPE, 6)
    assert openings is not None
    for opening, sample in zip(openings, wanted, strict=True):
        verify(opening, sample, CHALLENGE, SHAPE, 5, commitment)


def test_open__more_rounds_than_were_committed__opens_the_committed_ones(tmp_path: Path) -> None:
    folder, turn = make_folder(tmp_path / "1-aa"), Turn("cpu", tmp_path)
    workers.prove(folder, turn, rounds=6)
    commitment = merkle.commitment(folder.roots()[:3])
    request = Request(DRAW, rounds=3, count=2)
    folder.request(request)
    workers.open_samples(folder, turn)
    openings = folder.openings(request)
    assert openings is not None
    for opening, sample in zip(
        openings, samples(DRAW, 3, commitment, CHALLENGE, SHAPE, 2), strict=True
    ):
        verify(opening, sample, CHALLENGE, SHAPE, 3, commitment)


def test_open__another_draw__openings_of_the_first_are_gone(tmp_path: Path) -> None:
    folder, turn = make_folder(tmp_path / "1-aa"), Turn("cpu", tmp_path)
    first, second = Request(DRAW, 2, 2), Request(CHALLENGE, 2, 2)
    folder.request(first)
    workers.open_samples(folder, turn)
    assert folder.openings(first) is not None
    folder.request(second)
    assert folder.openings(first) is None and folder.openings(second) is None


def test_open__nothing_asked_for__error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no request"):
        workers.open_samples(make_folder(tmp_path / "1-aa"), Turn("cpu", tmp_path))


# ---------------------------------------------------------------------- turns


class SharedDevice:
    """A device that does a round in a unit of its own time, for one proof at a time."""

    def __init__(self, window: int) -> None:
        self.window, self.time = window, 0
        self.users = 0
        self.lock = threading.Lock()

    def over(self) -> bool:
        return self.time >= self.window


class SlowEngine:
    """Rounds on a shared device; roots are just numbers."""

    device = "shared"

    def __init__(self, shared: SharedDevice) -> None:
        self._shared = shared
        with shared.lock:
            shared.users += 1
            assert shared.users == 1, "two proofs on one device"

    def prepare(self, challenge: bytes, shape: Shape) -> None:
        pass

    def roots(self, done: Sequence[bytes]) -> Iterator[bytes]:
        number = len(done)
        while True:
            time.sleep(0.001)  # so that others get to ask for their turn
            with self._shared.lock:
                self._shared.time += 1
            number += 1
            yield number.to_bytes(32, "big")

    def open(self, t: int, root_two_before: bytes, i: int, j: int) -> tuple[bytes, list[bytes]]:
        raise NotImplementedError

    def timings(self) -> Timings:
        return Timings()

    def close(self) -> None:
        with self._shared.lock:
            self._shared.users -= 1


def rounds_of(identities: int, window: int, folder: Path) -> list[int]:
    """Rounds that each identity gets done on one device in a window, with the agent's scheduler."""
    shared = SharedDevice(window)
    places = [make_folder(folder / f"1-{n}", "cuda:0") for n in range(identities)]

    def run(place: ProofFolder) -> None:
        workers.prove(
            place,
            Turn("cuda:0", folder),
            engines=lambda device: SlowEngine(shared),
            clock=lambda: shared.time / 10,
            over=shared.over,
        )

    threads = [threading.Thread(target=run, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    return [len(place.roots()) for place in places]


@pytest.mark.parametrize("identities", [2, 3, 7])
def test_many_identities_on_one_device__together_prove_no_more_than_one(
    tmp_path: Path, identities: int
) -> None:
    window = 300
    (alone,) = rounds_of(1, window, tmp_path / "alone")
    shared = rounds_of(identities, window, tmp_path / "shared")
    assert alone == window
    assert sum(shared) <= alone
    proven = [score(SHAPE, rounds, window) for rounds in shared if rounds]
    assert sum(proven) <= score(SHAPE, alone, window)
    assert sum(n > 0 for n in shared) >= 2  # they did take turns


def test_turn__names_mean_the_same_to_every_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert names("cpu") == names("numpy") == ["cpu"]
    assert names("cuda") == ["cuda-0"]
    assert names("cuda:3,1") == ["cuda-1", "cuda-3"]
    assert names("torch:cuda:3") == ["cuda-3"]  # whichever library drives it
    assert names("torch:xpu") == ["xpu-0"]
    assert names("torch:cpu") == ["cpu"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-5ab")
    assert names("cuda:0,1") == ["cuda-2", "cuda-GPU-5ab"]


def test_turn__waiting__is_seen_and_gets_the_device(tmp_path: Path) -> None:
    order = list[str]()
    first, second = Turn("cuda:0,1", tmp_path), Turn("cuda:1", tmp_path)

    def wait() -> None:
        with second:
            order.append("second")

    assert first.is_free()
    with first:
        assert not first.wanted() and not second.is_free()
        thread = threading.Thread(target=wait)
        thread.start()
        end = time.monotonic() + WAIT
        while not first.wanted():
            assert time.monotonic() < end
            time.sleep(0.01)
        order.append("first")
    thread.join(WAIT)
    assert order == ["first", "second"]
    assert first.is_free()


def test_turn__holder_is_killed__device_is_free(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path;"
        "from provider_agent.prover.turns import Turn;"
        "Turn('cpu', Path(sys.argv[1])).__enter__(); print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    assert not Turn("cpu", tmp_path).is_free()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with Turn("cpu", tmp_path):
        pass

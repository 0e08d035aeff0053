# SPDX-License-Identifier: Apache-2.0
"""The CUDA engine: products on the tensor cores, everything else at the same time.

A stays on the device. While the product of round t - 1 runs, round t - 2 is hashed and, once its
root is known, B(t) is generated. A root of 32 bytes per round comes back (of several GPUs, one hash
for each piece of their rows). Several GPUs split the rows of every round; each makes all of B
itself, which is cheaper than to send it.

What to expect, **a calculation, not a measurement**. A hash of 512 results costs 5 Keccak
permutations (4 for the leaf, one for its share of the nodes), a block of 480 entries about 1.9
(one, and 15 squarings). One permutation is about 4,600 32-bit instructions as compiled for sm_90;
132 multiprocessors at 1.7 GHz with 64 such lanes do 3.1e9 permutations per second. Were nothing
overlapped, a product of 1.4e15 operations per second would then share the card like this:

    N        K         product   hashing   generation   product's part
    16,384    16,320      6.3 ms    0.9 ms       0.3 ms       84 %
    16,384    32,640     12.5 ms    0.9 ms       0.7 ms       89 %
    16,384    65,280     25.0 ms    0.9 ms       1.4 ms       92 %
    32,768    65,280      100 ms    3.4 ms       2.7 ms       94 %
    32,768   132,960      204 ms    3.4 ms       5.6 ms       96 %
    65,536   132,960      816 ms     14 ms      11.1 ms       97 %

Products fill the registers of a multiprocessor, so that the other kernels often run between them
rather than at the same time: the part that matters is the cost itself, which falls as 1/K for
hashes and as 1/N for entries. Hence large shapes, and `bench` measures.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count as numbers_from

from provider_agent.prover.cuda.device import CudaDevice, Kind
from provider_agent.prover.cuda.plan import Share, Tiles, shares, tiles
from provider_agent.prover.cuda.share import Part, ShareWorker, leaf_bytes
from provider_agent.prover.engine import Timings
from provider_agent.prover.products.choose import Chosen, choose
from provider_agent.prover.products.cuda_ways import CudaWay, ways
from teraproof.pog import format as pog
from teraproof.pog import merkle
from teraproof.pog.errors import EngineError
from teraproof.pog.format import Sample, Shape
from teraproof.pog.opening import entry

_NODE = 32
_TRIAL = (4096, 8192, 7680)
_PROBED = 16
"""Entries of a leaf that are computed again on the host; each takes it about a millisecond."""


class CudaEngine:
    """Makes rounds on one GPU or several of one machine; an `Engine`."""

    def __init__(
        self,
        numbers: Sequence[int] = (0,),
        devices: Sequence[CudaDevice] | None = None,
        chosen: Sequence[Chosen[CudaWay]] | None = None,
    ) -> None:
        """Open the GPUs with these CUDA numbers, and find out how each multiplies.

        Args:
            numbers: as CUDA counts them.
            devices: opened ones to use instead.
            chosen: how each of them multiplies, where that was tried before.

        EngineError when a GPU, its driver or CuPy is missing, or a GPU has no exact product.
        """
        self._devices = list(devices) if devices is not None else _open(numbers)
        try:
            self._chosen = chosen or [choose(ways(one), _TRIAL) for one in self._devices]
        except BaseException:
            _close(self._devices)
            raise
        self._workers: list[ShareWorker] = []
        self._challenge: bytes | None = None
        self._shape: Shape | None = None
        self._last: tuple[int, bytes] | None = None
        self._unchecked = True
        self._timings = Timings()

    @property
    def device(self) -> str:
        """What computes: the GPUs' name, and how many."""
        names = [device.name for device in self._devices]
        first = names[0] if len(set(names)) == 1 else ", ".join(names)
        number = f"{len(names)} x " if len(names) > 1 and len(set(names)) == 1 else ""
        found = ", ".join(dict.fromkeys(one.way.name for one in self._chosen))
        idle = len(self._devices) - len(self._workers) if self._workers else 0
        left = f"; {idle} too slow, left out" if idle else ""
        return f"{number}{first} (CUDA, {found}{left})"

    @property
    def devices(self) -> Sequence[CudaDevice]:
        """The GPUs in use."""
        return self._devices

    @property
    def products(self) -> Sequence[Chosen[CudaWay]]:
        """How each GPU multiplies, what that was measured to do, and what else was tried."""
        return self._chosen

    def plans(self, shape: Shape) -> list[tuple[CudaDevice, Share, Tiles, Kind]]:
        """Who does which rows, in which pieces. EngineError where a GPU has no room."""
        parts = shares(shape, [one.rate for one in self._chosen])
        return [
            (device, part, tiles(shape, part, device.free_bytes(), one.way.kind), one.way.kind)
            for device, part, one in zip(self._devices, parts, self._chosen, strict=True)
            if part.rows
        ]

    def prepare(self, challenge: bytes, shape: Shape) -> None:
        """Take the memory that the shape needs and make A. See `Engine`."""
        self._synchronize()
        if shape != self._shape:
            self._release()
            try:
                self._take_memory(shape)
            except EngineError:
                self._release()
                raise
        self._challenge = pog.bytes32("challenge", challenge)
        self._last = None
        self._timings = Timings()
        for worker in self._workers:
            worker.prepare(pog.seed_a(challenge))

    def roots(self, done: Sequence[bytes]) -> Iterator[bytes]:
        """Yield the next roots. See `Engine`; two rounds are always under way."""
        self._prepared()
        start = len(done)  # the caller may add to the list while this runs
        known = {t: done[t] for t in range(max(0, start - 2), start)}
        under_way: deque[list[Part]] = deque()
        try:
            for t in numbers_from(start):
                root: bytes | None = None
                if t - start >= 2:
                    root = self._finish(under_way.popleft())
                    known[t - 2] = root
                # B(t) hangs on this root; all before it is queued already, so the GPU is at work.
                before = known.pop(t - 2, pog.ZERO)
                under_way.append(self._start(t, before, probe=self._unchecked))
                if self._unchecked:
                    self._check(t, before, under_way[-1])
                if root is not None:
                    yield root
        finally:
            self._synchronize()  # the slots are free again for whoever comes next

    def open(self, t: int, root_two_before: bytes, i: int, j: int) -> tuple[bytes, list[bytes]]:
        """Recompute a round for one leaf and its path. See `Engine`."""
        shape, _ = self._prepared()
        if not (0 <= i < shape.n and 0 <= j < shape.n):
            raise EngineError(f"the round has no row {i} and column {j}")
        parts = self._again(t, root_two_before, (i, j))
        if parts is None:
            parts = self._start(t, root_two_before, (i, j))
        tops = self._tops(parts)
        for worker, part in zip(self._workers, parts, strict=True):
            if part.leaf is None:
                continue
            lower = [node.result() for node in part.path]
            index = i // worker.share.subtree_rows
            return leaf_bytes(part.leaf.result()), [*lower, *merkle.path(tops, index)]
        raise AssertionError("every row is in one of the shares")

    def timings(self) -> Timings:
        """Seconds by phase, of all rounds since `prepare`; of several GPUs, the slowest in each."""
        return self._timings

    def close(self) -> None:
        """Wait for the GPUs and give everything back."""
        self._synchronize()
        self._release()
        _close(self._devices)

    # ------------------------------------------------------------------------------- measurements

    def raw_product(self, seconds: float) -> tuple[int, float]:
        """Products of the prepared shape alone, for about that long: operations, seconds."""
        shape, _ = self._prepared()
        # Both slots of B get real entries (zeros would multiply faster than what a round holds),
        # and the library chooses its kernel.
        for t in range(2):
            self._finish(self._start(t, pog.ZERO))
        self._products(1)
        rounds, total, elapsed = 1, 0, 0.0
        while elapsed < seconds:
            took = self._products(rounds)
            total, elapsed = total + rounds, elapsed + took
            # About a tenth of a second between waits keeps the queue full.
            rounds = max(1, min(64, round(0.1 * rounds / max(took, 1e-6))))
        return shape.operations * total, elapsed

    def stages(self, rounds: int) -> Timings:
        """Mean seconds of each phase of a round while nothing else runs."""
        self._prepared()
        self._synchronize()
        before = self._timings
        for worker in self._workers:
            worker.overlap = False
        try:
            self._timings = Timings()
            for t in range(rounds):
                self._finish(self._start(t, pog.ZERO))
            total = self._timings
        finally:
            self._timings = before
            self._synchronize()
            for worker in self._workers:
                worker.overlap = True
        return Timings(total.product / rounds, total.generation / rounds, total.hashing / rounds)

    def _products(self, rounds: int) -> float:
        self._last = None
        self._synchronize()
        start = time.perf_counter()
        for _ in range(rounds):
            for worker in self._workers:
                worker.product()
        self._synchronize()
        return time.perf_counter() - start

    # -------------------------------------------------------------------------------------- rounds

    def _take_memory(self, shape: Shape) -> None:
        for device, share, plan, kind in self.plans(shape):
            self._workers.append(ShareWorker(device, shape, share, plan, kind))
        self._unchecked = True
        self._shape = shape

    def _prepared(self) -> tuple[Shape, bytes]:
        if self._shape is None or self._challenge is None:
            raise EngineError("the engine was not prepared for a challenge")
        return self._shape, self._challenge

    def _start(
        self,
        t: int,
        root_two_before: bytes,
        wanted: tuple[int, int] | None = None,
        probe: bool = False,
    ) -> list[Part]:
        """Queue a round; with `probe` each device also hands a leaf back."""
        _, challenge = self._prepared()
        seed = pog.seed_b(challenge, t, root_two_before)
        self._last = (t, root_two_before)
        return [
            worker.start(seed, _probe(worker) if probe else _own(worker, wanted))
            for worker in self._workers
        ]

    def _check(self, t: int, root_two_before: bytes, parts: list[Part]) -> None:
        """Hold a leaf of each device against integers of the host, once for every shape.

        The trial knows the sizes of the trial, and cuBLAS chooses a kernel by the size. A kernel
        that adds in too little is wrong almost everywhere, so a leaf shows it.
        """
        shape, challenge = self._prepared()
        for worker, part in zip(self._workers, parts, strict=True):
            i, j = _probe(worker)
            leaf = leaf_bytes(part.leaf.result()) if part.leaf is not None else b""
            for column in range(j, j + _PROBED):
                value = entry(challenge, shape, Sample(t, i, column), root_two_before)
                if leaf[shape.leaf_place(i, column)] != value & 0xFF:
                    raise EngineError(
                        f"{worker.device.name} multiplies wrongly at this size; nothing was proven"
                    )
        self._unchecked = False

    def _again(self, t: int, root_two_before: bytes, wanted: tuple[int, int]) -> list[Part] | None:
        """Another leaf of the round that was queued last, where it is still in memory."""
        if self._last != (t, root_two_before):
            return None
        parts = []
        for worker in self._workers:
            part = worker.again(_own(worker, wanted))
            if part is None:
                return None
            parts.append(part)
        return parts

    def _finish(self, parts: list[Part]) -> bytes:
        """The root of a round; waits for it."""
        return self._tops(parts)[-1][0]

    def _tops(self, parts: list[Part]) -> merkle.Levels:
        """The tree above what the devices hand back."""
        found: list[bytes] = []
        spent = []
        for worker, part in zip(self._workers, parts, strict=True):
            hashes = part.hashes.result()
            found += [hashes[k : k + _NODE] for k in range(0, len(hashes), _NODE)]
            spent.append(worker.timings(part))
        self._timings = Timings(
            self._timings.product + max(one.product for one in spent),
            self._timings.generation + max(one.generation for one in spent),
            self._timings.hashing + max(one.hashing for one in spent),
        )
        return merkle.levels(found)

    def _synchronize(self) -> None:
        for device in self._devices:
            device.synchronize()

    def _release(self) -> None:
        self._shape = self._challenge = None
        while self._workers:
            self._workers.pop().close()


def visible() -> int:
    """GPUs that CUDA lets this process use; 0 where it, or CuPy, cannot be used at all."""
    try:
        from provider_agent.prover.cuda.cupy_device import count
    except ImportError:
        return 0
    try:
        return count()
    except EngineError:
        return 0


def _probe(worker: ShareWorker) -> tuple[int, int]:
    """An entry of the share that is held against the host's."""
    return worker.share.first + worker.share.rows // 2, 0


def _own(worker: ShareWorker, wanted: tuple[int, int] | None) -> tuple[int, int] | None:
    return wanted if wanted is not None and worker.holds(wanted[0]) else None


def _open(numbers: Sequence[int]) -> list[CudaDevice]:
    opened: list[CudaDevice] = []
    try:
        from provider_agent.prover.cuda.cupy_device import CupyDevice

        for number in numbers:
            opened.append(CupyDevice(number))
    except ImportError as error:  # CuPy, or one of NVIDIA's libraries that it loads
        reason = str(error).strip().partition("\n")[0]
        _close(opened)
        raise EngineError(
            "CUDA needs CuPy and its libraries: run pip install '.[cuda]' in the checkout, or"
            f" '.[cuda13]' for CUDA 13; one of them, not both ({reason})"
        ) from None
    except EngineError:
        _close(opened)
        raise
    return opened


def _close(devices: Sequence[CudaDevice]) -> None:
    for device in devices:
        device.close()

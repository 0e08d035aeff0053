# SPDX-License-Identifier: Apache-2.0
"""kernels.cu, built by the C compiler and run thread by thread, against the format in Python."""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provider_agent.prover.cuda import kernels as cuda_kernels
from provider_agent.prover.cuda.device import Buffer, Stream
from provider_agent.prover.cuda.share import leaf_bytes
from provider_agent.prover.words import Side, plain
from teraproof.pog import merkle
from teraproof.pog.format import PRIME, Shape, keccak, words
from tests.agent.benchmark.cuda_on_cpu import CpuDevice, kernels

SEED = bytes(range(32))
words256 = st.integers(0, 2**256 - 1)


def squared(value: int) -> int:
    limbs = (ctypes.c_uint32 * 8)(*[value >> 32 * k & 0xFFFFFFFF for k in range(8)])
    kernels().one_square(limbs)
    return sum(limb << 32 * k for k, limb in enumerate(limbs))


def write(device: CpuDevice, data: bytes) -> Buffer:
    buffer = device.allocate(len(data))
    buffer.handle.data[:] = np.frombuffer(data, np.uint8)
    return buffer


def read(device: CpuDevice, buffer: Buffer) -> bytes:
    device.synchronize()
    return bytes(buffer.handle.data.tobytes())


@given(words256)
@settings(max_examples=500)
def test_square__any_word(value: int) -> None:
    assert squared(value) == value * value % PRIME


@pytest.mark.parametrize(
    "value",
    [0, 1, PRIME, PRIME - 1, PRIME + 1, 2**256 - 1, 2**255, 2**128 - 1, 2**128, PRIME + 188],
)
def test_square__edges(value: int) -> None:
    assert squared(value) == value * value % PRIME


def test_square__small_results() -> None:
    # Squares with a small residue are the ones that spill over 2^256, or past p, at the very end.
    # p is 3 modulo 4, so the root of a square y is y^((p + 1) / 4).
    seen = 0
    for residue in [*range(400), *range(35_400, 35_900)]:
        root = pow(residue, (PRIME + 1) // 4, PRIME)
        if root * root % PRIME == residue:
            seen += 1
            assert squared(root) == squared(PRIME - root) == residue
    assert seen > 300


@pytest.mark.parametrize(("kernel", "side"), [("generate_a", Side.A), ("generate_b", Side.B)])
def test_generate__entries_of_the_format(kernel: str, side: Side) -> None:
    shape = Shape(256, 2)
    device = CpuDevice()
    out = device.allocate(shape.n * shape.depth)
    cuda_kernels.generate(
        device, kernel, SEED, 0, shape.n, shape.blocks, out.at(0), Stream.GENERATION
    )
    found = np.frombuffer(read(device, out), np.uint8).reshape(shape.n, shape.depth)
    assert np.array_equal(found, plain(SEED, shape, side))


@pytest.mark.parametrize("kernel", ["generate_a", "generate_b"])
def test_generate__high_rows_and_many_blocks(kernel: str) -> None:
    first, rows, blocks = 65_534, 2, 277
    device = CpuDevice()
    out = device.allocate(rows * blocks * 480)
    cuda_kernels.generate(device, kernel, SEED, first, rows, blocks, out.at(0), Stream.GENERATION)
    found = np.frombuffer(read(device, out), np.uint8).reshape(rows, blocks, 16, 3, 10)
    if kernel == "generate_b":
        found = found[..., ::-1]
    # In A's order the entry (s, k) of a word is its byte 3k + s: transposed, the word's own bytes.
    own = found.transpose(0, 1, 2, 4, 3).reshape(rows, blocks * 16, 30)
    for row in range(rows):
        for word, entries in zip(words(SEED, first + row, blocks), own[row], strict=True):
            assert bytes(entries) == bytes(b & 0x7F for b in word.to_bytes(32, "little")[:30])


def test_generate__leaves_other_memory_alone() -> None:
    device = CpuDevice()
    out = device.allocate(3 * 480)
    before = read(device, out)
    cuda_kernels.generate(device, "generate_a", SEED, 7, 1, 1, out.at(480), Stream.GENERATION)
    after = read(device, out)
    assert after[:480] == before[:480]
    assert after[960:] == before[960:]
    assert after[480:960] != before[480:960]


@pytest.mark.parametrize("count", [1, 2, 127, 128, 129, 300])
def test_hash_nodes__any_count(count: int) -> None:
    data = random.Random(count).randbytes(64 * count)
    device = CpuDevice()
    below, above = write(device, data), device.allocate(32 * count)
    cuda_kernels.hash_nodes(device, below.at(0), above.at(0), count, Stream.HASHING)
    found = read(device, above)
    assert found == b"".join(
        merkle.node(data[k : k + 32], data[k + 32 : k + 64]) for k in range(0, 64 * count, 64)
    )


def test_hash_leaves__tile_inside_the_product() -> None:
    # A tile of 3 rows and 2 leaves a row, in a product of 4 leaves a row, from row 1, leaf 2.
    rows, across, stride, first = 3, 2, 4, 1 * 4 + 2
    sums = np.random.default_rng(5).integers(0, 2**31 - 1, rows * across * 512, np.int32)
    device = CpuDevice()
    c, tree = write(device, sums.tobytes()), device.allocate(32 * 5 * stride)
    before = read(device, tree)
    cuda_kernels.hash_leaves(
        device, c.at(0), tree.at(0), across, stride, first, rows * across, Stream.HASHING
    )
    after = read(device, tree)
    expected = bytearray(before)
    for row in range(rows):
        for leaf in range(across):
            start = 512 * (row * across + leaf)
            data = (sums[start : start + 512] & 0xFF).astype(np.uint8).tobytes()
            assert data == leaf_bytes(sums[start : start + 512].tobytes())
            at = 32 * (first + row * stride + leaf)
            expected[at : at + 32] = keccak(data)
    assert after == bytes(expected)


def test_kernels__nvcc_keeps_them_in_registers(tmp_path: Path) -> None:
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc is not here")
    built = subprocess.run(
        [compiler, "-arch=sm_90", "-cubin", "-Xptxas", "-v", "-o", str(tmp_path / "kernels.cubin")]
        + ["-Werror", "all-warnings", str(cuda_kernels.SOURCE)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    for name in cuda_kernels.NAMES:
        properties = built.stderr.split(f"Function properties for {name}\n")[1]
        assert "0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads" in properties[:200]

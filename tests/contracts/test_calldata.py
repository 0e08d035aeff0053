# SPDX-License-Identifier: Apache-2.0
"""Calldata that no encoder writes must not name a job, and no job may have two names."""

from __future__ import annotations

from typing import Any

import boa
import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak

from teraproof.protocol.terms import Status, Terms
from tests.contracts.actions import Provider, assigned, attested, order, pass_time, post
from tests.contracts.deploy import Contract, Suite

# The words of Terms that are narrower than 256 bits: name, index, bits.
NARROW = [
    ("requester", 0, 160),
    ("posted_at", 1, 64),
    ("challenge_window", 2, 64),
    ("paused", 4, 64),
    ("duration", 9, 64),
    ("auction", 10, 64),
]
METHODS = {name: f"{name}({Terms.ABI})" for name in ("cancel", "expire")}


def send(contract: Contract, data: bytes, sender: str) -> bool:
    """Send raw calldata; return whether it went through."""
    result = boa.env.execute_code(to_address=contract.address, sender=sender, data=data)
    return not result.is_error


def words(terms: Terms) -> list[int]:
    """The 16 words of the terms' encoding."""
    data = encode([Terms.ABI], [terms.abi_tuple()])
    return [int.from_bytes(data[at : at + 32], "big") for at in range(0, len(data), 32)]


def pack(signature: str, values: list[int]) -> bytes:
    return keccak(text=signature)[:4] + b"".join(value.to_bytes(32, "big") for value in values)


def test_job_id__digest_of_sixteen_words(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    assert len(words(terms)) == 16
    assert jobs.job_id(terms.abi_tuple()) == keccak(pack("", words(terms))[4:])


@pytest.mark.parametrize(("name", "index", "bits"), NARROW)
@pytest.mark.parametrize("high", [0, 255])
def test_cancel__dirty_bits__reverts(
    suite: Suite, jobs: Contract, requester: str, name: Any, index: Any, bits: Any, high: int
) -> None:
    """Upper bits of a narrow word: the lowest and the highest that must be zero."""
    terms = post(suite, requester)
    dirty = words(terms)
    dirty[index] |= 1 << max(high, bits)
    assert not send(jobs, pack(METHODS["cancel"], dirty), requester)
    assert jobs.status(terms.job_id()) == Status.OPEN
    assert send(jobs, pack(METHODS["cancel"], words(terms)), requester)
    assert jobs.status(terms.job_id()) == Status.CANCELLED


@pytest.mark.parametrize(("name", "index", "bits"), NARROW)
def test_expire__dirty_bits__reverts(
    suite: Suite,
    jobs: Contract,
    requester: str,
    provider: Provider,
    name: Any,
    index: Any,
    bits: Any,
) -> None:
    terms = assigned(suite, requester, provider)
    pass_time(terms.order.duration + 1)
    dirty = words(terms)
    dirty[index] |= 1 << bits
    assert not send(jobs, pack(METHODS["expire"], dirty), requester)
    assert jobs.status(terms.job_id()) == Status.ASSIGNED


def test_cancel__short_calldata__reverts(suite: Suite, jobs: Contract, requester: str) -> None:
    terms = post(suite, requester)
    data = pack(METHODS["cancel"], words(terms))
    assert not send(jobs, data[:-1], requester)
    assert not send(jobs, data[:4], requester)


def test_cancel__trailing_bytes__same_job_once(
    suite: Suite, jobs: Contract, requester: str
) -> None:
    """Bytes after the terms name no other job: the second call finds the job closed."""
    terms = post(suite, requester)
    data = pack(METHODS["cancel"], words(terms))
    assert send(jobs, data + b"\x01" * 32, requester)
    assert not send(jobs, data, requester)
    assert jobs.credit_of(requester) == terms.order.max_price


@pytest.mark.parametrize("index", [16, 17, 18, 19])
def test_finalize__dirty_record__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider, index: int
) -> None:
    terms, record = attested(suite, requester, provider)
    pass_time(terms.challenge_window + 1)
    data = jobs.finalize.prepare_calldata(terms.abi_tuple(), record.abi_tuple())
    dirty = bytearray(data)
    dirty[4 + 32 * index] |= 0x80
    assert not send(jobs, bytes(dirty), requester)
    assert send(jobs, data, requester)


def test_post__dirty_from_credit__reverts(jobs: Contract, requester: str) -> None:
    data = bytearray(jobs.post.prepare_calldata(order().abi_tuple(), False))
    data[-1] = 2
    assert not send(jobs, bytes(data), requester)


def test_accept__proof_too_long__reverts(
    suite: Suite, jobs: Contract, requester: str, provider: Provider
) -> None:
    terms = post(suite, requester)
    data = jobs.accept.prepare_calldata(terms.abi_tuple(), [bytes(32)] * 32)
    longer = bytearray(data)
    longer[4 + 32 * 17 + 31] = 33
    assert not send(jobs, bytes(longer) + bytes(32), provider.operator.address)
    assert send(jobs, data, provider.operator.address)


def test_fallback__unknown_method_and_ether__revert(suite: Suite, requester: str) -> None:
    boa.env.set_balance(requester, 10)
    for contract in (suite.jobs, suite.staking, suite.token):
        assert not send(contract, b"", requester)
        assert not send(contract, b"\x01\x02\x03\x04", requester)
        result = boa.env.execute_code(
            to_address=contract.address, sender=requester, data=b"", value=1
        )
        assert result.is_error

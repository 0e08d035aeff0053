# SPDX-License-Identifier: Apache-2.0
"""`withdraw_proof`: the owner takes a commitment back while the window lasts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa

from tests.contracts import proofs
from tests.contracts.actions import Provider, event, go_to
from tests.contracts.deploy import Contract, Suite
from tests.contracts.test_benchmark_commit import NO_WINDOW, ROOT, bond, end, epoch, provider, suite

__all__ = ["bond", "end", "epoch", "provider", "suite"]  # fixtures


# -------------------------------------------------------------- withdraw_proof


def test_withdraw_proof__unbinds_the_bond(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, bond: Callable[..., Any]
) -> None:
    """The owner's answer to a stolen key that commits to rounds nobody has done."""
    proofs.commit(suite, provider, 2**24, ROOT)
    benchmark.withdraw_proof(sender=provider.owner)
    assert event(benchmark, "Withdrawn") == {"epoch": epoch, "provider": provider.owner}
    assert not benchmark.is_open(provider.owner)
    assert benchmark.proof_of(provider.owner).settled
    assert not suite.staking.is_unsettled(provider.owner)
    proofs.draw_epoch(suite)
    with boa.reverts("benchmark: no proof to open"):
        benchmark.open_sample(provider.owner, [bytes(32)])
    go_to(proofs.end_of(suite))
    with boa.reverts("benchmark: no proof to fail"):
        benchmark.fail(provider.owner)
    benchmark.release_bond(provider.owner, sender=provider.owner)
    assert bond(provider) == (0, 0)


def test_withdraw_proof__then_fewer_rounds(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, bond: Callable[..., Any]
) -> None:
    done = proofs.prove(suite, provider, 2)
    proofs.commit(suite, provider, 2**24, ROOT)
    locked = bond(provider)
    benchmark.withdraw_proof(sender=provider.owner)
    proofs.commit_work(suite, provider, done)
    assert bond(provider) == locked
    proofs.draw_epoch(suite)
    proofs.show(suite, provider, done)
    assert benchmark.score(provider.owner) > 0


def test_withdraw_proof__window__exact(
    suite: Suite, benchmark: Contract, provider: Provider, end: int
) -> None:
    proofs.commit(suite, provider, 1, ROOT)
    go_to(end)
    with boa.reverts(NO_WINDOW):
        benchmark.withdraw_proof(sender=provider.owner)
    with boa.env.anchor():
        proofs.draw_epoch(suite)
        with boa.reverts(NO_WINDOW):
            benchmark.withdraw_proof(sender=provider.owner)
    go_to(end - 1)
    benchmark.withdraw_proof(sender=provider.owner)


def test_withdraw_proof__only_the_owners_own(
    suite: Suite, benchmark: Contract, provider: Provider, epoch: int, stranger: str
) -> None:
    for caller in (provider.owner, stranger):
        with boa.reverts("benchmark: no proof to withdraw"):
            benchmark.withdraw_proof(sender=caller)
    proofs.commit(suite, provider, 1, ROOT)
    for caller in (provider.operator.address, stranger, suite.owner):
        with boa.reverts("benchmark: no proof to withdraw"):
            benchmark.withdraw_proof(sender=caller)
    benchmark.withdraw_proof(sender=provider.owner)
    with boa.reverts("benchmark: no proof to withdraw"):
        benchmark.withdraw_proof(sender=provider.owner)

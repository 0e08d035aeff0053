# SPDX-License-Identifier: Apache-2.0
"""Votes on the disk: the first one counts, for good."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from provider_agent.errors import RunnerError
from provider_agent.modules.disputes.votes import VoteBook
from teraproof.courts.votes import Opinion, Vote
from teraproof.protocol.dispute import Case
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.agent.duty_parts import OTHER, OWNER, TENANT

CASE = Case(b"\1" * 32, OWNER, TENANT, OTHER, ZERO_ADDRESS, b"\2" * 32, b"\3" * 32, 1, 1)
RIGHT, WRONG = Opinion(Vote.RIGHT, b"\5" * 32), Opinion(Vote.WRONG, b"\6" * 32)


def test_second_vote__the_first_one_is_cast(tmp_path: Path) -> None:
    assert VoteBook(tmp_path).of(CASE, 0) is None
    assert VoteBook(tmp_path).keep(CASE, 0, RIGHT) == RIGHT
    assert VoteBook(tmp_path).keep(CASE, 0, WRONG) == RIGHT
    assert VoteBook(tmp_path).of(CASE, 0) == RIGHT


def test_other_round_or_other_result_after_a_reorg__a_vote_of_its_own(tmp_path: Path) -> None:
    book = VoteBook(tmp_path)
    book.keep(CASE, 0, RIGHT)
    assert book.keep(CASE, 2, WRONG) == WRONG
    other = replace(CASE, result=b"\7" * 32)
    assert book.keep(other, 0, Opinion(Vote.WITHHELD)) == Opinion(Vote.WITHHELD)
    book.forget(CASE.job)
    assert book.of(CASE, 0) is book.of(CASE, 2) is None


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"vote": 9, "seal": ""}', b'{"vote": 3}'])
def test_damaged__nothing_else_is_voted(tmp_path: Path, damage: bytes) -> None:
    book = VoteBook(tmp_path)
    book.keep(CASE, 0, RIGHT)
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage)
    with pytest.raises(RunnerError, match="damaged"):
        book.of(CASE, 0)
    with pytest.raises(RunnerError, match="damaged"):
        book.keep(CASE, 0, WRONG)

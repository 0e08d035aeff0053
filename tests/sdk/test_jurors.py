# SPDX-License-Identifier: Apache-2.0
"""Orders for a court before there are jurors, and `teraproof juror` on a real court."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from teraproof.courts.docket import Member
from teraproof.market import locks
from teraproof.market.jury import Jury
from teraproof.protocol.errors import Exit
from tests.sdk.courtroom import (
    EXAMPLE,
    Courtroom,
    Person,
)

NAME = "finetune|python-ml|cpu"


# ---------------------------------------------------------------------- before there are jurors


def test_order_for_a_court_without_jurors__refused_before_any_money_moves(
    empty: Courtroom,
) -> None:
    line = ("job", "post", str(EXAMPLE), "--price", "2", "--judged", "court")
    code, said = empty.tenant.fails(Exit.REFUSED, *line, "--wait-for-provider")
    assert code == "no_jury" and "0 seats of 0 owners" in said and "needs 9" in said
    assert "lower the price" not in said  # no price is low enough
    shown = empty.stranger.json("juror", "seats", NAME)
    assert (shown["seats"], shown["owners"], shown["needed"]) == (0, 0, 9)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--gpu", "nvidia-h100"), "--gpu is for orders with --judged court"),
        (("--judged", "jury"), "is not one of"),
    ],
)
def test_order__odd_judge__one_line(empty: Courtroom, more: tuple[str, ...], said: str) -> None:
    key = ("--key-file", str(empty.home / f"{empty.tenant.address}.key"))
    done = empty.tenant.run("job", "post", str(EXAMPLE), "--price", "2", *more, *key)
    assert done.exit_code == Exit.INPUT and said in done.output


def test_order_for_a_court__not_deterministic__one_line(empty: Courtroom, tmp_path: Path) -> None:
    for name in ("finetune.py", "base_model.npy", "job.json"):
        (tmp_path / name).write_bytes((EXAMPLE / name).read_bytes())
    document = json.loads((tmp_path / "job.json").read_text())
    (tmp_path / "job.json").write_text(json.dumps({**document, "deterministic": False}))
    line = ("job", "post", str(tmp_path), "--price", "2", "--judged", "court")
    code, said = empty.tenant.fails(Exit.INPUT, *line)
    assert code == "input_invalid" and "does not say that it is deterministic" in said


# ---------------------------------------------------------------------- jurors


def test_juror__enlists_shows_resigns__and_is_told_when_its_stake_is_free(
    empty: Courtroom,
) -> None:
    with empty.anvil.isolated():
        juror = empty.juror(0)
        operator = Person(empty.home, empty.anvil, empty.jurors[juror])
        operator.run("job", "list")
        done = operator.json("juror", "enlist", NAME, "--seats", "2")
        assert done["seats"] == 2 and [one["what"] for one in done["transactions"]] == ["enlist"]
        seats = operator.json("juror", "seats", str(EXAMPLE))
        assert seats["jurors"] == [{"owner": juror, "seats": 2}]
        (held,) = operator.json("juror", "status", "--provider", juror)["seats"]
        assert held["seats"] == 2 and held["locked"] == str(20 * 10**18)
        # Whoever wants that stake back reads what holds it, and how it gets free.
        (line,) = locks.told(empty.market, locks.of_provider(empty.market, juror))
        assert line.startswith("20 TPF behind the seats of a juror") and "juror resign" in line

        code, said = operator.fails(Exit.REFUSED, "juror", "enlist", NAME, "--seats", "1")
        assert code == "seats_unfit" and "2 seats is locked" in said
        code, said = operator.fails(Exit.REFUSED, "juror", "enlist", NAME, "--seats", "5")
        assert code == "seats_unfit" and "need 50 TPF" in said and "can be locked" in said
        code, said = operator.fails(Exit.REFUSED, "juror", "evict", NAME)
        assert code == "seats_unfit" and "nothing to evict" in said
        assert any("one owner has 2 of the 2 seats" in note for note in seats["notes"])
        other = ("--provider", juror)
        code, said = empty.stranger.fails(Exit.REFUSED, "juror", "resign", NAME, *other)
        assert code == "seats_unfit" and f"not by {empty.stranger.address}" in said
        code, said = operator.fails(Exit.REFUSED, "juror", "leave", NAME, *other)
        assert code == "seats_unfit" and "resign comes first" in said

        operator.json("juror", "resign", NAME, *other)
        code, said = empty.stranger.fails(Exit.UNAVAILABLE, "juror", "leave", NAME, *other)
        assert code == "not_ready" and "can be set free from" in said
        (held,) = operator.json("juror", "status", *other)["seats"]
        empty.anvil.increase_time(held["leaves_from"] - empty.market.now())
        empty.stranger.json("juror", "leave", NAME, *other)
        code, said = empty.stranger.fails(Exit.REFUSED, "juror", "leave", NAME, *other)
        assert code == "seats_unfit" and "nothing locked" in said


def test_juror__who_is_no_operator__told_whose_key_it_takes(empty: Courtroom) -> None:
    code, said = empty.owner.fails(Exit.REFUSED, "juror", "enlist", NAME, "--seats", "1")
    assert code == "seats_unfit" and f"the operator {empty.operator.address}" in said
    code, said = empty.stranger.fails(Exit.REFUSED, "juror", "enlist", NAME, "--seats", "1")
    assert code == "not_registered" and "not the operator of a provider" in said
    code, said = empty.stranger.fails(Exit.INPUT, "juror", "enlist", "a gpu", "--seats", "1")
    assert code == "input_invalid" and "give kind, runtime and hardware" in said


def test_juror__term_over__counts_no_more_and_anyone_evicts_all_such(empty: Courtroom) -> None:
    """The court counts dead seats until somebody calls: an order must not be placed on them."""
    with empty.anvil.isolated():
        old = {empty.juror(6), empty.juror(4)}
        empty.anvil.increase_time(empty.court.term("latest"))
        fresh = empty.juror(1)
        shown = empty.stranger.json("juror", "seats", NAME)
        assert (shown["owners"], shown["seats"], shown["stale_seats"]) == (1, 1, 10)
        line = ("job", "post", str(EXAMPLE), "--price", "2", "--judged", "court")
        code, said = empty.tenant.fails(Exit.REFUSED, *line, "--wait-for-provider")
        assert code == "no_jury" and "1 seat of 1 owner" in said
        code, said = empty.stranger.fails(Exit.REFUSED, "juror", "evict", NAME, "--juror", fresh)
        assert code == "seats_unfit" and fresh in said
        assert set(empty.stranger.json("juror", "evict", NAME)["evicted"]) == old
        assert empty.court.seats(empty.capability, "latest") == 1
        code, _ = empty.stranger.fails(Exit.REFUSED, "juror", "evict", NAME)
        assert code == "seats_unfit"


@pytest.mark.parametrize(
    ("seats", "said"),
    [
        ([9], "one owner has 9 of the 9 seats"),
        ([5, 2, 2], "one owner has 5 of the 9 seats"),
        ([3, 3, 3], "two owners have 6 of the 9 seats"),
        ([2, 2, 2, 2], None),
        ([1] * 9, None),
    ],
)
def test_jury__few_owners__the_tenant_is_warned(seats: list[int], said: str | None) -> None:
    members = tuple(Member(f"0x{n:040x}", count, 9, 0) for n, count in enumerate(seats))
    warning = Jury(bytes(32), members).warning()
    assert warning is None if said is None else warning is not None and said in warning
    if warning is not None:
        assert ("that owner's alone" in warning) == warning.startswith("one owner")
        assert "an appeal may find no juror" in warning

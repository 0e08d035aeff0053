# SPDX-License-Identifier: Apache-2.0
"""What the market promises of a judged job, looked at when it has ended."""

from __future__ import annotations

from teraproof.protocol.terms import Status
from tests.attack.courthouse import JUROR, PROVIDER, PUPPET, TENANT
from tests.attack.play import FOR_TENANT, BrokenPromise, Jury, Play
from tests.attack.wealth import Wealth
from tests.contracts.stateful.trial import WITHHELD


def is_safe(play: Play) -> bool:
    """No jury; or more than half of the one that decides is honest and there.

    An appeal in which neither side can convince leaves it to the jury before.
    """
    if not play.juries:
        return True
    last = play.juries[-1]
    if last.number == 2 and not is_honest(play, last) and not can_convince(play, last):
        last = play.juries[-2]
    return is_honest(play, last)


def is_honest(play: Play, jury: Jury) -> bool:
    return 2 * jury.count(play.is_there) > play.size(jury.number)


def can_convince(play: Play, jury: Jury) -> bool:
    own, honest = jury.count(play.is_friend), jury.count(play.is_there)
    return own > honest and 2 * (own + honest) > play.size(jury.number)


def was_dragged_on(play: Play) -> bool:
    """WITHHELD in the first place, though it was not: docs/threat-model.md leaves that open."""
    return not play.is_lie and any(jury.ruling == WITHHELD for jury in play.juries)


def is_right(play: Play, party: str) -> bool:
    """It has done what it should, whoever it is."""
    if party == PROVIDER:
        return not (play.is_lie or play.is_idle)
    return play.is_lie or play.is_idle or not play.quarrels


def has_won(play: Play, party: str) -> bool:
    """It has got the price, or got it back."""
    return (play.status() is Status.SETTLED) == (party == PROVIDER)


def has_court(play: Play, party: str) -> bool:
    """The last ruling is for it; one that was not found is for the provider."""
    return (play.ruling in FOR_TENANT) == (party == TENANT)


def check(play: Play, before: Wealth, after: Wealth) -> None:
    """BrokenPromise unless money is conserved and the honest have what they were promised."""
    conserved(play, before, after)
    for jury in play.juries:
        for juror, votes in jury.places:
            if play.is_there(juror):
                juror_is_whole(play, juror, votes, before, after)
    # A juror in league may be paid at the puppet's address.
    paid = sum(max(0, after.usd[who] - before.usd[who]) for who in (*JUROR, PUPPET))
    for party in {PROVIDER, TENANT} - play.hostile:
        if is_right(play, party):
            party_is_whole(play, party, paid, before, after)


def conserved(play: Play, before: Wealth, after: Wealth) -> None:
    if after.held != after.owed + after.fees:
        raise BrokenPromise(f"Jobs holds {after.held} and owes {after.owed + after.fees}")
    if after.staking != after.pools:
        raise BrokenPromise(f"Staking holds {after.staking} and owes {after.pools}")
    if sum(before.usd.values()) + before.fees != sum(after.usd.values()) + after.fees:
        raise BrokenPromise("payment tokens came or went")
    if before.supply - sum(before.tpf.values()) != after.supply - sum(after.tpf.values()):
        raise BrokenPromise("TPF came or went, beyond what was burned")


def juror_is_whole(play: Play, juror: int, votes: int, before: Wealth, after: Wealth) -> None:
    """An honest juror that was there: paid with its like, fined by a dishonest jury alone."""
    who, is_sure = JUROR[juror], is_safe(play) and play.serves == "all"
    lost, earned = before.tpf[who] - after.tpf[who], after.usd[who] - before.usd[who]
    most = 0 if is_sure else play.fee * votes * play.p.small_fine
    if earned < 0 or lost > most:
        raise BrokenPromise(f"an honest juror loses {lost} wei, and earns {earned}")
    if is_sure and play.ruling in (1, 2) and earned != play.fee * votes:
        raise BrokenPromise(f"an honest juror earns {earned} for {votes} votes")


def party_is_whole(play: Play, party: str, paid: int, before: Wealth, after: Wealth) -> None:
    """Who is right wins before an honest jury, and loses but what the other's bonds leave of
    the jurors' pay. Before another jury it loses what it had at stake, and nothing else.
    """
    usd = after.usd[party] - before.usd[party]
    tpf = after.tpf[party] - before.tpf[party]
    bonds = play.bonds.get(party, 0)
    other = play.bonds.get(TENANT if party == PROVIDER else PROVIDER, 0)
    lied_to = play.is_lie or play.is_idle
    if party == PROVIDER:
        due, at_stake, collateral = play.price - play.price * play.p.fee_bps // 10_000, 0, 0
    else:
        due, at_stake = (0, play.price) if lied_to else (-play.price, 0)
        collateral = play.collateral * play.p.victim_bps // 10_000 if lied_to else 0
    if play.juries and not has_court(play, party):
        if is_safe(play):
            raise BrokenPromise("an honest jury, and a wrong end")
        if has_won(play, party):
            # What the other side has signed convicted it: the bonds alone are in court.
            at_stake = 0
        lost = play.collateral if party == PROVIDER else 0
        if usd < -at_stake - bonds or tpf < -lost:
            raise BrokenPromise(f"a party loses {-usd} units and {-tpf} wei")
        return
    missing = max(0, paid - other)
    if party == PROVIDER and was_dragged_on(play):
        # Of an appeal that turns WITHHELD it may have to pay half.
        missing = max(missing, paid // 2 + 1)
    if usd < due - missing or tpf < collateral:
        raise BrokenPromise(f"who is right gets {usd} units and {tpf} wei")

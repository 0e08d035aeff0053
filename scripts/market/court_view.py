# SPDX-License-Identifier: Apache-2.0
"""A dispute as it happens: its juries, juror by juror, redrawn while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from teraproof.amounts import show_seconds
from teraproof.courts.docket import Dispute, Phase, Place, Round
from teraproof.courts.votes import Vote
from teraproof.market.disputes import ruling_words

_JURIES = ("first jury", "second jury", "jury of the appeal")
_PHASES = {
    Phase.DRAWING: "the named block draws the jury",
    Phase.COMMITTING: "jurors run the job and commit to their votes",
    Phase.REVEALING: "jurors reveal",
    Phase.FAILED: "no ruling: the tenant may ask for a larger jury",
    Phase.RULED: "the loser may appeal",
    Phase.FINAL: "final",
}
_COLOURS = {Vote.RIGHT: "green", Vote.WRONG: "red", Vote.WITHHELD: "yellow"}


def picture(
    dispute: Dispute,
    names: Mapping[str, str],
    dead: frozenset[str],
    now: int,
    vacant: Callable[[Round], int],
) -> Group:
    """What one sees of a dispute now. `names` are jurors' by owner, `dead` owners whose machine is
    gone; `vacant` says how many votes of a jury nobody can cast.
    """
    grid = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "votes", "", ""):
        grid.add_column(name, justify="right" if name == "votes" else "left")
    for jury in dispute.rounds:
        title = _JURIES[jury.number]
        if not jury.places:
            grid.add_row(title, "", f"from block {jury.target:,}", "")
        for place in jury.places:
            name = names.get(place.juror, place.juror)
            said = _said(jury, place, dispute, place.juror in dead)
            grid.add_row(title, "■" * place.votes, name, said)
            title = ""
        if none := vacant(jury):
            grid.add_row(title, "□" * none, "", Text("vacant: on jurors of before", style="dim"))
    left = dispute.until - now
    clock = f", {show_seconds(left)} left" if dispute.until and left > 0 else ""
    head = Text(f"  {_PHASES[dispute.phase]}{clock}", style="bold")
    if dispute.phase in (Phase.RULED, Phase.FINAL) or dispute.current.number == 2:
        head.append(f"   ruling: {ruling_words(dispute.ruling)}", style="cyan")
    return Group(head, grid)


def _said(jury: Round, place: Place, dispute: Dispute, dead: bool) -> Text:
    if place.vote is not None:
        return Text(place.vote.name, style=_COLOURS[place.vote])
    if place.has_committed:
        return Text("committed", style="dim")
    if dead:
        return Text("silent: its machine is dead", style="magenta")
    if jury is dispute.current and dispute.phase is Phase.COMMITTING:
        return Text("runs the job", style="dim")
    return Text("silent", style="dim")

# SPDX-License-Identifier: Apache-2.0
"""A gateway in a process of its own, which is killed with signal 9 before or behind a commit.

python -m tests.sdk.gateway.killed FOLDER PLAYERS COMMIT before|behind
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from eth_account import Account

from teraproof.gateway.store import Store
from tests.sdk.gateway.rig import Players, running


class Mortal(Store):
    """Dies around one of its commits."""

    commits = 0
    last = 0
    behind = False

    def _commit(self) -> None:
        Mortal.commits += 1
        dies = Mortal.commits == Mortal.last
        if dies and not Mortal.behind:
            os.kill(os.getpid(), signal.SIGKILL)
        super()._commit()
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


async def work(folder: Path, players: Players) -> None:
    payer = Account.from_key(players.key)
    async with running(
        folder,
        players.hosts,
        payer=payer,
        make_store=Mortal,
        route={"canary_rate": 0},
        pay={"step_tokens": 4, "deposit": "0.001", "total": "0.01", "per_provider": "0.01"},
    ) as rig:
        await rig.chat()
        await rig.words(max_tokens=24)
        await asyncio.gather(rig.chat(), rig.words(max_tokens=24))
    print(json.dumps({"commits": Mortal.commits}))


if __name__ == "__main__":
    place, stated, Mortal.last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    Mortal.behind = sys.argv[4] == "behind"
    asyncio.run(work(place, Players.read(stated)))

# SPDX-License-Identifier: Apache-2.0
"""An account signs in once in a session's time, however many programs it runs, and a file that
says otherwise than the agent costs one more signature and nothing else.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from provider_agent.http.limits import ApiLimits
from provider_agent.modules.jobs.documents import JobView
from teraproof.client.jobs import AgentClient
from teraproof.client.sessions import KeptSession, Sessions
from teraproof.protocol.errors import Code
from tests.agent.api_rig import CHAIN_ID, JOB_ID, JOBS, STRANGER, TENANT, Rig, serve
from tests.support.codes import fails_as

GENESIS = "0x" + "0a" * 32
DAY = 86_400


class Wallet:
    """An account whose owner counts what it is asked to sign."""

    def __init__(self, account: Any = TENANT) -> None:
        self.account, self.address, self.asked = account, account.address, 0

    def sign_message(self, message: Any, /) -> Any:
        self.asked += 1
        return self.account.sign_message(message)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    limits = ApiLimits(auth_burst=100, auth_per_minute=100)
    with serve(Rig(tmp_path, limits)) as running:
        running.jobs[JOB_ID] = JobView(TENANT.address, {"status": "OPEN"})
        yield running


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(CHAIN_ID, GENESIS, JOBS.contract, tmp_path / "state")


@pytest.fixture
def wallet() -> Wallet:
    return Wallet()


def look(rig: Rig, wallet: Wallet, sessions: Sessions | None) -> dict[str, Any]:
    """One program: it starts, reads the job, and ends."""
    with AgentClient(rig.url, wallet, CHAIN_ID, sessions=sessions) as client:
        return client.job(JOB_ID)


def kept(rig: Rig, sessions: Sessions, account: Any = TENANT) -> KeptSession:
    return sessions.of(rig.url, account.address)


def test_programs_in_a_row__one_signature(rig: Rig, wallet: Wallet, sessions: Sessions) -> None:
    for _ in range(3):
        assert look(rig, wallet, sessions) == {"status": "OPEN"}
    assert (wallet.asked, len(rig.store.sessions)) == (1, 1)
    look(rig, wallet, None)  # a program that keeps nothing
    assert wallet.asked == 2


def test_kept__for_its_user_alone(rig: Rig, wallet: Wallet, sessions: Sessions) -> None:
    look(rig, wallet, sessions)
    (file,) = sessions.folder.iterdir()
    assert file == kept(rig, sessions).path
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(sessions.folder.stat().st_mode) == 0o700
    token = kept(rig, sessions).token()
    assert token is not None and token not in file.name


@pytest.mark.parametrize("login", [False, True])
@pytest.mark.parametrize("fault", ["forgotten", "expired", "invented"])
def test_agent_does_not_know_it__one_signature_and_kept_anew(
    rig: Rig, wallet: Wallet, sessions: Sessions, fault: str, login: bool
) -> None:
    look(rig, wallet, sessions)
    first = kept(rig, sessions).token()
    if fault == "forgotten":
        rig.store.sessions.clear()
    elif fault == "expired":
        for key in rig.store.sessions:
            rig.store.sessions[key] = (TENANT.address, int(time.time()) - 1)
    else:
        kept(rig, sessions).keep("x" * 43, int(time.time()) + DAY)
    with AgentClient(rig.url, wallet, CHAIN_ID, sessions=sessions) as client:
        if login:
            client.login()
            assert wallet.asked == 2  # here, and not where threads would ask at once
        assert client.job(JOB_ID) == {"status": "OPEN"}
        client.job(JOB_ID)
    assert wallet.asked == 2
    renewed = kept(rig, sessions).token()
    assert renewed is not None and renewed not in (first, "x" * 43)
    assert look(rig, wallet, sessions) and wallet.asked == 2


def test_login__kept_session_holds__nothing_is_signed(
    rig: Rig, wallet: Wallet, sessions: Sessions
) -> None:
    look(rig, wallet, sessions)
    with AgentClient(rig.url, wallet, CHAIN_ID, sessions=sessions) as client:
        client.login()
    assert wallet.asked == 1


def test_session_of_another_account_put_in_its_place__our_own_is_made(
    rig: Rig, wallet: Wallet, sessions: Sessions
) -> None:
    look(rig, wallet, sessions)
    with rig.client(STRANGER, sessions=sessions) as stranger:
        stranger.login()
    theirs = kept(rig, sessions, STRANGER).token()
    assert theirs is not None
    kept(rig, sessions).keep(theirs, int(time.time()) + DAY)
    assert look(rig, wallet, sessions) == {"status": "OPEN"}
    assert wallet.asked == 2 and kept(rig, sessions).token() != theirs


def test_not_our_job__refused_once_more_and_for_good(rig: Rig, sessions: Sessions) -> None:
    wallet = Wallet(STRANGER)
    for asked in (1, 2):
        with fails_as(Code.NOT_REQUESTER):
            look(rig, wallet, sessions)
        assert wallet.asked == asked


@pytest.mark.parametrize(
    "other",
    [
        {"chain_id": 5},
        {"genesis": "0x" + "0b" * 32},
        {"jobs": "0x" + "0c" * 20},
        {"account": STRANGER.address},
        {"url": "https://127.0.0.1:1"},
    ],
    ids=lambda other: next(iter(other)),
)
def test_of_another_chain_market_agent_or_account__not_used(
    tmp_path: Path, other: dict[str, Any]
) -> None:
    """Neither by its name, nor where somebody copies the file to the other's name."""
    belongs = {
        "chain_id": CHAIN_ID,
        "genesis": GENESIS,
        "jobs": JOBS.contract,
        "url": "http://127.0.0.1:1",
        "account": TENANT.address,
    }

    def session(**given: Any) -> KeptSession:
        url, account = given.pop("url"), given.pop("account")
        return Sessions(**given, folder=tmp_path / "state").of(url, account)

    ours, theirs = session(**belongs), session(**belongs | other)
    ours.keep("t" * 43, int(time.time()) + DAY)
    assert (ours.token(), theirs.token()) == ("t" * 43, None)
    theirs.path.write_bytes(ours.path.read_bytes())
    theirs.path.chmod(0o600)
    assert theirs.token() is None and not theirs.path.exists()
    assert ours.token() == "t" * 43


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return edit


def linked(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o640),
        lambda path: path.chmod(0o602),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff\xfe{}"),
        lambda path: path.write_bytes(b"[" * 9_000),
        lambda path: path.write_text("[1]"),
        lambda path: path.write_text(path.read_text() + " " * 9_000),
        linked,
        piped,
        edited(expires=int(time.time()) - 1),
        edited(expires=int(time.time()) + 5),
        edited(expires=int(time.time()) + 400 * DAY),
        edited(expires="9999999999"),
        edited(expires=True),
        edited(token="a\r\nx-evil: 1"),
        edited(token="é" * 43),
        edited(token=None),
        edited(token=""),
        edited(belongs=None),
    ],
)
def test_file_that_does_not_fit__not_used_and_made_again(
    rig: Rig, wallet: Wallet, sessions: Sessions, spoil: Callable[[Path], None]
) -> None:
    look(rig, wallet, sessions)
    spoil(kept(rig, sessions).path)
    assert kept(rig, sessions).token() is None
    look(rig, wallet, sessions)
    assert wallet.asked == 2
    look(rig, wallet, sessions)
    assert wallet.asked == 2


def test_disk_that_keeps_nothing__each_program_signs(
    rig: Rig, wallet: Wallet, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    nowhere = Sessions(CHAIN_ID, GENESIS, JOBS.contract, tmp_path / "file")
    for _ in range(2):
        assert look(rig, wallet, nowhere) == {"status": "OPEN"}
    assert wallet.asked == 2


@pytest.mark.parametrize(
    ("expires", "days"),
    [(2**80, 7), (None, None), ("soon", None), (True, None), (-1, None), (0, None)],
)
def test_agent_says_until_when__believed_within_bounds(
    sessions: Sessions, expires: Any, days: int | None
) -> None:
    """An agent is a stranger: it may say anything."""
    now = 1_800_000_000.0
    one = Sessions(sessions.chain_id, sessions.genesis, sessions.jobs, sessions.folder, lambda: now)
    one.of("http://agent", TENANT.address).keep("t" * 43, expires)
    for day in range(9):
        now = 1_800_000_000.0 + day * DAY
        found = one.of("http://agent", TENANT.address).token()
        assert (found is not None) == (days is not None and day < days), day


@pytest.mark.parametrize(
    "token",
    ["", "a b", "a\nb", "a\x00", "é", "x" * 9_000, 7, None],
    ids=lambda t: ascii(t)[:9],
)
def test_agent_gives_no_token__one_line_and_nothing_kept(sessions: Sessions, token: Any) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/auth/nonce":
            said: dict[str, Any] = {"nonce": "0" * 32, "chain_id": CHAIN_ID, "domain": "agent"}
        else:
            said = {"token": token, "expires": int(time.time()) + DAY}
        return httpx.Response(200, stream=httpx.ByteStream(json.dumps(said).encode()))

    transport = httpx.MockTransport(answer)
    client = AgentClient("http://agent", TENANT, transport=transport, sessions=sessions)
    with client, fails_as(Code.ANSWER_INVALID):
        client.login()
    assert not sessions.folder.exists()


def test_many_sign_ins_of_one_address__wait_as_they_are_asked_to(
    tmp_path: Path, wallet: Wallet
) -> None:
    with serve(Rig(tmp_path, ApiLimits(auth_burst=2, auth_per_minute=60))) as running:
        for _ in range(4):
            with AgentClient(running.url, wallet, CHAIN_ID) as client:
                client.login()


def test_many_sign_ins_of_one_address__too_long_a_pause__said_at_once(
    tmp_path: Path, wallet: Wallet
) -> None:
    with serve(Rig(tmp_path, ApiLimits(auth_burst=2, auth_per_minute=1))) as running:
        with AgentClient(running.url, wallet, CHAIN_ID) as client:
            client.login()
        with (
            AgentClient(running.url, wallet, CHAIN_ID) as client,
            fails_as(Code.RATE_LIMITED),
        ):
            client.login()


def test_folder__what_has_ended_long_ago_goes(rig: Rig, wallet: Wallet, sessions: Sessions) -> None:
    sessions.folder.mkdir(parents=True)
    old, new = sessions.folder / "old.json", sessions.folder / "new.json"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    look(rig, wallet, sessions)
    assert not old.exists() and new.exists()

# SPDX-License-Identifier: Apache-2.0
"""Session keys that outlive a command, and the operator's word that outlives nothing."""

from __future__ import annotations

import ssl
import stat
from pathlib import Path

import pytest
from eth_account import Account

from provider_agent.dataplane.identity import LIFETIME, Identities
from teraproof.client.dataplane import Place, SessionKey, lease_url, session_key
from teraproof.client.sessions import Sessions
from teraproof.errors import WrongInput
from teraproof.market.signers import KeySigner
from tests.agent.dataplane.conftest import DOMAIN, LEASE, OTHER, Rig

NOW = 1_900_000_000


class Counting:
    """An account that counts how often it is asked."""

    def __init__(self) -> None:
        self._signer, self.asked = KeySigner(Account.create(), "test"), 0

    @property
    def address(self) -> str:
        return self._signer.address

    def sign_typed(self, document: dict[str, object]) -> bytes:
        self.asked += 1
        return self._signer.sign_typed(document)


def kept(folder: Path, signer: Counting, lease: bytes, now: list[float]) -> SessionKey:
    place = Place("host", 1, lease, "0x" + "44" * 20, DOMAIN)
    sessions = Sessions(DOMAIN.chain_id, "0x00", DOMAIN.contract, folder, lambda: now[0])
    session = sessions.of(lease_url(place), signer.address)
    return session_key(place, signer, session, clock=lambda: now[0])


def test_kept__one_signature_until_its_end__for_one_lease_and_account(tmp_path: Path) -> None:
    signer, now = Counting(), [float(NOW)]
    first = kept(tmp_path, signer, LEASE, now)
    again = kept(tmp_path, signer, LEASE, now)
    assert again.account.key == first.account.key
    assert (again.delegation, again.expires) == (first.delegation, first.expires)
    assert signer.asked == 1
    assert kept(tmp_path, signer, OTHER, now).account.key != first.account.key
    other = Counting()
    assert kept(tmp_path, other, LEASE, now).account.key != first.account.key
    assert (signer.asked, other.asked) == (2, 1)
    now[0] = first.expires - 30
    assert kept(tmp_path, signer, LEASE, now).account.key != first.account.key
    for path in tmp_path.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{}", "x" * 10_000])
def test_kept__a_file_that_does_not_fit__costs_one_signature(tmp_path: Path, text: str) -> None:
    signer, now = Counting(), [float(NOW)]
    kept(tmp_path, signer, LEASE, now)
    (path,) = tmp_path.iterdir()
    path.write_text(text)
    kept(tmp_path, signer, LEASE, now)
    assert signer.asked == 2


def test_key__shown_nowhere(rig: Rig) -> None:
    rig.start()
    key = rig.key()
    secret = key.account.key.hex().removeprefix("0x")
    assert secret not in repr(key) and secret not in str(key)


@pytest.mark.parametrize(
    ("endpoint", "found"),
    [("a.example:1", ("a.example", 1)), ("[::1]:65535", ("::1", 65_535)), ("1.2.3.4:9", None)],
)
def test_endpoint__read_and_written(endpoint: str, found: tuple[str, int] | None) -> None:
    place = Place.at(endpoint, LEASE, "0x" + "44" * 20, DOMAIN)
    assert place.endpoint == endpoint
    assert found is None or (place.host, place.port) == found


@pytest.mark.parametrize(
    "endpoint", ["", "a", "a:", ":1", "a:0", "a:x", "a:65536", "a:1/x", "u@a:1", "https://a:1"]
)
def test_endpoint__that_is_none(endpoint: str) -> None:
    with pytest.raises(WrongInput):
        Place.at(endpoint, LEASE, "0x" + "44" * 20, DOMAIN)


def test_identity__renewed_before_it_runs_out__each_time_with_the_operators_word() -> None:
    operator, now = Account.create(), [float(NOW)]
    made = Identities(DOMAIN, operator, lambda: now[0])
    first = made.current()
    assert made.current() is first
    now[0] += LIFETIME // 2 + 1
    second = made.current()
    assert second.digest != first.digest and second.expires > first.expires
    for one in (first, second):
        hello = one.hello(bytes(32))
        shown = ssl.PEM_cert_to_DER_cert(one.pair.certificate)
        hello.check(DOMAIN, str(operator.address), shown, NOW)

# SPDX-License-Identifier: Apache-2.0
"""The owner's key goes to the server that the owner has named, wherever that one points to."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from teraproof.protocol import inference
from tests.agent.inference.rig import Rig, serve

KEY = "sk-the-owners-own"
STATUSES = (301, 302, 303, 307, 308)


@dataclass
class Place:
    """A server that redirects, or that notes who comes."""

    to: str = ""
    status: int = 302
    seen: list[tuple[str, str]] = field(default_factory=list)
    """Paths and the keys that came with them."""
    url: str = ""

    def begin(self) -> http.server.ThreadingHTTPServer:
        place = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("content-length", "0"))
                self.rfile.read(size)
                place.seen.append((self.path, self.headers.get("authorization", "")))
                self.send_response(place.status if place.to else 200)
                if place.to:
                    self.send_header("location", place.to)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET

            def log_message(self, *args: Any) -> None:
                """Not into the test's output."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        return server


@pytest.fixture
def elsewhere() -> Iterator[Place]:
    found = Place()
    server = found.begin()
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture
def named(elsewhere: Place) -> Iterator[Place]:
    found = Place(to=f"{elsewhere.url}/v1/models")
    server = found.begin()
    yield found
    server.shutdown()
    server.server_close()


def key_file(folder: Path) -> Path:
    file = folder / "upstream.key"
    file.write_text(KEY)
    file.chmod(0o600)
    return file


def model_of(named: Place, folder: Path) -> dict[str, Any]:
    return {"upstream": f"{named.url}/v1", "key_file": str(key_file(folder))}


def look(rig: Rig) -> None:
    rig.front._upstreams["tiny"].look()


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("own", [False, True], ids=["to another host", "to another path"])
def test_look__follows_no_redirect_and_says_what_to_do(
    tmp_path: Path, named: Place, elsewhere: Place, status: int, own: bool
) -> None:
    named.status = status
    if own:
        named.to = f"{named.url}/elsewhere"
    with serve(tmp_path, model=model_of(named, tmp_path)) as rig:
        look(rig)
        (check,) = [one() for one in rig.front.checks()]
        assert not check.ok and "redirects" in check.detail
        assert elsewhere.seen == []
        assert set(named.seen) == {("/v1/models", f"Bearer {KEY}")}
        # And nothing is taken for requests that it would not serve.
        wallet, terms = rig.fund(), rig.terms()
        assert rig.ask(wallet.pay(terms.amount, terms)).status_code == 503
        named.to = ""
        look(rig)
        assert [one().ok for one in rig.front.checks()] == [True]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    ("kind", "stream"),
    [(kind, stream) for kind in inference.PATHS for stream in {False, kind != "embeddings"}],
)
def test_requests__follow_no_redirect_and_cost_nothing(
    tmp_path: Path, named: Place, elsewhere: Place, status: int, kind: str, stream: bool
) -> None:
    named.status = status
    with serve(tmp_path, model=model_of(named, tmp_path)) as rig:
        rig.front._upstreams["tiny"].is_up = True
        body: dict[str, Any] = {"stream": True} if stream else {}
        wallet, terms = rig.fund(), rig.terms(kind, **body)
        answer = rig.ask(wallet.pay(terms.amount, terms), kind, **body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_away")
        assert elsewhere.seen == []
        assert wallet.row.charged == 0 and not wallet.row.is_open

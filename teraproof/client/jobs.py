# SPDX-License-Identifier: Apache-2.0
"""The tenant's side of a provider's API.

The provider is a stranger: every answer is bounded, no redirect is followed, and a result counts
only when the digest that was attested on chain follows from its manifest.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

import httpx
from eth_account.messages import SignableMessage, encode_defunct

from teraproof.client.acceptance import ChallengedLease
from teraproof.client.files import FetchedFiles, Most, attested
from teraproof.client.sessions import Sessions, is_token
from teraproof.client.transport import ANSWER_BYTES, Transport
from teraproof.errors import AuthError, LocalError, RemoteError
from teraproof.protocol import messages, signatures, siwe
from teraproof.protocol.digests import (
    MAX_FILES,
    Entry,
    Origin,
    file_digest,
    is_hex_digest,
    open_beneath,
)
from teraproof.protocol.errors import Code
from teraproof.protocol.jobspec import MAX_BYTES, JobSpec, parse_named
from teraproof.protocol.terms import Judged
from teraproof.storage import uris
from teraproof.storage.reach import Reach

_CHUNK = 1 << 18
_SIGN_IN_PATIENCE = 15
"""Seconds that an agent may ask for before it takes a sign-in: its limit is for each address."""


class Signer(Protocol):
    """An account that can sign a text: of eth-account, of Ape, or a wallet behind them."""

    @property
    def address(self) -> Any:
        """The EIP-55 address."""
        ...

    def sign_message(self, signable_message: SignableMessage, /) -> Any:
        """The signature, as either library returns it, or None when the owner declined."""
        ...


class AgentClient:
    """One tenant talking to one provider. Signs in when first needed and when a session ends.

    With `sessions` it goes on with one that an earlier client has opened, and keeps its own there.
    `base_url` is the provider's public URL, as it stands on chain. Errors are AgentErrors of one
    line. Use it as a context manager, or call `close`.

    `timeout` is seconds without a byte; no request or fetch takes longer than a few of them and
    what its bytes earn at a least rate. A program that acts by itself says with `reach` where a
    stranger's URL may lead, and with `until` (monotonic) when nobody needs an answer any more.
    """

    def __init__(
        self,
        base_url: str,
        account: Signer,
        chain_id: int | None = None,
        timeout: float = 30,
        transport: httpx.BaseTransport | None = None,
        sessions: Sessions | None = None,
        *,
        reach: Reach | None = None,
        until: float = math.inf,
    ) -> None:
        siwe.authority(base_url)
        try:
            httpx.URL(base_url)
        except httpx.InvalidURL:
            raise AuthError(f"{base_url!r}: not a URL", Code.INPUT_INVALID) from None
        # The scheme in lower case: it decides whether certificates are checked.
        self.base_url = urlsplit(base_url).geturl().rstrip("/")
        self._account, self._chain_id = account, chain_id
        self._kept = None if sessions is None else sessions.of(self.base_url, str(account.address))
        if reach is not None:
            reach.check(uris.parse(self.base_url))
        self._http = Transport(
            *(self.base_url, self._sign_in, timeout, transport, self._kept),
            reach=reach,
            until=until,
        )
        self._files = FetchedFiles(self._http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def cut_off(self) -> None:
        """End what another thread asks for here, and begin nothing more."""
        self._http.cut_off()

    # ---------------------------------------------------------------- session

    def login(self) -> None:
        """Have a session that the agent knows: sign in, unless a kept one still holds.

        AuthError when the agent asks to sign for another site or chain.
        """
        if self._http.resumed:
            self._has(f"/v1/specs/{bytes(32).hex()}")  # signs in when it must
        else:
            self._http.sign_in()

    def _sign_in(self) -> str:
        try:
            return self._sign_in_once()
        except RemoteError as error:
            if error.code is not Code.NONCE_UNKNOWN:
                raise
            # An answer was lost: the first try used the nonce up.
            return self._sign_in_once()

    def _auth(self, step: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A step of a sign-in; where the agent asks for a pause first, after that."""
        patience = _SIGN_IN_PATIENCE
        while True:
            try:
                return self._http.json("POST", f"/v1/auth/{step}", body, signed=False)
            except RemoteError as error:
                asked = error.details.get("retry_after")
                pause = asked if isinstance(asked, int) else 0
                if error.code is not Code.RATE_LIMITED or not 0 < pause <= patience:
                    raise
                patience -= pause
                self._http.wait(pause)

    def _sign_in_once(self) -> str:
        asked = self._auth("nonce")
        nonce, chain_id = asked.get("nonce"), asked.get("chain_id")
        if not isinstance(nonce, str) or not isinstance(chain_id, int):
            raise self._http.no_agent()
        if asked.get("domain") != siwe.authority(self.base_url):
            raise AuthError(
                f"{self.base_url}: the agent calls itself {ascii(asked.get('domain'))[:80]}; "
                "use the URL that the provider registered",
                Code.SIGN_IN_ELSEWHERE,
            )
        if self._chain_id not in (None, chain_id):
            raise AuthError(
                f"{self.base_url}: the agent is on chain {chain_id}, not on {self._chain_id}",
                Code.SIGN_IN_ELSEWHERE,
            )
        account = str(self._account.address)
        text = siwe.new_message(self.base_url, account, chain_id, nonce, int(time.time())).text()
        body = {"message": text, "signature": self._sign(text)}
        answer = self._auth("login", body)
        token = answer.get("token")
        if not isinstance(token, str) or not is_token(token):
            raise AuthError(
                f"{self.base_url}: the agent gave no session token", Code.ANSWER_INVALID
            )
        if self._kept is not None:
            self._kept.keep(token, answer.get("expires"))
        return token

    def _sign(self, text: str) -> str:
        signed = self._account.sign_message(encode_defunct(text=text))
        if signed is None:
            raise AuthError("the sign-in message was not signed; sign it to go on", Code.DECLINED)
        raw = signed.encode_rsv() if hasattr(signed, "encode_rsv") else signed.signature
        return "0x" + bytes(raw).hex()

    def challenged(self, lease: bytes) -> ChallengedLease:
        """The provider's side of an acceptance challenge of a lease of this account."""
        return ChallengedLease(self._http, lease)

    # ---------------------------------------------------------------- provider

    def provider(self) -> dict[str, Any]:
        """What the provider says about itself (`GET /v1/provider`)."""
        return self._http.json("GET", "/v1/provider", signed=False)

    def quote(
        self, spec: JobSpec, domain: messages.Domain, judged: int = Judged.TRUSTED
    ) -> tuple[messages.Quote, bytes]:
        """A signed quote for `spec`, whose specification must have been uploaded, and whose result
        is `judged` like that.

        `domain` is that of the Jobs contract. The signature, the requester and the specification
        are checked; the price is for the caller to judge.
        """
        query = f"?judged={int(judged)}" if judged else ""
        answer = self._http.json("POST", f"/v1/quotes{query}", {"spec": spec.digest().hex()})
        try:
            given = answer["quote"]
            values: dict[str, Any] = {
                name: bytes.fromhex(given[name].removeprefix("0x"))
                if kind == "bytes32"
                else given[name]
                if kind == "address"
                else int(given[name])
                for name, kind in messages.Quote.FIELDS
            }
            # The contract takes one form of it.
            signature = signatures.normalised(signatures.read(answer["signature"]))
            quote = messages.Quote(**values)
            signer = messages.recover(domain, quote, signature)
        except (KeyError, TypeError, ValueError, AttributeError, LocalError):
            raise LocalError(
                f"{self.base_url}: the quote is malformed", Code.QUOTE_INVALID
            ) from None
        if signer != quote.operator:
            raise LocalError(
                f"{self.base_url}: the quote is not signed by its operator", Code.QUOTE_INVALID
            )
        if quote.judged != judged:
            raise LocalError(
                f"{self.base_url}: the quote is for an order that is judged in another way",
                Code.QUOTE_INVALID,
            )
        if quote.spec != spec.digest():
            raise LocalError(
                f"{self.base_url}: the quote is for another specification", Code.QUOTE_INVALID
            )
        if int(quote.requester, 16) and quote.requester != str(self._account.address):
            raise LocalError(
                f"{self.base_url}: the quote is for another requester", Code.QUOTE_INVALID
            )
        return quote, signature

    # ---------------------------------------------------------------- uploads

    def upload_spec(self, spec: JobSpec) -> None:
        """Make sure that the agent has the specification."""
        self._upload_spec(spec, time.monotonic())

    def _upload_spec(self, spec: JobSpec, until: float) -> None:
        path = f"/v1/specs/{spec.digest().hex()}"
        if not self._has(path):
            # There is room for the specification of a job that the agent has seen.
            self._insist(lambda: self._http.request("PUT", path, content=spec.canonical()), until)

    def upload(self, spec: JobSpec, directory: Path, wait: float = 60) -> int:
        """Send the specification and those of its inputs that the agent does not have yet.

        Inputs lie below `directory` under their paths in the specification and are checked before
        anything is sent. Until the agent has seen the job on chain it refuses inputs; that is
        retried for `wait` seconds. Returns how many inputs were sent.
        """
        for entry in spec.inputs:
            local = directory / entry.path
            if file_digest(local).hex() != entry.sha256:
                raise LocalError(
                    f"{local}: differs from the specification; make it again", Code.INPUT_INVALID
                )
        until, sent = time.monotonic() + wait, 0
        self._upload_spec(spec, until)
        for entry in {e.sha256: e for e in spec.inputs}.values():
            path = f"/v1/inputs/{entry.sha256}"
            if not self._has(path):
                self._send_file(path, directory, entry, until)
                sent += 1
        return sent

    def _send_file(self, path: str, directory: Path, entry: Entry, until: float) -> None:
        headers = {"content-length": str(entry.size)}

        def send() -> httpx.Response:
            with open_beneath(directory, entry.path) as fd:
                return self._http.request(
                    "PUT", path, content=lambda: _file_pieces(fd), headers=headers
                )

        # The job may not have been seen yet; that it is not wanted is final.
        self._insist(send, until)

    def _insist(self, send: Callable[[], httpx.Response], until: float) -> None:
        """Send until it is taken, refused for good, or `until` (monotonic) has passed."""
        while True:
            try:
                self._http.checked(send())
                return
            except RemoteError as error:
                left = until - time.monotonic()
                if not error.retryable or left < 0:
                    raise
                asked = error.details.get("retry_after")
                pause = asked if isinstance(asked, int) and asked > 0 else 1
                time.sleep(min(pause, max(1.0, left)))

    def _has(self, path: str) -> bool:
        try:
            self._http.checked(self._http.request("HEAD", path))
        except RemoteError as error:
            if error.code in (Code.SPEC_MISSING, Code.INPUT_MISSING):
                return False
            raise
        return True

    # ---------------------------------------------------------------- jobs

    def job(self, job_id: bytes) -> dict[str, Any]:
        """The agent's view of a job of ours."""
        return self._http.json("GET", _job(job_id))

    def receipt(self, job_id: bytes, digest: bytes) -> bytes:
        """The receipt, checked against the digest attested on chain (32 bytes)."""
        path = f"{_job(job_id)}/receipt"
        return attested(self._http, path, digest, ANSWER_BYTES, _sha256)

    def logs(self, job_id: bytes, offset: int | None = None) -> dict[str, Any]:
        """A piece of the log: offset, next, size (bytes) and text; without offset its end.

        The text comes from the job: escape it before it reaches a terminal.
        """
        query = "" if offset is None else f"?offset={offset}"
        return self._http.json("GET", _job(job_id) + "/logs" + query)

    def fetch_result(
        self,
        origin: Origin,
        directory: Path,
        digest: bytes,
        max_bytes: int = 64 << 30,
        *,
        max_files: int = MAX_FILES,
        as_juror: bool = False,
        seal: bytes | None = None,
    ) -> list[Entry]:
        """Download a result to `directory`, which appears when all of it is verified.

        `digest` is the result digest attested on chain. What an interrupted call has got is kept
        in `<directory>.partial` and used by the next one. Returns the files. A drawn juror says
        that it asks as one, with the seal of what its own run gave if that is this result.
        """
        place = f"{_job(origin.job)}/{'evidence/result' if as_juror else 'result'}"
        query = "" if seal is None else f"?seal={seal.hex()}"
        most = Most(max_bytes, max_files)
        return self._files.result(place, query, origin, directory, digest, most)

    def fetch_spec(self, job_id: bytes, name: bytes) -> JobSpec:
        """The specification of a job whose digest is `name`, for a drawn juror."""
        return parse_named(self._http.read(f"{_job(job_id)}/evidence/spec", MAX_BYTES), name)

    def fetch_inputs(self, job_id: bytes, spec: JobSpec, directory: Path, most: int) -> None:
        """The inputs of a job, for a drawn juror: they are in `directory` then, each under its
        sha256, all verified. What is there already is not fetched.

        LocalError when they have more than `most` bytes together, or are not what they should be.
        """
        wanted = {entry.sha256: entry for entry in spec.inputs}
        self._files.named(f"{_job(job_id)}/evidence/inputs", wanted, directory, most)

    def give_evidence(self, job_id: bytes, data: bytes) -> bool:
        """Give a drawn juror what we say of a disputed result of ours: the bytes whose sha256 the
        dispute was opened with, at most `EVIDENCE_BYTES`. Whether it was sent: False where it is
        there already.
        """
        path = f"{_under('disputes', job_id)}/evidence"
        if self._has(path):
            return False
        self._http.checked(self._http.request("PUT", path, content=data))
        return True


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _job(job_id: bytes) -> str:
    return _under("jobs", job_id)


def _under(what: str, job_id: bytes) -> str:
    text = job_id.hex()
    if not is_hex_digest(text):
        raise LocalError("job id: expected 32 bytes", Code.INPUT_INVALID)
    return f"/v1/{what}/0x{text}"


def _file_pieces(fd: int) -> Iterator[bytes]:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        while piece := file.read(_CHUNK):
            yield piece

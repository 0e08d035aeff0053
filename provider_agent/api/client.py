# SPDX-License-Identifier: Apache-2.0
"""The tenant's side of a provider's API.

The provider is a stranger: every answer is bounded, no redirect is followed, and a result counts
only when its manifest hashes to the digest that was attested on chain.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote as percent
from urllib.parse import urlsplit

import httpx
from eth_account.messages import SignableMessage, encode_defunct

from provider_agent.errors import AgentError, AuthError
from provider_agent.protocol import messages, siwe
from provider_agent.protocol.digests import (
    Entry,
    directory_digest,
    encode_manifest,
    entries,
    file_digest,
    is_hex_digest,
    open_beneath,
    parse_manifest,
)
from provider_agent.protocol.jobspec import JobSpec

_ANSWER_BYTES = 1 << 20
_MANIFEST_BYTES = 64 << 20
_CHUNK = 1 << 18
# Failures of the network that a second try may cure.
_TRIES = 4
_NOT_WANTED = b"would not run the job"  # in the agent's answer to inputs


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

    `base_url` is the provider's public URL, as it stands on chain. Errors are AgentErrors of one
    line. Use it as a context manager, or call `close`.
    """

    def __init__(
        self,
        base_url: str,
        account: Signer,
        chain_id: int | None = None,
        timeout: float = 30,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        siwe.authority(base_url)
        try:
            httpx.URL(base_url)
        except httpx.InvalidURL:
            raise AuthError(f"{base_url!r}: not a URL") from None
        # The scheme in lower case: it decides whether certificates are checked.
        self.base_url = urlsplit(base_url).geturl().rstrip("/")
        self._account, self._chain_id = account, chain_id
        self._token: str | None = None
        self._http = httpx.Client(
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
            # Reading all certificates takes longer than a request; plain HTTP needs none.
            verify=self.base_url.startswith("https:"),
            transport=transport,
        )

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ---------------------------------------------------------------- session

    def login(self) -> None:
        """Sign in. AuthError when the agent asks to sign for another site or chain."""
        asked = self._json("POST", "/v1/auth/nonce", signed=False)
        nonce, chain_id = asked.get("nonce"), asked.get("chain_id")
        if not isinstance(nonce, str) or not isinstance(chain_id, int):
            raise AuthError(f"{self.base_url}: no Teraproof agent answers there; check the URL")
        if asked.get("domain") != siwe.authority(self.base_url):
            raise AuthError(
                f"{self.base_url}: the agent calls itself {ascii(asked.get('domain'))[:80]}; "
                "use the URL that the provider registered"
            )
        if self._chain_id not in (None, chain_id):
            raise AuthError(
                f"{self.base_url}: the agent is on chain {chain_id}, not on {self._chain_id}"
            )
        account = str(self._account.address)
        text = siwe.new_message(self.base_url, account, chain_id, nonce, int(time.time())).text()
        body = {"message": text, "signature": self._sign(text)}
        token = self._json("POST", "/v1/auth/login", body, signed=False).get("token")
        if not isinstance(token, str) or not token.isascii():
            raise AuthError(f"{self.base_url}: the agent gave no session token")
        self._token = token

    def _sign(self, text: str) -> str:
        signed = self._account.sign_message(encode_defunct(text=text))
        if signed is None:
            raise AuthError("the sign-in message was not signed; sign it to go on")
        raw = signed.encode_rsv() if hasattr(signed, "encode_rsv") else signed.signature
        return "0x" + bytes(raw).hex()

    # ---------------------------------------------------------------- provider

    def provider(self) -> dict[str, Any]:
        """What the provider says about itself (`GET /v1/provider`)."""
        return self._json("GET", "/v1/provider", signed=False)

    def quote(self, spec: JobSpec, domain: messages.Domain) -> tuple[messages.Quote, bytes]:
        """A signed quote for `spec`, whose specification must have been uploaded.

        `domain` is that of the Jobs contract. The signature, the requester and the specification
        are checked; the price is for the caller to judge.
        """
        answer = self._json("POST", "/v1/quotes", {"spec": spec.digest().hex()})
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
            signature = bytes.fromhex(answer["signature"].removeprefix("0x"))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise AgentError(f"{self.base_url}: the quote is malformed") from None
        quote = messages.Quote(**values)
        if messages.recover(domain, quote, signature) != quote.operator:
            raise AgentError(f"{self.base_url}: the quote is not signed by its operator")
        if quote.spec != spec.digest():
            raise AgentError(f"{self.base_url}: the quote is for another specification")
        if int(quote.requester, 16) and quote.requester != str(self._account.address):
            raise AgentError(f"{self.base_url}: the quote is for another requester")
        return quote, signature

    # ---------------------------------------------------------------- uploads

    def upload_spec(self, spec: JobSpec) -> None:
        """Make sure that the agent has the specification."""
        self._upload_spec(spec, time.monotonic())

    def _upload_spec(self, spec: JobSpec, until: float) -> None:
        path = f"/v1/specs/{spec.digest().hex()}"
        while not self._has(path):
            answer = self._request("PUT", path, content=spec.canonical())
            # There is room for the specification of a job that the agent has seen.
            if answer.status_code not in (429, 503) or time.monotonic() > until:
                self._checked(answer)
                return
            time.sleep(1)

    def upload(self, spec: JobSpec, directory: Path, wait: float = 60) -> int:
        """Send the specification and those of its inputs that the agent does not have yet.

        Inputs lie below `directory` under their paths in the specification and are checked before
        anything is sent. Until the agent has seen the job on chain it refuses inputs; that is
        retried for `wait` seconds. Returns how many inputs were sent.
        """
        for entry in spec.inputs:
            local = directory / entry.path
            if file_digest(local).hex() != entry.sha256:
                raise AgentError(f"{local}: differs from the specification; make it anew")
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
        while True:
            with open_beneath(directory, entry.path) as fd:
                answer = self._request(
                    "PUT", path, content=lambda fd=fd: _file_pieces(fd), headers=headers
                )
            # Also 403: the job may not have been seen yet. That it is not wanted is final.
            final = answer.status_code not in (403, 429, 503) or _NOT_WANTED in answer.content
            if final or time.monotonic() > until:
                break
            time.sleep(1)
        self._checked(answer)

    def _has(self, path: str) -> bool:
        answer = self._request("HEAD", path)
        if answer.status_code not in (200, 404):
            self._checked(answer)
        return answer.status_code == 200

    # ---------------------------------------------------------------- jobs

    def job(self, job_id: bytes) -> dict[str, Any]:
        """The agent's view of a job of ours."""
        return self._json("GET", _job(job_id))

    def receipt(self, job_id: bytes, digest: bytes) -> bytes:
        """The receipt, checked against the digest attested on chain (32 bytes)."""
        data = self._bytes(_job(job_id) + "/receipt", _ANSWER_BYTES)
        if hashlib.sha256(data).digest() != digest:
            raise AgentError(f"{self.base_url}: the receipt is not the one attested on chain")
        return data

    def logs(self, job_id: bytes, offset: int | None = None) -> dict[str, Any]:
        """A piece of the log: offset, next, size (bytes) and text; without offset its end.

        The text comes from the job: escape it before it reaches a terminal.
        """
        query = "" if offset is None else f"?offset={offset}"
        return self._json("GET", _job(job_id) + "/logs" + query)

    def fetch_result(
        self, job_id: bytes, directory: Path, digest: bytes, max_bytes: int = 64 << 30
    ) -> list[Entry]:
        """Download a result to `directory`, which appears when all of it is verified.

        `digest` is the result digest attested on chain. What an interrupted call has got is kept
        in `<directory>.partial` and used by the next one. Returns the files.
        """
        if directory.exists():
            here = entries(directory)
            if hashlib.sha256(encode_manifest(here)).digest() != digest:
                raise AgentError(f"{directory}: holds something else; name another directory")
            return here
        listed = parse_manifest(self._manifest(job_id, digest))
        total = sum(entry.size for entry in listed)
        if total > max_bytes:
            raise AgentError(f"the result has {total} bytes, more than the {max_bytes} allowed")
        partial = directory.with_name(directory.name + ".partial")
        files, parts = partial / "files", partial / "parts"
        _keep_only(files, {entry.path for entry in listed})
        for folder in (files, parts):
            folder.mkdir(parents=True, exist_ok=True)
        for entry in listed:
            place = files / entry.path
            if _is_file(place, entry):
                continue
            part = parts / entry.sha256
            self._fetch_file(job_id, entry, part)
            place.parent.mkdir(parents=True, exist_ok=True)
            part.replace(place)
        if directory_digest(files) != digest:
            raise AgentError(f"{files}: changed while it was fetched; delete {partial}, try again")
        files.replace(directory)
        shutil.rmtree(partial)
        return listed

    def _manifest(self, job_id: bytes, digest: bytes) -> bytes:
        data = self._bytes(_job(job_id) + "/result", _MANIFEST_BYTES)
        if hashlib.sha256(data).digest() != digest:
            raise AgentError(f"{self.base_url}: the result is not the one attested on chain")
        return data

    def _fetch_file(self, job_id: bytes, entry: Entry, part: Path) -> None:
        path = f"{_job(job_id)}/result/{percent(entry.path)}"
        for attempt in range(_TRIES):
            held = part.stat().st_size if part.exists() else 0
            if held > entry.size:
                part.unlink()
                held = 0
            try:
                if held < entry.size or not part.exists():
                    self._append(path, entry, part, held)
            except httpx.TransportError as error:
                if attempt == _TRIES - 1:
                    raise AgentError(f"{self.base_url}: {_cause(error)}; run it again") from None
                time.sleep(0.5 * 2**attempt)
                continue
            if file_digest(part).hex() == entry.sha256:
                return
            # Left over from another result, or a lie: start this file anew.
            part.unlink()
        raise AgentError(f"{self.base_url}: {entry.path} is not as its manifest says")

    def _append(self, path: str, entry: Entry, part: Path, held: int) -> None:
        headers = {"range": f"bytes={held}-"} if held else {}
        with self._stream("GET", path, headers=headers) as answer:
            if answer.status_code not in (200, 206):
                answer.read()
                self._checked(answer)
            whole = answer.status_code == 200
            left = entry.size - (0 if whole else held)
            with part.open("wb" if whole else "ab") as file:
                # As it comes, not in even pieces: what has arrived is kept when the rest does not.
                for piece in answer.iter_raw():
                    left -= len(piece)
                    if left < 0:
                        raise AgentError(f"{self.base_url}: {entry.path} is too long")
                    file.write(piece)

    # ---------------------------------------------------------------- requests

    def _json(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None = None,
        *,
        content: bytes | None = None,
        signed: bool = True,
    ) -> dict[str, Any]:
        if body is not None:
            content = json.dumps(body).encode()
        answer = self._checked(self._request(method, path, content=content, signed=signed))
        try:
            found = json.loads(answer.content)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise AgentError(f"{self.base_url}: no Teraproof agent answers there; check the URL")
        return found

    def _bytes(self, path: str, limit: int) -> bytes:
        return self._checked(self._request("GET", path, limit=limit)).content

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        headers: dict[str, str] | None = None,
        signed: bool = True,
        limit: int = _ANSWER_BYTES,
    ) -> httpx.Response:
        """One request with a bounded answer; transport failures are tried again."""
        for attempt in range(_TRIES):
            try:
                with self._stream(
                    method, path, content=content, headers=headers, signed=signed
                ) as answer:
                    data = bytearray()
                    for piece in answer.iter_raw(_CHUNK):
                        data += piece
                        if len(data) > limit:
                            raise AgentError(f"{self.base_url}: the answer is too long")
                    return httpx.Response(answer.status_code, content=bytes(data))
            except httpx.TransportError as error:
                if attempt == _TRIES - 1:
                    raise AgentError(f"{self.base_url}: {_cause(error)}; try later") from None
                time.sleep(0.25 * 2**attempt)
        raise AssertionError("unreachable")

    @contextmanager
    def _stream(
        self,
        method: str,
        path: str,
        *,
        content: Any = None,
        headers: dict[str, str] | None = None,
        signed: bool = True,
    ) -> Iterator[httpx.Response]:
        """Open a request; a session that has ended is renewed once."""
        for renewed in (False, True):
            sent = {"accept-encoding": "identity", **(headers or {})}
            if signed:
                if self._token is None:
                    self.login()
                sent["authorization"] = f"Bearer {self._token}"
            with self._http.stream(
                method,
                self.base_url + path,
                content=content() if callable(content) else content,
                headers=sent,
            ) as answer:
                if answer.status_code != 401 or not signed or renewed:
                    yield answer
                    return
                self._token = None

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code < 300:
            return answer
        try:
            line = json.loads(answer.content)["error"]
        except (ValueError, KeyError, TypeError, RecursionError):
            line = f"HTTP status {answer.status_code}"
        # The text is a stranger's: one line, and nothing that a terminal would obey.
        line = re.sub(r"[^\x20-\x7e]", "?", str(line))[:300]
        kind = AuthError if answer.status_code in (401, 403) else AgentError
        raise kind(f"{self.base_url}: {line}")


def _job(job_id: bytes) -> str:
    text = job_id.hex()
    if not is_hex_digest(text):
        raise AgentError("job id: expected 32 bytes")
    return f"/v1/jobs/0x{text}"


def _file_pieces(fd: int) -> Iterator[bytes]:
    with open(fd, "rb", closefd=False) as file:
        file.seek(0)
        while piece := file.read(_CHUNK):
            yield piece


def _keep_only(files: Path, wanted: set[str]) -> None:
    """Clear what an earlier, other result left in `files`."""
    if not files.exists():
        return
    for path in sorted(files.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path.relative_to(files).as_posix() not in wanted:
            path.unlink()


def _is_file(place: Path, entry: Entry) -> bool:
    if not place.is_file() or place.is_symlink() or place.stat().st_size != entry.size:
        return False
    return file_digest(place).hex() == entry.sha256


def _cause(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "the agent does not answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection to the agent"
    return "the connection to the agent broke"

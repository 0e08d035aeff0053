# SPDX-License-Identifier: Apache-2.0
"""Sign-In with Ethereum (EIP-4361): the text that an account signs to open a session.

The parser accepts exactly what the formatter writes, so that what a wallet showed is what is
checked. Times are RFC 3339 in the text and unix seconds in `verify`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol
from urllib.parse import urlsplit

from eth_abi.abi import encode
from eth_utils.address import is_checksum_address
from eth_utils.crypto import keccak

from teraproof.errors import AuthError, LocalError
from teraproof.protocol import signatures
from teraproof.protocol.errors import Code
from teraproof.protocol.messages import recover_signer
from teraproof.rpc.errors import Reverted

MAX_MESSAGE_BYTES = 4_096
MAX_SIGNATURE_BYTES = 4_096

EthCall = Callable[[str, bytes], bytes]
"""`eth_call(to, data)`: the returned bytes, empty for an account without code.

It raises `Reverted` when the contract refuses and `ChainError` when nobody answers.
"""

# `isValidSignature(bytes32,bytes)`: its selector is also what it returns for "yes".
_ERC1271_MAGIC = bytes.fromhex("1626ba7e")

_HEADER = " wants you to sign in with your Ethereum account:"
# The characters of RFC 3986 (reserved and unreserved), which are all that EIP-4361 lets in.
_URI_CHARS = r"A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;="
_DOMAIN = re.compile(r"[A-Za-z0-9\-._~%\[\]:]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*")
_STATEMENT = re.compile(rf"[{_URI_CHARS} ]+")
_URI = re.compile(rf"[A-Za-z][A-Za-z0-9+\-.]*:[{_URI_CHARS}%]*")
_NONCE = re.compile(r"[A-Za-z0-9]{8,128}")
_REQUEST_ID = re.compile(rf"[{_URI_CHARS.replace('/?#', '')}%]*")
_CHAIN_ID = re.compile(r"[1-9][0-9]{0,17}")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
)


@dataclass(frozen=True)
class Message:
    """The fields of one sign-in message, texts as they stand in it."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    scheme: str | None = None
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _match("domain", _DOMAIN, self.domain)
        if self.scheme is not None:
            _match("scheme", _SCHEME, self.scheme)
        if not is_checksum_address(self.address):
            raise AuthError(
                "sign-in: the address has no EIP-55 checksum; write it with capitals as EIP-55 says"
            )
        if self.statement is not None:
            _match("statement", _STATEMENT, self.statement)
        _match("URI", _URI, self.uri)
        _match("Chain ID", _CHAIN_ID, str(self.chain_id))
        _match("Nonce", _NONCE, self.nonce)
        for name in ("issued_at", "expiration_time", "not_before"):
            value = getattr(self, name)
            if value is not None:
                seconds(name, value)
        if self.request_id is not None:
            _match("Request ID", _REQUEST_ID, self.request_id)
        for resource in self.resources:
            _match("Resources", _URI, resource)

    def text(self) -> str:
        """The message as it is signed."""
        origin = f"{self.scheme}://{self.domain}" if self.scheme else self.domain
        lines = [origin + _HEADER, self.address, ""]
        if self.statement is not None:
            lines.append(self.statement)
        lines += [
            "",
            f"URI: {self.uri}",
            "Version: 1",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        if self.expiration_time is not None:
            lines.append(f"Expiration Time: {self.expiration_time}")
        if self.not_before is not None:
            lines.append(f"Not Before: {self.not_before}")
        if self.request_id is not None:
            lines.append(f"Request ID: {self.request_id}")
        if self.resources:
            lines.append("Resources:")
            lines += [f"- {resource}" for resource in self.resources]
        return "\n".join(lines)


def parse(text: str) -> Message:
    """Read a sign-in message. AuthError, one line, when any character is out of place."""
    if len(text.encode("utf-8", "replace")) > MAX_MESSAGE_BYTES:
        raise AuthError(f"sign-in: longer than {MAX_MESSAGE_BYTES} bytes")
    lines = text.split("\n")
    if len(lines) < 9 or not lines[0].endswith(_HEADER) or lines[2] != "":
        raise AuthError("sign-in: not an EIP-4361 message")
    origin = lines[0].removesuffix(_HEADER)
    scheme, found, domain = origin.rpartition("://")
    statement = None if lines[3] == "" and lines[4] != "" else lines[3]
    rest = lines[4:] if statement is None else lines[5:]
    if statement is not None and lines[4] != "":
        raise AuthError("sign-in: no empty line before URI")

    def take(label: str, needed: bool = True) -> str | None:
        if rest and rest[0].startswith(label + ": "):
            return rest.pop(0)[len(label) + 2 :]
        if needed:
            raise AuthError(f"sign-in: {label} is missing or out of order")
        return None

    uri, version, chain_id = take("URI"), take("Version"), take("Chain ID")
    nonce, issued_at = take("Nonce"), take("Issued At")
    expiration_time = take("Expiration Time", needed=False)
    not_before = take("Not Before", needed=False)
    request_id = take("Request ID", needed=False)
    listed: tuple[str, ...] = ()
    if rest and rest[0] == "Resources:":
        if any(not line.startswith("- ") for line in rest[1:]):
            raise AuthError("sign-in: a resource does not start with '- '")
        listed = tuple(line[2:] for line in rest[1:])
        rest = []
    if rest:
        raise AuthError("sign-in: unknown lines at the end")
    if version != "1":
        raise AuthError("sign-in: Version is not 1")
    _match("Chain ID", _CHAIN_ID, chain_id or "")
    message = Message(
        domain=domain,
        address=lines[1],
        uri=uri or "",
        chain_id=int(chain_id or "0"),
        nonce=nonce or "",
        issued_at=issued_at or "",
        scheme=scheme if found else None,
        statement=statement,
        expiration_time=expiration_time,
        not_before=not_before,
        request_id=request_id,
        resources=listed,
    )
    if message.text() != text:
        raise AuthError("sign-in: not written as EIP-4361 writes it")
    return message


@dataclass(frozen=True)
class Expected:
    """What a message must say to be for this server."""

    domain: str
    """Host, with the port where it is not the scheme's own."""
    uri: str
    """The server's public URL, without a slash at the end."""
    chain_id: int
    max_age: int = 600
    """Seconds after which a message is too old, whatever it says itself."""
    skew: int = 60
    """Seconds by which two clocks may differ."""
    origins: tuple[str, ...] = ()
    """Of web pages that may sign in their users: `https://app.example`."""

    @classmethod
    def at(cls, public_url: str, chain_id: int, origins: Sequence[str] = ()) -> Expected:
        """What messages for the server at `public_url`, or from a page of `origins`, say."""
        url = public_url.rstrip("/")
        return cls(authority(url), url, chain_id, origins=tuple(map(origin, origins)))

    def check_origin(self, message: Message) -> None:
        """AuthError unless the server or one of the pages asked for the signature.

        A wallet shows its user the page's domain, so that is what a page's users sign.
        """
        domains = {self.domain: urlsplit(self.uri).scheme}
        domains.update((authority(page), urlsplit(page).scheme) for page in self.origins)
        scheme = domains.get(message.domain)
        if scheme is None:
            raise AuthError(f"sign-in: the domain is not {self.domain}", Code.SIGN_IN_ELSEWHERE)
        if message.scheme is not None and message.scheme != scheme:
            raise AuthError(f"sign-in: the scheme is not {scheme}", Code.SIGN_IN_ELSEWHERE)


class NonceStore(Protocol):
    """Where nonces are kept until they are used, once."""

    def consume_nonce(self, value: str, now: int) -> bool:
        """Whether `value` was issued, has not expired and was not consumed; it is consumed now."""
        ...


def verify(
    text: str, signature: bytes, expected: Expected, nonces: NonceStore, eth_call: EthCall, now: int
) -> str:
    """Return the address that signed in. AuthError says what is wrong.

    The nonce is consumed before the signature is looked at: one nonce is one try.
    """
    message = parse(text)
    expected.check_origin(message)
    if message.uri.rstrip("/") != expected.uri:
        raise AuthError(f"sign-in: the URI is not {expected.uri}", Code.SIGN_IN_ELSEWHERE)
    if message.chain_id != expected.chain_id:
        raise AuthError(f"sign-in: the chain id is not {expected.chain_id}", Code.SIGN_IN_ELSEWHERE)
    issued = seconds("issued_at", message.issued_at)
    if issued > now + expected.skew:
        raise AuthError("sign-in: issued in the future; set the clock", Code.SIGN_IN_EXPIRED)
    if issued < now - expected.max_age - expected.skew:
        raise AuthError("sign-in: issued too long ago; sign a new message", Code.SIGN_IN_EXPIRED)
    ends, begins = message.expiration_time, message.not_before
    # No allowance at the end: the signer chose this moment.
    if ends is not None and now >= seconds("expiration_time", ends):
        raise AuthError("sign-in: the message has expired; sign a new one", Code.SIGN_IN_EXPIRED)
    if begins is not None and now + expected.skew < seconds("not_before", begins):
        raise AuthError("sign-in: the message is not valid yet", Code.SIGN_IN_EXPIRED)
    if not nonces.consume_nonce(message.nonce, now):
        raise AuthError(
            "sign-in: the nonce is unknown, used or expired; ask for a new one", Code.NONCE_UNKNOWN
        )
    error = refusal(message.address, personal_digest(text), signature, eth_call)
    if error is not None:
        raise error
    return message.address


def personal_digest(text: str) -> bytes:
    """The 32 bytes that `personal_sign` signs (EIP-191, version 0x45)."""
    data = text.encode()
    return bytes(keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data))


def signed_by(account: str, digest: bytes, signature: bytes, eth_call: EthCall) -> bool:
    """Whether `account` signed the 32 bytes `digest`, by its key or through ERC-1271."""
    return refusal(account, digest, signature, eth_call) is None


def refusal(account: str, digest: bytes, signature: bytes, eth_call: EthCall) -> AuthError | None:
    """Why `signature` is not one of `account`; None when it is. ChainError when nobody answers.

    A key's signature may have any form that `signatures.normalised` reads. A contract wallet is
    asked, so it has to be deployed: of an ERC-6492 signature only the wallet's part is used, and
    nothing is executed to deploy one.
    """
    if not 0 < len(signature) <= MAX_SIGNATURE_BYTES:
        return _not_signed(account, f"a signature has 1 to {MAX_SIGNATURE_BYTES} bytes")
    said = "another key made the signature"
    try:
        inner = signatures.unwrapped(signature)
        if inner is None and recover_signer(digest, signatures.normalised(signature)) == account:
            return None
    except LocalError as error:
        # Not a key's signature; a contract may still accept it.
        said, inner = str(error).removeprefix("signature: "), None
    data = _ERC1271_MAGIC + encode(["bytes32", "bytes"], [digest, inner or signature])
    try:
        answer = eth_call(account, data)
    except Reverted:
        return _not_signed(account, "its contract refuses the signature")
    if answer == _ERC1271_MAGIC + bytes(28):
        return None
    if answer:
        return _not_signed(account, "its contract does not confirm the signature")
    # An account without code answers nothing, which is not a yes.
    if inner is not None:
        return AuthError(
            f"sign-in: the wallet {account} has no contract on this chain yet; send any "
            "transaction from it, then sign in",
            Code.WALLET_UNDEPLOYED,
        )
    return _not_signed(account, said)


def _not_signed(account: str, why: str) -> AuthError:
    return AuthError(f"sign-in: not signed by {account}: {why}", Code.SIGNATURE_INVALID)


def new_message(public_url: str, account: str, chain_id: int, nonce: str, now: int) -> Message:
    """The message that a tenant signs for the server at `public_url`; valid for five minutes."""
    url = public_url.rstrip("/")
    message = Message(
        domain=authority(url),
        address=account,
        uri=url,
        chain_id=chain_id,
        nonce=nonce,
        issued_at=rfc3339(now),
        scheme=urlsplit(url).scheme,
        statement="Sign in to this Teraproof provider. This moves no money.",
    )
    return replace(message, expiration_time=rfc3339(now + 300))


def authority(url: str) -> str:
    """Host and port of an http(s) URL, as browsers name an origin. AuthError for other URLs, and
    for those that name more than a server: who writes one chooses nothing but where to ask.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise AuthError(f"{url!r}: not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise AuthError(f"{url!r}: give http:// or https:// and a host")
    if parts.path not in ("", "/") or "?" in url or "#" in url:
        raise AuthError(f"{url!r}: give host and port alone, without a path and what follows it")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    standard = {"http": 80, "https": 443}[parts.scheme]
    return host if port in (None, standard) else f"{host}:{port}"


def origin(url: str) -> str:
    """A web origin as browsers send it: scheme, host and port, nothing behind. AuthError else."""
    host = authority(url)
    found = f"{urlsplit(url).scheme}://{host}"
    if url.lower().rstrip("/") not in (found, f"{found}:{urlsplit(url).port}"):
        raise AuthError(f"{url!r}: give an origin such as https://app.example, without a path")
    return found


def rfc3339(time: int) -> str:
    """A unix time as it stands in a message."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(name: str, text: str) -> int:
    """The unix time of an RFC 3339 text, fractions cut. AuthError names `name`."""
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        raise AuthError(f"sign-in: {name} is not an RFC 3339 time") from None


def _match(name: str, pattern: re.Pattern[str], value: str) -> None:
    if not pattern.fullmatch(value):
        raise AuthError(f"sign-in: {name} has characters that do not belong there")

# SPDX-License-Identifier: Apache-2.0
"""What tenants have said of their public ports: how each is served, and with which certificate.

A public port has to go on when the agent starts again, whoever is asleep then. So the tenant's
certificate and its key lie in a file of their own, that only the agent's user can read, for as long
as the lease goes on. They are sealed with the operator's key: who has the disk or a backup alone
reads nothing, and no file serves for another port. When the lease ends the file is overwritten and
deleted.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from Crypto.Cipher import ChaCha20_Poly1305
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from provider_agent import durable
from provider_agent.dataplane.outer import Key

log = logging.getLogger(__name__)

_USE = b"teraproof: certificates of public ports, 1"
_PREFIX = "published"  # of the files' names
_NONCE, _TAG = 24, 16  # bytes


@dataclass(frozen=True)
class Served:
    """How a public port is served. `mode` is `tls` or `plain`; certificate and key are PEM, or
    empty for the agent's own.
    """

    mode: str
    certificate: str = ""
    key: str = field(default="", repr=False)


class Published:
    """See the module. `folder` has the files, next to others, and `secret` is the operator's
    private key. Used on the loop alone.
    """

    def __init__(self, folder: Path, secret: bytes) -> None:
        self._folder = folder
        (self._seal,) = _derived(secret)

    def keep(self, key: Key, served: Served) -> None:
        """Have it over restarts, too. Raises OSError."""
        cipher = ChaCha20_Poly1305.new(key=self._seal, nonce=os.urandom(_NONCE))
        cipher.update(str(key).encode())
        said = json.dumps([served.mode, served.certificate, served.key]).encode()
        sealed, tag = cipher.encrypt_and_digest(said)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = self._of(key)
        fresh = place.with_name(f".{place.name}")
        handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(cipher.nonce + tag + sealed)
        durable.sync(fresh)
        fresh.replace(place)

    def of(self, key: Key) -> Served | None:
        """What the tenant has said of a port; None where it has said nothing that can be read."""
        try:
            found = self._of(key).read_bytes()
        except OSError:
            return None
        nonce, tag = found[:_NONCE], found[_NONCE : _NONCE + _TAG]
        try:
            cipher = ChaCha20_Poly1305.new(key=self._seal, nonce=nonce)
            cipher.update(str(key).encode())
            said = json.loads(cipher.decrypt_and_verify(found[_NONCE + _TAG :], tag))
            return Served(*map(str, said))
        except (ValueError, TypeError):
            log.warning("data plane: what was published for %s cannot be read", key)
            return None

    def keep_only(self, leases: Collection[bytes]) -> None:
        """Wipe what all other leases have said: they have ended."""
        names = {lease.hex() for lease in leases}
        with contextlib.suppress(FileNotFoundError):
            for path in list(self._folder.iterdir()):
                kind, _, rest = path.name.removeprefix(".").partition(".")
                if kind == _PREFIX and rest.partition(".")[0] not in names:
                    _wipe(path)

    def _of(self, key: Key) -> Path:
        port = hashlib.sha256(str(key).encode()).hexdigest()[:16]
        return self._folder / f"{_PREFIX}.{key.lease.hex()}.{port}"


def _derived(secret: bytes) -> tuple[bytes, ...]:
    made = HKDF(secret, 32, b"", SHA256, context=_USE)
    return made if isinstance(made, tuple) else (made,)


def _wipe(path: Path) -> None:
    """Overwrites a file and deletes it. A disk may have other copies: they stay sealed."""
    try:
        with path.open("r+b") as file:
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("data plane: %s cannot be wiped: %s", path.name, error.strerror)

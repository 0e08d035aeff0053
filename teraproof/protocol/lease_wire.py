# SPDX-License-Identifier: Apache-2.0
"""What a provider's agent and a tenant's tools say to each other about leases, as JSON.

GET  /v1/leases/offer                   what it offers (`lease_offer`); nobody has to sign in
HEAD, PUT /v1/leases/specs/{sha256}     a canonical lease specification
POST /v1/leases/quotes                  a `QuoteRequest`; the answer is a `SignedLeaseQuote`
GET  /v1/leases/{id}                    a `LeaseReport`, for the tenant
PUT  /v1/leases/{id}/credentials        `RegistryLogins`, from the tenant to the hired provider
POST /v1/leases/{id}/checkpoint         an `AskedSave`, for the tenant (`lease_checkpoints`)
GET, POST /v1/leases/{id}/challenge     see `teraproof.acceptance`

Each side is a stranger to the other: what comes in is bounded, and taken whole or refused in one
line. Integers that may have more than 53 bits are decimal text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from teraproof.errors import LocalError, SpecError
from teraproof.protocol import signatures
from teraproof.protocol.documents import Form
from teraproof.protocol.errors import Code, known
from teraproof.protocol.lease_terms import Ending, LeaseStatus
from teraproof.protocol.leasespec import DEFINITIONS
from teraproof.protocol.messages import LeaseQuote

OFFER = "/v1/leases/offer"
SPECS = "/v1/leases/specs"
QUOTES = "/v1/leases/quotes"
LEASES = "/v1/leases"

#: Longest line of a report, and longest list of containers or endpoints.
MOST_TEXT, MOST_PARTS = 2_000, 10_000
_MOST_LOGINS = 64
_SECONDS = re.compile(r"0|[1-9][0-9]{0,9}")


class LeaseOutcome(StrEnum):
    """How a lease ended; the first seven are `Ending`'s, by their names."""

    NOT_READY = "not_ready"
    REJECTED = "rejected"
    BY_TENANT = "by_tenant"
    BY_PROVIDER = "by_provider"
    ABANDONED = "abandoned"
    OVER = "over"
    DRY = "dry"
    CANCELLED = "cancelled"  # nobody took it
    ENDED = "ended"  # in a way that the agent has not seen

    @classmethod
    def of(cls, reason: int) -> LeaseOutcome:
        """What `reason` of the event `Closed` means; ENDED for one of a later version."""
        try:
            return cls(Ending(reason).name.lower())
        except ValueError:
            return cls.ENDED


# ------------------------------------------------------------------------------------ quotes


@dataclass(frozen=True)
class QuoteRequest:
    """What a tenant asks a price for. Seconds.

    The specification must have been sent before. `notice` and `ready_within` may be 0: then the
    provider names its own. It gives at least the notice, and is ready within the time, or says no.
    """

    spec: bytes
    """sha256 of the canonical specification, 32 bytes."""
    term: int
    notice: int = 0
    ready_within: int = 0

    def to_json(self) -> dict[str, str]:
        """The body of the request: all of its fields are text."""
        return {
            "spec": self.spec.hex(),
            "term": str(self.term),
            "notice": str(self.notice),
            "ready_within": str(self.ready_within),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, str]) -> QuoteRequest:
        """The inverse, of a body whose fields are text. LocalError is `field: what is wrong`."""
        if not re.fullmatch(r"[0-9a-f]{64}", body["spec"]):
            raise LocalError("spec: give 64 lower-case hex digits", Code.FIELD_INVALID)
        seconds = {}
        for name in ("term", "notice", "ready_within"):
            if not _SECONDS.fullmatch(body[name]) or int(body[name]) >= 2**32:
                raise LocalError(f"{name}: give seconds, as decimal text", Code.FIELD_INVALID)
            seconds[name] = int(body[name])
        return cls(bytes.fromhex(body["spec"]), **seconds)


@dataclass(frozen=True)
class SignedLeaseQuote:
    """A quote and the operator's signature of it (65 bytes, as the contract takes it).

    `images` says, by service, which bytes its image means for this lease (`name@sha256:...`). A
    service whose registry wants credentials is not in it: the image is fetched after the hire.
    """

    quote: LeaseQuote
    signature: bytes
    images: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            "quote": {
                name: "0x" + value.hex() if isinstance(value, bytes) else str(value)
                for name, value in self.quote.values().items()
            },
            "signature": "0x" + self.signature.hex(),
            "images": dict(self.images),
        }

    @classmethod
    def from_json(cls, document: Any) -> SignedLeaseQuote:
        """The inverse, of a stranger's answer. LocalError (`quote_invalid`) in one line."""
        try:
            given = document["quote"]
            values: dict[str, Any] = {}
            for name, kind in LeaseQuote.FIELDS:
                value = given[name]
                if kind == "bytes32":
                    value = bytes.fromhex(value.removeprefix("0x"))
                elif kind != "address":
                    value = int(value)
                values[re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", name)] = value
            signature = signatures.normalised(signatures.read(document["signature"]))
            images = {str(name)[:64]: str(image)[:512] for name, image in _images(document)}
            return cls(LeaseQuote(**values), signature, images)
        except (KeyError, TypeError, ValueError, AttributeError, LocalError):
            raise LocalError("the quote is malformed", Code.QUOTE_INVALID) from None


def _images(document: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return list(document.get("images", {}).items())[:MOST_PARTS]


# ------------------------------------------------------------------------------------ reports


@dataclass(frozen=True)
class ContainerReport:
    """How one container of a lease is. `status` is missing, created, running, exited or oom;
    `started` unix seconds of its last run, `deaths` how often it was found dead.
    """

    service: str
    number: int
    status: str
    exit_code: int | None = None
    started: int | None = None
    deaths: int = 0
    detail: str = ""


@dataclass(frozen=True)
class EndpointReport:
    """How a port of a service is reached. `port` is its number in the container, `outer` the one
    that the tenant asked for; `url` says where, or is "" while nobody can reach it.
    """

    service: str
    port: int
    outer: int
    protocol: str
    public: bool
    url: str = ""


@dataclass(frozen=True)
class LeaseReport:
    """How a lease stands, as its provider's agent says it. Times are unix seconds, 0 for what has
    not happened. Money is read on the chain: what the agent says of it is a help.
    """

    lease: bytes
    spec: bytes
    requester: str
    status: LeaseStatus
    """NONE where it has ended; then `outcome` says how."""
    rate: int
    """Payment token units per second; 0 while nobody has taken it."""
    outcome: LeaseOutcome | None = None
    blocked_by: Code | None = None
    """What keeps it from running, while it should."""
    note: str = ""
    """The same for people, in one line."""
    running: bool = False
    """Whether every container runs now."""
    suspended: bool = False
    """Whether rent stands still because something of it is down."""
    assigned_at: int = 0
    ready_at: int = 0
    leaves_at: int = 0
    """When the notice that the provider has given ends."""
    ends_at: int = 0
    """Its last second; 0 before `ready`."""
    seconds: int = 0
    """That rent is due for, those paid included."""
    seconds_paid: int = 0
    affordable: int = 0
    """Seconds that the deposit pays for."""
    containers: tuple[ContainerReport, ...] = ()
    endpoints: tuple[EndpointReport, ...] = ()
    logins: tuple[str, ...] = ()
    """Services for which the agent waits for registry credentials."""
    checkpoint: str = ""
    """The newest one that the agent has saved, or has begun with; "" before the first."""
    saved_at: int = 0
    """When the agent has saved last, or found nothing to save; 0: not yet."""
    unsaved: str = ""
    """Why it does not save, in one line; "" while it does."""

    def to_json(self) -> dict[str, Any]:
        """The body of the answer."""
        return {
            **vars(self),
            "lease": "0x" + self.lease.hex(),
            "spec": self.spec.hex(),
            "status": self.status.name.lower(),
            "rate": str(self.rate),
            "containers": [dict(vars(each)) for each in self.containers],
            "endpoints": [dict(vars(each)) for each in self.endpoints],
            "logins": list(self.logins),
        }

    @classmethod
    def from_json(cls, document: Any) -> LeaseReport:
        """The inverse, of a stranger's answer. SpecError is one line that names the field.

        What a later version adds is left out; a code that this one does not know is CODE_UNKNOWN.
        """
        REPORT.check(document)
        given = {name: document[name] for name in _REPORT["properties"]}
        outcome, blocked = given["outcome"], given["blocked_by"]
        return cls(
            **given
            | {
                "lease": bytes.fromhex(given["lease"][2:]),
                "spec": bytes.fromhex(given["spec"]),
                "status": LeaseStatus[given["status"].upper()],
                "rate": int(given["rate"]),
                "outcome": None if outcome is None else _outcome(outcome),
                "blocked_by": None if blocked is None else known(blocked),
                "containers": _parts(ContainerReport, _CONTAINER, given["containers"]),
                "endpoints": _parts(EndpointReport, _ENDPOINT, given["endpoints"]),
                "logins": tuple(given["logins"]),
            }
        )


def _outcome(name: str) -> LeaseOutcome:
    try:
        return LeaseOutcome(name)
    except ValueError:
        return LeaseOutcome.ENDED


def _parts(kind: Any, schema: Mapping[str, Any], found: list[Mapping[str, Any]]) -> tuple[Any, ...]:
    return tuple(kind(**{name: each[name] for name in schema["properties"]}) for each in found)


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    """All of these, and perhaps more in a later version."""
    return {"type": "object", "required": list(properties), "properties": properties}


def _list(items: Mapping[str, Any], most: int = MOST_PARTS) -> dict[str, Any]:
    return {
        "type": "array",
        "maxItems": most,
        "items": items,
        "description": f"a list of at most {most}",
    }


def _whole(most: int = 2**53 - 1, *, absent: bool = False) -> dict[str, Any]:
    kinds: Any = ["integer", "null"] if absent else "integer"
    return {"type": kinds, "minimum": 0, "maximum": most, "description": f"0 to {most}"}


def _text(pattern: str, said: str, most: int = 128, *, absent: bool = False) -> dict[str, Any]:
    kinds: Any = ["string", "null"] if absent else "string"
    ending = r"$(?!\n)"
    return {"type": kinds, "pattern": f"^{pattern}{ending}", "maxLength": most, "description": said}


_TRUTH = {"type": "boolean", "description": "true or false"}
_LINE = {
    "type": "string",
    "maxLength": MOST_TEXT,
    "description": f"text of at most {MOST_TEXT} characters",
}
_NAME = {"type": "string", "maxLength": 63, "description": "the name of a service"}
_CONTAINER = _object(
    service=_NAME,
    number=_whole(),
    status=_text("[a-z]{1,16}", "how a container is"),
    exit_code={"type": ["integer", "null"], "description": "an integer or null"},
    started=_whole(absent=True),
    deaths=_whole(),
    detail=_LINE,
)
_ENDPOINT = _object(
    service=_NAME,
    port=_whole(65_535),
    outer=_whole(65_535),
    protocol=_text("(tcp|udp)", "tcp or udp"),
    public=_TRUTH,
    url=_LINE,
)
_TIMES = (
    "assigned_at",
    "ready_at",
    "leaves_at",
    "ends_at",
    "seconds",
    "seconds_paid",
    "affordable",
)
_STATES = "|".join(each.name.lower() for each in LeaseStatus)
_REPORT = _object(
    lease=_text("0x[0-9a-f]{64}", "0x and 64 hex digits"),
    spec=_text("[0-9a-f]{64}", "64 hex digits"),
    requester=_text("0x[0-9a-fA-F]{40}", "an address"),
    status=_text(f"({_STATES})", "where a lease stands"),
    rate=_text("[0-9]{1,78}", "decimal text"),
    outcome=_text("[a-z_]{1,32}", "how a lease ended, or null", absent=True),
    blocked_by=_text("[a-z_]{1,64}", "a code, or null", absent=True),
    note=_LINE,
    running=_TRUTH,
    suspended=_TRUTH,
    **{name: _whole() for name in _TIMES},
    containers=_list(_CONTAINER),
    endpoints=_list(_ENDPOINT),
    logins=_list(_NAME),
    checkpoint=_text("([0-9]{1,6}[.][0-9]{1,9})?", "a checkpoint"),
    saved_at=_whole(),
    unsaved=_LINE,
)
#: How reports are read; its schema is that of the answer.
REPORT = Form("lease report", _REPORT, 4 << 20, instead="ask another provider")
REPORT_SCHEMA: Mapping[str, Any] = _REPORT


# ------------------------------------------------------------------------------------ credentials


@dataclass(frozen=True)
class RegistryLogin:
    """For the registry that has the image of one service. Never written to a disk."""

    username: str
    password: str = field(repr=False)
    host: str = ""


@dataclass(frozen=True)
class RegistryLogins:
    """What the hired provider needs: logins by services, and what opens the store of checkpoints,
    as `teraproof.storage.access` names it.
    """

    by_service: Mapping[str, RegistryLogin] = field(default_factory=dict)
    store: Mapping[str, str] | None = field(default=None, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The body of the request. It is secret."""
        body = {"services": {name: dict(vars(one)) for name, one in self.by_service.items()}}
        return body if self.store is None else {**body, "store": dict(self.store)}

    @classmethod
    def from_json(cls, document: Any) -> RegistryLogins:
        """The inverse. SpecError is one line that names the field, and shows nothing of it."""
        try:
            LOGINS.check(document)
        except SpecError as error:
            raise SpecError(f"{str(error).partition(':')[0]}: not as it should be") from None
        by_service = {name: RegistryLogin(**each) for name, each in document["services"].items()}
        return cls(by_service, document.get("store"))


def _secret(said: str, most: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, "description": said}


_LOGIN = {
    **_object(
        username=_secret("text of at most 512 characters", 512),
        password=_secret("text of at most 16384 characters", 16_384),
        host=_secret("the host of a registry", 255),
    ),
    "additionalProperties": False,
}
_LOGINS: dict[str, Any] = _object(
    services={
        "type": "object",
        "maxProperties": _MOST_LOGINS,
        "propertyNames": DEFINITIONS["service_name"],
        "additionalProperties": _LOGIN,
        "description": f"an object of at most {_MOST_LOGINS} services",
    }
)
_STORE = {
    "type": "object",
    "maxProperties": 16,
    "additionalProperties": _secret("text of at most 4096 characters", 4_096),
    "description": "an object of texts",
}
LOGINS_SCHEMA: Mapping[str, Any] = {
    **_LOGINS,
    "properties": {**_LOGINS["properties"], "store": _STORE},
    "additionalProperties": False,
}
LOGINS = Form("credentials", LOGINS_SCHEMA, 256 << 10, instead="send shorter ones")

# SPDX-License-Identifier: Apache-2.0
"""What agents publish about themselves (`GET /v1/provider`), read from many of them at once.

An agent is a stranger: its words are made harmless. That one does not answer is a result, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from teraproof import nesting
from teraproof.client.asking import EACH_SECONDS, Question, Silence, ask_each, ask_one
from teraproof.errors import LocalError, Refused
from teraproof.protocol.errors import Code, one_line
from teraproof.protocol.jobspec import JobSpec
from teraproof.protocol.pricing import least_for_collateral, least_price, most_collateral
from teraproof.protocol.terms import LEAST_CAPABILITY, Judged, address
from teraproof.storage.reach import Reach

_ANSWER_BYTES = 1 << 18
_NAMES = 64  # runtimes or devices that are read
_WORD = 60  # characters of a name
_MOST_DIGITS = 40
_MOST_PARTS = 500  # lists and objects in one answer
_JUDGED_FOR = ("anyone", "listed", "no")
_LIMITS = ("cpus", "memory_mb", "disk_mb", "gpus")
MIB = 1 << 20


@dataclass(frozen=True)
class Device:
    """A device that jobs may get."""

    kind: str
    name: str
    memory_bytes: int


@dataclass(frozen=True)
class Listing:
    """What an agent offers. Rates are whole tokens, sizes MiB; None is what it does not say."""

    owner: str | None
    chain_id: int
    jobs: str
    """Address of the Jobs contract that it works for."""
    runtimes: tuple[str, ...]
    price_per_hour: Decimal
    min_price: Decimal
    max_collateral: Decimal
    collateral_per_token: Decimal
    max_seconds: int
    limits: Mapping[str, int]
    """`cpus`, `memory_mb`, `disk_mb`, `gpus`, and `input_mb` if it is said."""
    slots: int
    promised: int
    devices: tuple[Device, ...]
    sandbox: str | None = None
    """What keeps jobs apart: `bubblewrap`, or `none`."""
    accepts_refusable: bool | None = None
    accepts_judged: str | None = None
    """Whose orders with jurors it takes: `anyone`'s, those that it has `listed`, or `no`."""
    judged_collateral_per_token: Decimal | None = None
    """Of orders with jurors, where that is less than `collateral_per_token`."""

    @property
    def free_slots(self) -> int:
        """Slots that no job has now."""
        return max(0, self.slots - self.promised)

    @property
    def gpus(self) -> tuple[Device, ...]:
        """Its devices that are not the processor."""
        return tuple(device for device in self.devices if device.kind != "cpu")

    def price(self, spec: JobSpec, unit: int) -> int:
        """Payment token units that it asks for a job, at least."""
        return least_price(self.price_per_hour, self.min_price, spec.timeout_seconds, unit)

    def collateral(self, price: int, unit: int, judged: int = Judged.TRUSTED) -> int:
        """TPF wei that it would put up at a price, at most; `judged` is that of the order."""
        return most_collateral(self._per_token(judged), self.max_collateral, price, unit)

    def price_for(self, collateral: int, unit: int, judged: int = Judged.TRUSTED) -> int | None:
        """Payment token units from which it puts up so much (TPF wei); None if at no price."""
        return least_for_collateral(self._per_token(judged), self.max_collateral, collateral, unit)

    def _per_token(self, judged: int) -> Decimal:
        of_judged = self.judged_collateral_per_token
        if judged <= LEAST_CAPABILITY or of_judged is None:
            return self.collateral_per_token
        return min(of_judged, self.collateral_per_token)

    def refuse_spec(self, spec: JobSpec) -> list[Refused]:
        """Everything that keeps it from running a specification, by what it says."""
        found = []
        if spec.runtime not in self.runtimes:
            offered = ", ".join(self.runtimes) or "none"
            line = f"has no runtime {spec.runtime} (it has {offered})"
            found.append(Refused(Code.RUNTIME_NOT_OFFERED, line))
        if spec.network:
            found.append(Refused(Code.NETWORK_NOT_OFFERED, "gives jobs no network"))
        asked = {
            "cpus": spec.resources.cpus,
            "memory_mb": spec.resources.memory_mb,
            "disk_mb": spec.resources.disk_mb,
            "gpus": spec.resources.gpus,
            "input_mb": -(-spec.input_bytes() // MIB),
        }
        for name, most in {**self.limits, "timeout_seconds": self.max_seconds}.items():
            wanted = spec.timeout_seconds if name == "timeout_seconds" else asked[name]
            if wanted > most:
                line = f"{name} {wanted:,} is above its {most:,}"
                found.append(Refused(Code.LIMIT_EXCEEDED, line, field=name, limit=most))
        return found

    @classmethod
    def parse(cls, data: bytes) -> Listing:
        """The document of an agent. LocalError (ANSWER_INVALID) when it is not one."""
        try:
            if data.count(b"[") + data.count(b"{") > _MOST_PARTS:
                raise ValueError("too deep")  # libraries may have raised Python's own limit
            document = nesting.loads(data)
            limits, slots = document["limits"], document["slots"]
            known = {
                name: _count(limits[name]) for name in ("cpus", "memory_mb", "disk_mb", "gpus")
            }
            if limits.get("input_mb") is not None:
                known["input_mb"] = _count(limits["input_mb"])
            owner, refusable = document["owner"], document.get("accept_refusable")
            sandbox, judged = document.get("sandbox"), document.get("accept_judged")
            of_judged = document.get("judged_collateral_per_token")
            return cls(
                owner=None if owner is None else address("owner", owner),
                chain_id=_count(document["chain_id"]),
                jobs=address("jobs", document["contracts"]["jobs"]),
                runtimes=tuple(_word(name) for name in document["runtimes"][:_NAMES]),
                price_per_hour=_rate(document["price_per_hour"]),
                min_price=_rate(document["min_price"]),
                max_collateral=_rate(document["max_collateral"]),
                collateral_per_token=_rate(document["collateral_per_token"]),
                max_seconds=_count(document["max_seconds"]),
                limits=known,
                slots=_count(slots["total"]),
                promised=_count(slots["promised"]),
                devices=tuple(
                    Device(_word(one["kind"]), _word(one["name"]), _count(one["memory_bytes"]))
                    for one in document["devices"][:_NAMES]
                ),
                sandbox=None if sandbox is None else _word(sandbox["walls"]),
                accepts_refusable=refusable if isinstance(refusable, bool) else None,
                accepts_judged=judged if judged in _JUDGED_FOR else None,
                judged_collateral_per_token=None if of_judged is None else _rate(of_judged),
            )
        except (ValueError, KeyError, TypeError, RecursionError, InvalidOperation, LocalError):
            raise LocalError("is not a Teraproof agent", Code.ANSWER_INVALID) from None


@dataclass(frozen=True)
class Asked:
    """An agent that was asked: its listing, or why there is none."""

    url: str
    listing: Listing | None
    trouble: str = ""


_QUESTION = Question("/v1/provider", _ANSWER_BYTES, Listing.parse)


def ask(url: str, reach: Reach, seconds: float = EACH_SECONDS) -> Asked:
    """What the agent at `url` says, within `seconds`. Never raises for what the agent does."""
    return _asked(url, ask_one(url, _QUESTION, reach, seconds))


def ask_all(urls: Mapping[str, str], reach: Reach) -> dict[str, Asked]:
    """Owner -> what the agent at its URL says, all asked at once, where `reach` admits it."""
    found = ask_each(urls, _QUESTION, reach)
    return {owner: _asked(urls[owner], said) for owner, said in found.items()}


def _asked(url: str, said: Listing | Silence) -> Asked:
    return Asked(url, None, said.why) if isinstance(said, Silence) else Asked(url, said)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise ValueError("not a count")
    return value


def _rate(value: Any) -> Decimal:
    if not isinstance(value, str) or len(value) > _MOST_DIGITS:
        raise ValueError("not a rate")
    found = Decimal(value)
    if not found.is_finite() or found < 0 or abs(found.adjusted()) > _MOST_DIGITS:
        raise ValueError("not a rate")
    return found


def _word(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("not a name")
    return one_line(value, _WORD)

# SPDX-License-Identifier: Apache-2.0
"""What the generated classes of the contracts have in common.

A view is a method that takes its arguments and a block, and raises what `RpcPool.eth_call` raises.
Any other function is a method that returns calldata. Amounts are in a token's smallest unit, times
unix seconds, addresses EIP-55.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from teraproof.contracts.abi import EventType, Function, Unreadable, checksummed
from teraproof.errors import LocalError
from teraproof.rpc.client import RpcPool
from teraproof.rpc.types import Block, Log

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded log; `at` says where it stands in the chain."""

    TYPE: ClassVar[EventType]

    at: Log

    @classmethod
    def read(cls, at: Log) -> Self:
        """The event of a log. Raises Unreadable, or LocalError for values that cannot be."""
        raise NotImplementedError


_Kind = TypeVar("_Kind", bound=Event)


class Contract:
    """A contract at an address, read over `rpc`."""

    NAME: ClassVar[str]
    EVENTS: ClassVar[tuple[type[Event], ...]]
    _by_topic: ClassVar[dict[bytes, type[Event]]]

    def __init__(self, rpc: RpcPool, address: str) -> None:
        self.rpc = rpc
        self.address = checksummed(address)

    def __init_subclass__(cls) -> None:
        cls._by_topic = {kind.TYPE.topic: kind for kind in cls.EVENTS}

    def decode(self, entry: Log) -> Event | None:
        """A log of this contract as an event, or None when it is another's or cannot be read."""
        kind = self._by_topic.get(entry.topics[0]) if entry.topics else None
        if kind is None or int(entry.address, 16) != int(self.address, 16):
            return None
        try:
            return kind.read(entry)
        except (Unreadable, LocalError) as error:
            log.warning("skipping a %s event: %s", kind.__name__, error)
            return None

    def find(
        self, kind: type[_Kind], first: int, last: int | None = None, **indexed: object
    ) -> list[_Kind]:
        """The events of a kind in blocks `first` to `last` (the head), in chain order.

        `indexed` are values of indexed arguments that they must have; of a list, any value will do.
        """
        found = self.find_any((kind,), first, last, **indexed)
        return [event for event in found if isinstance(event, kind)]

    def find_any(
        self,
        kinds: Sequence[type[Event]],
        first: int,
        last: int | None = None,
        **indexed: object,
    ) -> list[Event]:
        """The events of several kinds, as `find`. They must be indexed alike by what is asked."""
        topics = _trimmed(kinds[0].TYPE.filter(**indexed))
        for kind in kinds[1:]:
            if _trimmed(kind.TYPE.filter(**indexed)) != topics:
                raise KeyError(f"{kind.__name__} and {kinds[0].__name__} are indexed differently")
        if [] in topics:
            return []  # none of no values; to a node it would mean any
        end = self.rpc.head().number if last is None else last
        wanted: list[object] = [["0x" + kind.TYPE.topic.hex() for kind in kinds], *topics]
        logs = self.rpc.logs([self.address], first, end, wanted)
        return [event for entry in logs if (event := self.decode(entry)) is not None]

    def _read(self, function: Function, block: Block, *arguments: object) -> tuple[Any, ...]:
        """What a view returns at a block, as the ABI decoder gives it."""
        data = self.rpc.eth_call(self.address, function.encode(*arguments), block)
        return function.decode_output(data)

    def read_many(
        self, function: Function, block: Block, arguments: Sequence[Sequence[object]]
    ) -> list[Any]:
        """What a view gives for each of these, in a request or a few. Each value that it returns is
        of one word; several are a tuple.
        """
        calls, width = [function.encode(*one) for one in arguments], len(function.outputs)
        answers = self.rpc.read_many(self.address, calls, block, width)
        found = [function.decode_output(answer) for answer in answers]
        return found if width > 1 else [values[0] for values in found]


def event_of(happened: Mapping[type[Event], Event], kind: type[_Kind]) -> _Kind | None:
    """What has happened of one kind; None for nothing."""
    event = happened.get(kind)
    return event if isinstance(event, kind) else None


def _trimmed(topics: Sequence[object]) -> list[object]:
    """A filter without the arguments at its end that may be anything."""
    found = list(topics)
    while found and found[-1] is None:
        found.pop()
    return found

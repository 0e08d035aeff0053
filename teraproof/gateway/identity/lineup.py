# SPDX-License-Identifier: Apache-2.0
"""The hosts of one model side by side: whom to compare, what was found, and how they rank.

Some requests are *canaries*: another host of the model gets the same request and nothing else, by
the same kind of channel, so no host can tell one from any other request. Its answer is compared
and paid, and then thrown away.

A comparison shows that two hosts differ, not which of them is wrong. A host is at fault when more
hosts stand against it than agree with it, itself among them, or when a trusted host stands against
it. With two hosts and no trusted one a difference is *unsettled*. Some observations need no second
host: tokens that the text cannot have, and an end by length before the length is reached.

A host that asks another host of the same model is like that model in everything. It is not at
fault here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from teraproof.gateway.identity.answers import Answer
from teraproof.gateway.identity.compare import RULES, Kind, observations
from teraproof.gateway.identity.recount import Counter, most_tokens
from teraproof.gateway.identity.validity import Validity
from teraproof.gateway.identity.watch import Rule, Watch

#: The part of the requests that are canaries: of a host's first `NEW` requests, and afterwards.
RATE, NEW_RATE, NEW = 0.02, 0.25, 40
#: Hosts and pairs of hosts that are kept. The ones that were seen longest ago go first, and
#: evidence of a fault goes last.
HOSTS, PAIRS = 256, 1024
#: Distances that are kept per pair, to tell another quantisation from another model.
DISTANCES = 64
#: The median distance of hits, in nats, from which it is another model.
ANOTHER = 1.0

#: Observations that need no second host. Both can hardly happen at an honest one.
ALONE = Rule(honest=0.01, faulty=0.5)
# After as many comparisons without an alarm two hosts agree: a faulty one would have been found.
_SETTLED = {kind: rule.enough(rule.faulty, 0.95) for kind, rule in RULES.items()}


class Fault(StrEnum):
    """What is wrong with a host."""

    OTHER_MODEL = "other_model"
    OTHER_QUANTISATION = "other_quantisation"
    TRUNCATES = "truncates"
    OVERCOUNTS = "overcounts"


@dataclass(frozen=True)
class Verdict:
    """What is known of a host.

    Args:
        fault: what is wrong, or None.
        line: one line for people.
        against: the hosts that it differs from, in the order of their names.
        unsettled: it differs from others, and nothing says which of them is wrong.
        canaries: how many comparisons it was in.
    """

    fault: Fault | None
    line: str
    against: tuple[str, ...] = ()
    unsettled: bool = False
    canaries: int = 0


@dataclass
class Evidence:
    """What one host has shown by itself."""

    requests: int = 0
    canaries: int = 0
    tokens: Watch = field(default_factory=lambda: Watch(ALONE))
    ends: Watch = field(default_factory=lambda: Watch(ALONE))
    validity: Validity = field(default_factory=Validity)

    @property
    def alarms(self) -> bool:
        """Whether it is at fault, whatever other hosts say."""
        return self.tokens.alarm or self.ends.alarm

    def observe(self, answer: Answer, counter: Counter | None) -> None:
        """Takes one live answer."""
        self.requests += 1
        most = most_tokens(answer, counter)
        if most is not None:
            self.tokens.observe(answer.completion_tokens > most)
        self.ends.observe(answer.finish == "length" and answer.completion_tokens < answer.asked)
        if answer.valid is not None:
            self.validity.observe(answer.valid)


@dataclass
class Pair:
    """The comparisons of two hosts. A watch is of a kind, and against one of the two."""

    watches: dict[tuple[Kind, str], Watch] = field(default_factory=dict)
    distances: list[float] = field(default_factory=list)

    def observe(self, one: str, first: Answer, other: str, second: Answer) -> None:
        """Takes two answers to the same request."""
        for kind, of_one, of_other, distance in observations(first, second):
            for host, hit in ((one, of_one), (other, of_other)):
                self.watches.setdefault((kind, host), Watch(RULES[kind])).observe(hit)
            if kind is Kind.WEIGHTS and of_one:
                self.distances = [*self.distances, distance][-DISTANCES:]

    @property
    def alarms(self) -> bool:
        """Whether one of the two stands against the other in anything."""
        return any(watch.alarm for watch in self.watches.values())


# Each kind that can be at fault, in the order in which a verdict names it.
_FAULTS: Mapping[Kind, Fault] = {
    Kind.WEIGHTS: Fault.OTHER_QUANTISATION,
    Kind.WORDS: Fault.OTHER_MODEL,
    Kind.CUT: Fault.TRUNCATES,
    Kind.SHORTER: Fault.TRUNCATES,
    Kind.PROMPT: Fault.OVERCOUNTS,
}
_LINES = {
    Fault.OTHER_MODEL: "answers like another model",
    Fault.OTHER_QUANTISATION: "answers like other weights of this model",
    Fault.TRUNCATES: "ends its answers early",
    Fault.OVERCOUNTS: "charges more tokens than there are",
}


class Lineup:
    """All hosts of one model.

    Args:
        trusted: hosts whose word settles a difference, such as one of your own.
        counter: the model's tokenizer, where there is one.
        rate: the part of the requests that are canaries, after a host's first ones.
    """

    def __init__(
        self,
        trusted: Collection[str] = (),
        counter: Counter | None = None,
        rate: float = RATE,
    ) -> None:
        self._trusted = frozenset(trusted)
        self._counter = counter
        self._rate = rate
        self._hosts: OrderedDict[str, Evidence] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], Pair] = OrderedDict()

    def evidence(self, host: str) -> Evidence:
        """What a host has shown by itself; empty at first."""
        found = self._hosts.setdefault(host, Evidence())
        self._hosts.move_to_end(host)
        while len(self._hosts) > HOSTS:
            self.forget(self._least_needed())
        return found

    @property
    def alarms(self) -> bool:
        """Whether there is evidence of a fault of anybody."""
        own = any(each.alarms for each in self._hosts.values())
        return own or any(each.alarms for each in self._pairs.values())

    def seen(self, host: str) -> Evidence:
        """The same, where nothing changes by the question."""
        return self._hosts.get(host) or Evidence()

    def _least_needed(self) -> str:
        """The host that was seen longest ago, but for those that evidence of a fault is about: many
        new names must not make anybody clean.
        """
        needed = {host for key, pair in self._pairs.items() if pair.alarms for host in key}
        needed |= {name for name, own in self._hosts.items() if own.alarms}
        return next((name for name in self._hosts if name not in needed), next(iter(self._hosts)))

    def pair(self, one: str, other: str) -> Pair | None:
        """The comparisons of two hosts, where there are any."""
        return self._pairs.get((min(one, other), max(one, other)))

    def restore(self, host: str, evidence: Evidence) -> None:
        """What an earlier gateway has seen of a host."""
        self._hosts[host] = evidence
        self.evidence(host)

    def restore_pair(self, one: str, other: str, pair: Pair) -> None:
        """What an earlier gateway has compared."""
        self._pairs[(min(one, other), max(one, other))] = pair
        self._bound_pairs()

    def canary(self, host: str, others: Sequence[str], draw: float) -> str | None:
        """The host that gets the request of `host` as well, or None for most requests.

        Args:
            host: who answers the request.
            others: hosts that serve this model and could take it.
            draw: a fresh uniform number in [0, 1): hosts must not be able to foresee it.
        """
        others = [other for other in others if other != host]
        is_new = self.evidence(host).requests < NEW
        rate = max(NEW_RATE, self._rate) if is_new else self._rate
        if draw >= rate or not others:
            return None
        trusted = [other for other in others if other in self._trusted]
        chosen = trusted or others
        return chosen[int(draw / rate * len(chosen))]

    def observe(self, host: str, answer: Answer) -> None:
        """Takes a live answer."""
        self.evidence(host).observe(answer, self._counter)

    def compare(self, host: str, answer: Answer, peer: str, replayed: Answer) -> None:
        """Takes a canary: the answers of two hosts to one request."""
        if host == peer:
            return
        for each in (host, peer):
            self.evidence(each).canaries += 1
        key = (min(host, peer), max(host, peer))
        pair = self._pairs.setdefault(key, Pair())
        self._pairs.move_to_end(key)
        pair.observe(host, answer, peer, replayed)
        self._bound_pairs()

    def _bound_pairs(self) -> None:
        while len(self._pairs) > PAIRS:
            quiet = (key for key, pair in self._pairs.items() if not pair.alarms)
            del self._pairs[next(quiet, next(iter(self._pairs)))]

    def forget(self, host: str) -> None:
        """Begins again with a host, as if it had never been seen."""
        self._hosts.pop(host, None)
        for key in [key for key in self._pairs if host in key]:
            del self._pairs[key]

    def verdict(self, host: str) -> Verdict:
        """What is known of a host now."""
        own = self._hosts.get(host)
        if own is None:
            return Verdict(None, "not seen yet")
        for watch, fault in ((own.ends, Fault.TRUNCATES), (own.tokens, Fault.OVERCOUNTS)):
            if watch.alarm:
                line = f"{_LINES[fault]}: {watch.hits} of {watch.seen} answers"
                return Verdict(fault, line, canaries=own.canaries)
        unsettled: tuple[str, ...] = ()
        for kind in _FAULTS:
            against, agreeing = self._sides(kind, host)
            fault = self._fault(kind, host, against)
            if self._at_fault(host, against, agreeing):
                line = f"{_LINES[fault]}, unlike {_named(against)}"
                return Verdict(fault, line, against, canaries=own.canaries)
            # The word of a host that is at fault in this counts for nothing.
            open_to_doubt = tuple(
                other for other in against if not self._at_fault(other, *self._sides(kind, other))
            )
            if open_to_doubt and len(open_to_doubt) == len(agreeing) + 1:
                unsettled = unsettled or open_to_doubt
        if unsettled:
            line = f"unlike {_named(unsettled)}, and nothing says which is wrong"
            return Verdict(None, line, unsettled, unsettled=True, canaries=own.canaries)
        return Verdict(None, "nothing against it", canaries=own.canaries)

    def score(self, host: str) -> float:
        """From 0 to 1, to weigh against price and speed: 0 with a fault, else its valid answers.

        A host that nothing is known of has its peers' score.
        """
        if self.verdict(host).fault is not None:
            return 0.0
        peers = Validity()
        for name, each in self._hosts.items():
            if name != host:
                peers.valid += each.validity.valid
                peers.broken += each.validity.broken
        own = self._hosts.get(host)
        return (own.validity if own else Validity()).rank(peers)

    def _sides(self, kind: Kind, host: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The hosts that stand against a host in this, and those that agree with it."""
        against, agreeing = [], []
        for key, pair in self._pairs.items():
            watch = pair.watches.get((kind, host)) if host in key else None
            if watch is None:
                continue
            other = key[1] if key[0] == host else key[0]
            if watch.alarm:
                against.append(other)
            elif watch.seen >= _SETTLED[kind]:
                agreeing.append(other)
        return tuple(sorted(against)), tuple(sorted(agreeing))

    def _at_fault(self, host: str, against: Sequence[str], agreeing: Sequence[str]) -> bool:
        if host in self._trusted:
            return False
        if self._trusted.intersection(against):
            return True
        if self._trusted.intersection(agreeing):
            return False
        return len(against) > len(agreeing) + 1

    def _fault(self, kind: Kind, host: str, against: Sequence[str]) -> Fault:
        if kind is not Kind.WEIGHTS:
            return _FAULTS[kind]
        keys = [(min(host, other), max(host, other)) for other in against]
        distances = [each for key in keys for each in self._pairs[key].distances]
        far = bool(distances) and median(distances) >= ANOTHER
        return Fault.OTHER_MODEL if far else Fault.OTHER_QUANTISATION


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"

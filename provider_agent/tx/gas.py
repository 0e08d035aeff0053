# SPDX-License-Identifier: Apache-2.0
"""How much gas our calls may use, whatever a node estimates.

An estimate is believed within bounds: every function uses at least what the contract makes it
use, and ours at most a few millions. The limit covers what the same function has used lately. A
call that ran out of gas is known by its receipt, and the next one gets twice as much.
"""

from __future__ import annotations

from collections import deque

from provider_agent.store import Intent, Mined, Store, Transaction
from teraproof.contracts import benchmark, emissions, jobs
from teraproof.contracts.abi import Function
from teraproof.rpc.fees import MIN_GAS, gas_limit, intrinsic_gas

MOST = 8_000_000  # our calls take less than half of it; rollups count their data as gas
_LATELY = 16  # uses of a function that are remembered
_LOADED = 256  # mined transactions that are read at start
_SHARE = 32  # a call that fails inside another one leaves up to a 64th of its gas

#: Gas that a call of a function uses at least, its data included: about half of .gas-snapshot.
LEAST: dict[Function, int] = {
    jobs.ACCEPT: 40_000,
    jobs.ACCEPT_2: 40_000,
    jobs.ATTEST: 30_000,
    jobs.FINALIZE: 35_000,
    benchmark.OPEN: 50_000,
    benchmark.COMMIT: 30_000,
    benchmark.DRAW: 30_000,
    benchmark.OPEN_SAMPLE: 40_000,
    benchmark.OPEN_SAMPLES: 40_000,
    benchmark.FAIL: 45_000,
    benchmark.SETTLE: 25_000,
    emissions.CLAIM: 45_000,
}
_LEAST = {function.selector: gas for function, gas in LEAST.items()}


class GasLimits:
    """See the module. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used: dict[tuple[str, bytes], deque[int]] = {}
        self._too_little: dict[tuple[str, bytes], int] = {}
        for intent in store.mined_lately(_LOADED):
            if intent.mined is not None:
                self.seen(intent, intent.mined)

    def least(self, intent: Intent) -> int:
        """Below it no estimate of an intent's call can be true."""
        return max(MIN_GAS, intrinsic_gas(intent.data), _LEAST.get(intent.data[:4], 0))

    def limit(self, intent: Intent, estimate: int, most: int) -> int:
        """The gas limit of a call for which a node says `estimate`."""
        name = (intent.to, intent.data[:4])
        used = max(self._used.get(name, ()), default=0)
        wanted = max(gas_limit(estimate), gas_limit(used), 2 * self._too_little.get(name, 0))
        return min(wanted, most)

    def seen(self, intent: Intent, mined: Mined) -> None:
        """Learn from what became of a call."""
        name = (intent.to, intent.data[:4])
        if ran_out(self._store.transactions_of(intent.id), mined):
            self._too_little[name] = max(self._too_little.get(name, 0), mined.gas_used)
        elif mined.status == 1:
            self._used.setdefault(name, deque(maxlen=_LATELY)).append(mined.gas_used)
            if 2 * self._too_little.get(name, 0) <= mined.gas_used:
                self._too_little.pop(name, None)


def ran_out(made: list[Transaction], mined: Mined | None) -> bool:
    """Whether a transaction failed because its gas limit was too low; one of `made` is it."""
    if mined is None or mined.status == 1:
        return False
    limits = [one.gas for one in made if one.hash == mined.tx_hash]
    return any(mined.gas_used >= limit - limit // _SHARE for limit in limits)


def may_get_more(made: list[Transaction], mined: Mined | None) -> bool:
    """Whether a call that failed can be sent with more gas at once."""
    return ran_out(made, mined) and all(one.gas < MOST for one in made)

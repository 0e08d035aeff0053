# SPDX-License-Identifier: Apache-2.0
"""How much gas our calls may use, whatever a node estimates.

An estimate is believed within bounds: every function uses at least what the contract makes it
use, and ours at most a few millions. Above what its function and its length make likely, which is
measured, one endpoint's word is not enough: a limit keeps money back until the call is mined. The
limit covers what the same function has used lately for as much data. A call that ran out of gas is
known by its receipt, and the next one gets twice as much.

Rollups count data as gas, so more than is likely may be true. With one endpoint alone its estimate
is believed: it could as well keep the call to itself.
"""

from __future__ import annotations

from collections import deque

from provider_agent.store import Intent, Mined, Store, Transaction
from teraproof.contracts import benchmark, deals, emissions, jobs
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

#: About what the first call of a function uses besides its calldata, by .gas-snapshot.
PLAIN: dict[Function, int] = {
    jobs.ACCEPT: 80_000,
    jobs.ACCEPT_2: 80_000,
    jobs.ATTEST: 25_000,
    jobs.FINALIZE: 75_000,
    jobs.EXPIRE: 140_000,
    deals.CANCEL_QUOTES: 30_000,
    benchmark.OPEN: 85_000,
    benchmark.COMMIT: 110_000,
    benchmark.CLOSE: 20_000,
    benchmark.DRAW: 45_000,
    benchmark.OPEN_SAMPLE: 85_000,
    benchmark.OPEN_SAMPLES: 85_000,
    benchmark.FAIL: 75_000,
    benchmark.SETTLE: 35_000,
    emissions.CLAIM: 90_000,
}
_PLAIN = {function.selector: gas for function, gas in PLAIN.items()}
_UNMEASURED = 200_000
# Gas for each gas of the calldata, and of the transaction. An opening multiplies what it is sent.
_BY_DATA, _BY_ROWS = 2, 10
_ROWS = (benchmark.OPEN_SAMPLE.selector, benchmark.OPEN_SAMPLES.selector)
_DOUBT = 2  # times what is measured, until it is unlikely


_Name = tuple[str, bytes, int]


def _name(intent: Intent) -> _Name:
    """What calls are alike: the same function with about as much data."""
    return intent.to, intent.data[:4], len(intent.data).bit_length()


class GasLimits:
    """See the module. Used by one thread."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._used: dict[_Name, deque[int]] = {}
        self._too_little: dict[_Name, int] = {}
        for intent in store.mined_lately(_LOADED):
            if intent.mined is not None:
                self.seen(intent, intent.mined)

    def least(self, intent: Intent) -> int:
        """Below it no estimate of an intent's call can be true."""
        return max(MIN_GAS, intrinsic_gas(intent.data), _LEAST.get(intent.data[:4], 0))

    def likely(self, intent: Intent) -> int:
        """Above it an estimate of an intent's call needs a second word."""
        selector = intent.data[:4]
        by_data = _BY_ROWS if selector in _ROWS else _BY_DATA
        plain = _PLAIN.get(selector, _UNMEASURED)
        return _DOUBT * (plain + by_data * intrinsic_gas(intent.data))

    def limit(self, intent: Intent, estimate: int, most: int) -> int:
        """The gas limit of a call for which `estimate` was found."""
        name = _name(intent)
        # What receipts say is a node's word, too: alone it makes no limit unlikely.
        used = min(max(self._used.get(name, ()), default=0), max(self.likely(intent), estimate))
        wanted = max(gas_limit(estimate), gas_limit(used), 2 * self._too_little.get(name, 0))
        return min(wanted, most)

    def seen(self, intent: Intent, mined: Mined) -> None:
        """Learn from what became of a call."""
        name = _name(intent)
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

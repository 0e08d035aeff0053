# SPDX-License-Identifier: Apache-2.0
"""Payment channels under random use; faults that are planted in them are found.

One test an example, so that a failure names its seed: run it again with TERAPROOF_SEED.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.plant import EVERY, plant
from tests.contracts.stateful import tills
from tests.contracts.stateful.driver import Tally, run
from tests.contracts.stateful.profiles import chosen, first_seed
from tests.contracts.stateful.tills import make
from tests.support import budget

PROFILE = chosen()
# Another machine looks for a planted fault in as many examples as this.
TRIES = 40

BOOK, CLAIMS, WHOLE = "channels/book.vy", "channels/claims.vy", "Channels.vy"
# What is planted: file, line, what stands in its place.
PLANTED = {
    "a voucher is paid again": (
        BOOK,
        "    return unsafe_sub(total, claimed)\n",
        "    return total\n",
    ),
    "an older voucher is paid": (BOOK, "    if total <= claimed:\n", "    if total == claimed:\n"),
    "claims above the deposit": (
        BOOK,
        '    assert total <= balance, "channels: claim exceeds the balance"\n',
        "",
    ),
    "claims are settled twice": (
        BOOK,
        "        self._receivers[receiver][token] = claimed << 128 | claimed\n",
        "        self._receivers[receiver][token] = account\n",
    ),
    "what is claimed is given back": (
        BOOK,
        "    taken: uint256 = min(amount, (state & _LOW) - (state >> 128))\n",
        "    taken: uint256 = min(amount, state & _LOW)\n",
    ),
    "a withdrawal does not wait": (
        BOOK,
        "        block.timestamp >= (withdrawal >> 128) + delay\n",
        "        block.timestamp >= (withdrawal >> 128)\n",
    ),
    "a withdrawal waits a second more": (
        BOOK,
        "        block.timestamp >= (withdrawal >> 128) + delay\n",
        "        block.timestamp > (withdrawal >> 128) + delay\n",
    ),
    "a withdrawal is paid twice": (
        BOOK,
        "    self._withdrawals[channel] = 0\n    return self._take_out",
        "    return self._take_out",
    ),
    "a refund's word is good twice": (
        BOOK,
        "    self._refunds[channel] = unsafe_add(self._refunds[channel], 1)\n",
        "",
    ),
    "a refund leaves the withdrawal": (
        BOOK,
        "        if withdrawal & _LOW > taken:\n",
        "        if withdrawal & _LOW == 0:\n",
    ),
    "claims above the voucher": (
        CLAIMS,
        '        assert row[9] <= row[7], "channels: claim exceeds the voucher"\n',
        "",
    ),
    "vouchers that nobody has signed": (
        CLAIMS,
        '        assert good, "channels: invalid signature"\n',
        "",
    ),
    "strangers claim": (
        CLAIMS,
        "        if sender != empty(address):\n",
        "        if sender == self:\n",
    ),
    "the claims of all rows are the last receiver's": (
        CLAIMS,
        "        if row[2] != receiver or row[4] != token:\n",
        "        if receiver == 0:\n",
    ),
    "whoever claims for another is paid for it": (
        CLAIMS,
        "        if row[2] != receiver or row[4] != token:\n",
        "        if row[3] != receiver or row[4] != token:\n",
    ),
    "a receiver's rows are forgotten": (
        CLAIMS,
        "        claimed += more\n",
        "        claimed = more\n",
    ),
    "strangers withdraw": (
        WHOLE,
        "        msg.sender in [config.payer, config.payerAuthorizer]\n",
        "        msg.sender != empty(address)\n",
    ),
    "the caller is paid": (
        WHOLE,
        "        token_flow._push(IERC20(config.token), config.payer, amount)\n",
        "        token_flow._push(IERC20(config.token), msg.sender, amount)\n",
    ),
    "deposits are what they say": (
        WHOLE,
        "        staticcall token.balanceOf(self) == before + units\n",
        "        staticcall token.balanceOf(self) >= before\n",
    ),
}


@pytest.mark.invariant("I-1", "I-2", "I-9", "I-12", "I-15")
@pytest.mark.parametrize("seed", range(first_seed(), first_seed() + PROFILE.examples))
def test_tills(seed: int, tally: Tally) -> None:
    run(make, seed, PROFILE.steps, tally, small=PROFILE.small)


@pytest.mark.parametrize("fault", budget.every(EVERY, sorted(PLANTED)))
def test_tills__planted_fault__is_found(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant("Channels", *PLANTED[fault], tmp_path, monkeypatch)
    faulty = tills.build()
    monkeypatch.setattr(tills, "tillworld", lambda: faulty)
    found = []
    for seed in range(1, TRIES + 1):
        try:
            run(make, seed, 120, Tally(), small=False)
        except AssertionError as error:
            found.append(str(error))
            break
    assert found, f"{TRIES} examples and nothing found"

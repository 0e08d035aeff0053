# SPDX-License-Identifier: Apache-2.0
"""`make attack`: a search for strategies that take from others, and the known ones tried again.

Prints its seed, the best gain found at each moment, and for each known fault what it took on the
first edition and whether it is held now. Fails when a gain is above rounding.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Sequence

from tests.attack.market import moments, strategy
from tests.contracts import test_money_cases as cases
from tests.contracts.stateful.story import tell
from tests.fuzz import commit

TRIES = 200_000
# Wei that rounding may move in a call.
ROUNDING = 3
KNOWN = (
    (cases.test_f1__a_pool_with_dear_shares_still_pays_its_delegators, {}),
    (cases.test_f1__rewards_of_a_pool_with_next_to_no_shares, {}),
    (
        cases.test_f3__stake_that_comes_before_the_claim_gets_nothing,
        {"amount": 4 * 10**24, "claimed": False},
    ),
    (cases.test_q2__an_operator_that_claims_late_gains_nothing, {}),
    (cases.test_p3__nobody_inherits_the_reward_of_an_owner_that_left, {}),
    (cases.test_f4__much_stake_behind_one_round_takes_nothing_from_others, {}),
    (cases.test_f5__nobody_pays_for_a_fault_before_its_time, {}),
    (cases.test_f6__seizing_from_oneself_costs_and_touches_nobody_else, {}),
    (cases.test_p14__the_provider_earns_no_bounty_on_itself, {"insider": "owner"}),
    (cases.test_q4__a_score_does_not_outlive_its_stake, {}),
    (cases.test_p11__a_finished_job_holds_no_score, {}),
    (cases.test_p7__a_key_that_was_let_go_stays_let_go, {}),
    (cases.test_p10__a_raise_after_the_proof_does_not_reach_its_reward, {}),
    (cases.test_q7__a_fault_survives_the_removal_of_benchmark, {}),
    (cases.test_f2__garbage_gains_nothing_where_the_tenant_may_refuse, {}),
    (cases.test_pause__the_price_stands_still, {}),
)


def known_ones() -> int:
    """Tell the known faults again; how many are back."""
    back = 0
    print("known faults: now | what they took on the first edition")
    for case, arguments in KNOWN:
        story = tell()
        try:
            case(story, **arguments)
            now = "held"
        except AssertionError as error:
            now, back = f"BACK: {error}", back + 1
        finally:
            story.end()
        print(f"  {case.__name__.removeprefix('test_')}: {now} | {case.__doc__}")
    return back


def search(tries: int, seed: int) -> int:
    """Random strategies at each moment; how many gained more than rounding."""
    found = 0
    for moment in moments():
        source, began, calls, best = random.Random(f"{seed} {moment.name}"), time.monotonic(), 0, 0
        for number in range(tries):
            state = source.getstate()
            gain, made = moment.gain(strategy(source))
            calls += made
            best = max(best, gain)
            if gain > ROUNDING * made:
                found += 1
                source.setstate(state)
                names = [move.__name__ for move in strategy(source)]
                print(f"error: try {number} at '{moment.name}' gains {gain} wei: {names}")
        speed = tries / (time.monotonic() - began)
        print(
            f"{moment.name}: {tries:,} strategies of {calls / tries:.1f} calls, {speed:,.0f} a"
            f" second; best gain {best} wei",
            flush=True,
        )
    return found


def main(argv: Sequence[str]) -> int:
    """0 when nothing was gained."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("--tries", type=int, default=TRIES)
    parser.add_argument("--seed", type=int, help="(default: by the clock)")
    options = parser.parse_args(argv)
    seed = options.seed if options.seed is not None else int(time.time())
    print(f"seed {seed}, commit {commit()}", flush=True)
    bad = known_ones()
    bad += search(-(-options.tries // 4), seed)
    print(f"{bad} faults; seed {seed}, commit {commit()}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

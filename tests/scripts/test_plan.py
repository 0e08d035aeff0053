# SPDX-License-Identifier: Apache-2.0
"""Plans are checked before anything is sent, and each mistake is one line that names its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.deployment import bounds
from scripts.deployment import plan as plans
from scripts.deployment.artifacts import Artifact
from scripts.deployment.plan import Plan
from scripts.deployment.transactions import Rollout
from teraproof.errors import CommandError, WrongInput
from teraproof.protocol.terms import ZERO_ADDRESS
from tests.scripts.conftest import PARAMS

Artifacts = dict[str, Artifact]
Document = dict[str, Any]


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_load__shipped_plan__is_valid(path: Path, artifacts: Artifacts) -> None:
    plan = plans.load(path, artifacts)
    assert plans.find(PARAMS, plan.chain_id) == path
    assert [step.name for step in plan.steps()] == [
        "Timelock", "Token", "PaymentToken", "Staking", "Benchmark", "Emissions", "Disputes",
        "Leases", "Jobs", "manager Jobs", "manager Leases", "manager Disputes",
        "manager Benchmark", "manager Emissions", "minter Emissions", "rewards Emissions",
        "court of Jobs", "scores of Leases", "seal",
    ]  # fmt: skip
    # The constructors' own conditions, which the ABI does not tell.
    jobs, staking = plan.arguments["Jobs"], plan.arguments["Staking"]
    assert jobs["lock_margin"] + 14 * 86_400 < staking["max_lock"]


def test_load__units__become_numbers(local_plan: Plan) -> None:
    assert local_plan.arguments["Token"]["cap"] == 10**27
    assert local_plan.arguments["Staking"]["max_lock"] == 30 * 86_400
    assert local_plan.arguments["Jobs"]["fee_bps"] == 100
    assert local_plan.arguments["Jobs"]["victim_bps"] == 8_000


def test_resolve__references__are_replaced(local_plan: Plan) -> None:
    timelock, deployer = "0x" + "11" * 20, "0x" + "22" * 20
    found = local_plan.resolve("Timelock", {"deployer": deployer})
    assert found["proposers"] == [deployer]
    assert found["executors"] == [ZERO_ADDRESS]
    token = local_plan.resolve("Token", {"deployer": deployer, "Timelock": timelock})
    assert token["owner"] == timelock
    with pytest.raises(CommandError, match="not deployed yet"):
        local_plan.resolve("Token", {"deployer": deployer})


def test_load__a_value_changes__digest_changes(
    write_plan: Callable[..., Path], artifacts: Artifacts, local_plan: Plan
) -> None:
    def change(document: Document) -> None:
        document["contracts"]["Jobs"]["fee_bps"] = 101

    assert plans.load(write_plan(), artifacts).sha256 == local_plan.sha256
    assert plans.load(write_plan(change), artifacts).sha256 != local_plan.sha256


def _set(*path: str, value: Any) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for key in path[:-1]:
            document = document[key]
        document[path[-1]] = value

    return change


def _drop(*path: str) -> Callable[[Document], None]:
    def change(document: Document) -> None:
        for key in path[:-1]:
            document = document[key]
        del document[path[-1]]

    return change


def _benchmark(**values: Any) -> Callable[[Document], None]:
    return lambda document: document["contracts"]["Benchmark"].update(values)


def _emissions(**values: Any) -> Callable[[Document], None]:
    return lambda document: document["contracts"]["Emissions"].update(values)


def _leases(**values: Any) -> Callable[[Document], None]:
    return lambda document: document["contracts"]["Leases"].update(values)


def _court(**values: Any) -> Callable[[Document], None]:
    return lambda document: document["contracts"]["Disputes"].update(values)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_drop("chain_id"), "chain_id is missing"),
        (_set("chain_id", value="one"), "chain_id: 'one' is not a chain id"),
        (_set("extra", value=1), "unknown key 'extra'"),
        (_drop("contracts", "Jobs", "fee_bps"), "Jobs: fee_bps is missing"),
        (_set("contracts", "Jobs", "fee", value=1), "Jobs: unknown key 'fee'"),
        (_drop("contracts", "Staking"), "contracts: Staking is missing"),
        (_set("contracts", "Other", value={}), "contracts: unknown key 'Other'"),
        (_set("contracts", "Token", value=[]), "Token: not a mapping"),
        (_set("contracts", "Token", "cap", value="much"), "Token.cap: 'much' is not a duration"),
        (_set("contracts", "Token", "cap", value=-1), "Token.cap: -1 does not fit uint256"),
        (_set("contracts", "Token", "cap", value=2**256), "does not fit uint256"),
        (_set("contracts", "Token", "cap", value=1.5), "not a whole number"),
        (_set("contracts", "Token", "cap", value=True), "not a whole number"),
        (_set("contracts", "Token", "cap", value="0.1234567890123456789 TPF"), "18 decimals"),
        (_set("contracts", "Jobs", "fee_bps", value="101 %"), "above 100 %"),
        (_set("contracts", "Staking", "unbonding", value="7 moons"), "not a duration"),
        (
            _set("contracts", "Token", "owner", value="0x12"),
            "Token.owner: '0x12' is not an address",
        ),
        (_set("contracts", "Token", "owner", value=0x12), "write the address in quotes"),
        (_set("contracts", "Token", "owner", value="$Jobs"), "$Jobs is not known here"),
        (
            _set("contracts", "Token", "owner", value="0xf39fd6e51aad88F6F4ce6aB8827279cffFb92266"),
            "wrong checksum",
        ),
        (_set("contracts", "Timelock", "proposers", value="$deployer"), "not a list of address"),
        (_set("payment_token", value="real"), "payment_token: write test"),
        (_set("channels", value="ours"), "channels: write one of place, canonical, none"),
        (_set("payment_token", value={"address": "$zero", "decimals": 6}), "own address"),
        (_set("payment_token", value={"address": "$zero"}), "decimals is missing"),
        (_set("managers", value={}), "Jobs is missing"),
        (_set("managers", value={"Token": ["LOCK"]}), "'Token' is not a contract"),
        (_set("managers", value={"Jobs": ["MINT"]}), "'MINT' is not one of LOCK, SLASH, REWARD"),
        (_set("managers", "Benchmark", value=["LOCK"]), "Benchmark: it needs LOCK, SLASH, no less"),
        (_set("managers", "Jobs", value=["LOCK", "REWARD"]), "Jobs: it needs LOCK, no less and no"),
        (_drop("managers", "Emissions"), "Emissions is missing; it needs REWARD"),
        (_drop("minter"), "minter is missing"),
        (_set("minter", value="Jobs"), "minter: write Emissions"),
        (_set("contracts", "Jobs", "scores", value="$Benchmark"), "Jobs.scores: write $Leases"),
        (_leases(open_margin=0), "Leases.open_margin: must be above zero and at most 30 d"),
        (_leases(open_margin="31 days"), "Leases.open_margin: must be above zero and at most 30 d"),
        (_leases(max_gap=0), "Leases.max_gap: must be above zero and at most 1 d"),
        (_leases(max_gap=86_401), "Leases.max_gap: must be above zero and at most 1 d"),
        (_leases(abandon=59), "Leases.abandon: must be from 1 min (max_gap) to 7 d"),
        (_leases(abandon="8 days"), "Leases.abandon: must be from 1 min (max_gap) to 7 d"),
        (_leases(max_suspension=0), "Leases.max_suspension: must be above zero and at most 7 d"),
        (_leases(max_suspension="8 days"), "Leases.max_suspension: must be above zero"),
        (_leases(challenge_window=9), "Leases.challenge_window: must be from 10 s to 14 d"),
        (_leases(challenge_window="15 days"), "Leases.challenge_window: must be from 10 s"),
        (_leases(lock_margin=0), "Leases.lock_margin: must be above zero, and 14 d below 30 d"),
        (_leases(lock_margin="16 days"), "Leases.lock_margin: must be above zero, and 14 d below"),
        (_leases(bounty_bps="51 %"), "Leases.bounty_bps: is above 50 %"),
        (_leases(victim_bps=10_001), "Leases.victim_bps: is above 100 %"),
        (_drop("managers", "Leases"), "Leases is missing; it needs LOCK"),
        (_benchmark(n=300), "Benchmark.n: 300 is not a power of two"),
        (_benchmark(n=131_072), "Benchmark.n: 131072 is not a power of two from 256 to 65,536"),
        (_benchmark(blocks=278), "Benchmark.blocks: 278 is not from 1 to 277"),
        (_benchmark(samples=0), "Benchmark.samples: 0 is not from 1 to 64"),
        (_benchmark(bond=0), "Benchmark.bond: must be above zero"),
        (_benchmark(randomness_source=3), "randomness_source: write 0 (prevrandao), 1 (block"),
        (_drop("block_seconds"), "block_seconds is missing"),
        (_set("block_seconds", value=0), "block_seconds: 0 is not from 0 to 600 seconds"),
        (_set("block_seconds", value=True), "block_seconds: True is not"),
        (_set("block_seconds", value="12"), "block_seconds: '12' is not"),
        (_benchmark(bond=2**96), "Benchmark.bond: must be above zero and below 2**96 wei"),
        (_benchmark(window=0), "Benchmark.window: must be above zero"),
        (_benchmark(score_life=0), "Benchmark.score_life: must be above zero"),
        (_benchmark(reach="367 days"), "Benchmark.reach: must be above zero and at most 366 d"),
        (_benchmark(chance_ppm=0), "chance_ppm: must be from 1 to 1,000,000"),
        (_benchmark(chance_ppm=1_000_001), "chance_ppm: must be from 1 to 1,000,000"),
        (_benchmark(slot=3), "open_period: must be shorter than a slot (3 s)"),
        (_benchmark(window=5), "open_period: must be at most half of the window (5 s)"),
        (
            _benchmark(spacing=23),
            "spacing: 23 s are too short: window, draw_period, reach and opening_period take 24 s",
        ),
        (_benchmark(draw_delay=1), "draw_delay: must be at least 2 blocks"),
        (_benchmark(draw_delay=2**32 + 1), "draw_delay: must be at least 2 blocks"),
        (
            _benchmark(draw_delay=6),
            "reach: 6 s are over before the block of the draw has come, 6 blocks of 1 s ahead",
        ),
        (
            _set("block_seconds", value=0.0003),
            "open_period: 3 s are longer than hashes can be read: 8,191 blocks of 0.0003 s",
        ),
        (
            lambda document: (
                _set("block_seconds", value=0.02)(document),
                _set("history_blocks", value=256)(document),
            ),
            "reach: 6 s are longer than hashes can be read: 256 blocks of 0.02 s",
        ),
        (_benchmark(fault_period=97), "fault_period: a failure can be reported 2 min 1 s after"),
        (
            _benchmark(bond_life=63),
            "bond_life: must be from 1 min 4 s (an epoch and fault_period) to 30 d",
        ),
        (_benchmark(bond_life="31 days"), "bond_life: must be from 1 min 4 s"),
        (_emissions(halving=0), "halving: must be above zero"),
        (_emissions(halving="36601 days"), "halving: must be above zero and at most 36600 d"),
        (
            _emissions(rate="520.84 TPF"),
            "rate: the schedule mints up to 900,011,520 TPF, but the cap leaves 900,000,000 TPF",
        ),
        (_emissions(max_accrual=0), "max_accrual: must be above zero"),
        (_emissions(max_accrual="367 days"), "max_accrual: must be above zero and at most 366 d"),
        (_emissions(ops_per_tpf=999), "ops_per_tpf: must be from 1e+03 to 1e+18 operations"),
        (_emissions(ops_per_tpf=10**18 + 1), "ops_per_tpf: must be from 1e+03 to 1e+18"),
        (_emissions(target=0), "target: must be above zero and at most 1e+22 operations"),
        (_emissions(target=10**22 + 1), "target: must be above zero and at most 1e+22"),
        (_emissions(capacity_bps=10_001), "capacity_bps: is above 1"),
    ],
)
def test_load__mistake__one_line(
    change: Callable[[Document], None],
    line: str,
    write_plan: Callable[..., Path],
    artifacts: Artifacts,
) -> None:
    with pytest.raises(CommandError) as raised:
        plans.load(write_plan(change), artifacts)
    text = str(raised.value)
    assert line in text
    assert text.startswith("changed.yaml: ")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (_court(panel=4), "panel: 4 is even: a jury needs an odd number of votes"),
        (_court(panel=1), "panel: 1, 5 and 9 votes do not rise, from 3 to 31 at most"),
        (_court(redraw_panel=9), "panel: 3, 9 and 9 votes do not rise"),
        (_court(appeal_panel=33, panel_min=33), "panel: 3, 5 and 33 votes do not rise"),
        (_court(appeal_panel=7), "appeal_panel: is too small: the bond of an appeal"),
        (_court(juror_fee_bps="33 %"), "appeal_panel: is too small: the bond of an appeal"),
        (_court(panel_min=8), "panel_min: must be at least 9 seats"),
        (_court(price_per_seat=0), "price_per_seat: must be above zero"),
        (_court(juror_fee_bps=10_001), "juror_fee_bps: is above 100 %"),
        (_court(attendance=10_001), "attendance: must be at most min_fee"),
        (_court(seat=10**18 - 1), "seat: must be at least 1 TPF"),
        (_court(small_fine=0), "big_fine: must be at least small_fine"),
        (_court(small_fine=3 * 10**11), "big_fine: must be at least small_fine"),
        (_court(big_fine=10**15), "seat: must be at least 2 * big_fine * min_fee"),
        (_court(period="31 days"), "period: must be above zero and at most 30 d"),
        (_court(reveal_time=0), "reveal_time: must be above zero"),
        (_court(term="31 days"), "term: must be at most 30 d (Staking.max_lock)"),
        (_court(term="3 hours"), "term: must be at least 3 h 29 min"),
        (_court(randomness_source=1), "randomness_source: must be that of Benchmark"),
        (_court(draw_delay=1), "draw_delay: must be at least 2 blocks"),
        (_court(draw_delay=60), "draw_time: 1 min are over before the block of the draw has come"),
        (
            _court(draw_time=8_194, period=8_194),
            "draw_time: 2 h 16 min are longer than hashes can",
        ),
        (_court(draw_time=61), "draw_time: must be at most a period"),
        (
            _court(max_duration="8 days", term="30 days"),
            "max_duration: a judged job may need a lock of 33 d",
        ),
    ],
)
def test_load__court_that_its_constructor_would_refuse__one_line(
    change: Callable[[Document], None],
    line: str,
    write_plan: Callable[..., Path],
    artifacts: Artifacts,
) -> None:
    with pytest.raises(CommandError) as raised:
        plans.load(write_plan(change), artifacts)
    assert f"changed.yaml: Disputes.{line}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("contract", "values", "line"),
    [
        (
            "Benchmark",
            {"window": 1_199, "open_period": 100},
            "window: must be at least 20 min on a public chain of 12 s blocks",
        ),
        ("Benchmark", {"open_period": 181}, "open_period: must be at most a tenth of the window"),
        ("Benchmark", {"opening_period": 599}, "opening_period: must be at least 10 min on a pub"),
        ("Emissions", {"max_accrual": 7_201}, "max_accrual: must be at most Benchmark.spacing on"),
        ("Leases", {"max_gap": 119}, "max_gap: must be at least 2 min on a public chain of 12 s"),
        ("Leases", {"abandon": 599}, "abandon: must be at least twice max_gap on a public chain"),
        (
            "Disputes",
            {"max_duration": "3 days"},
            "max_duration: a dispute may take 15 d 3 h, but stake leaves after 14 d",
        ),
    ],
)
def test_load__not_for_a_public_chain__one_line(
    contract: str, values: Document, line: str, artifacts: Artifacts, tmp_path: Path
) -> None:
    document = yaml.safe_load((PARAMS / "sepolia.yaml").read_text())
    document["contracts"][contract].update(values)
    path = tmp_path / "public.yaml"
    path.write_text(yaml.safe_dump(document))
    with pytest.raises(CommandError) as raised:
        plans.load(path, artifacts)
    assert f"public.yaml: {contract}.{line}" in str(raised.value)
    document["chain_id"] = 31337
    path.write_text(yaml.safe_dump(document))
    plans.load(path, artifacts)


@pytest.mark.parametrize("path", sorted(PARAMS.glob("*.yaml")), ids=lambda path: path.stem)
def test_load__shipped_plan__spacing_is_what_an_epoch_takes(
    path: Path, artifacts: Artifacts, tmp_path: Path
) -> None:
    """Spacing is what an epoch takes and no more: the longer it is, the less is unannounced."""
    benchmark = plans.load(path, artifacts).arguments["Benchmark"]
    assert benchmark["spacing"] == bounds.length(benchmark)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", "key 'a' stands twice"),
        ("a: [", "not YAML"),
        ("- 1\n", "not a mapping"),
        ("", "not a mapping"),
    ],
)
def test_load__not_a_plan__one_line(
    text: str, line: str, tmp_path: Path, artifacts: Artifacts
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(CommandError, match=line) as raised:
        plans.load(path, artifacts)
    assert "\n" not in str(raised.value)


def test_find__no_plan_for_the_chain__says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match=r"no plan for chain 5 .* --plan FILE"):
        plans.find(tmp_path, 5)
    with pytest.raises(CommandError, match="cannot read the plan"):
        plans.load(tmp_path / "none.yaml", {})


# ---------------------------------------------------------------------- plans of tests


def test_amended__named_arguments_and_what_is_left_out(local_plan: Plan) -> None:
    left_out = {"Timelock", "Benchmark", "Emissions", "Disputes", "Leases"}
    owner = "0x" + "11" * 20
    changes: dict[str, dict[str, Any]] = {
        "Token": {"owner": owner},
        "Staking": {"owner": owner},
        "Jobs": {"owner": owner, "scores": "$zero", "court": "$zero", "fee_bps": 7},
    }
    plan = plans.amended(local_plan, changes, left_out)
    assert [step.name for step in plan.steps()] == [
        "Token",
        "PaymentToken",
        "Staking",
        "Jobs",
        "manager Jobs",
        "seal",
    ]
    known = dict.fromkeys(("deployer", "Token", "PaymentToken", "Staking"), owner)
    values = plan.resolve("Jobs", known)
    assert values["fee_bps"] == 7
    assert values["scores"] == "0x" + "00" * 20
    assert values["lock_margin"] == local_plan.arguments["Jobs"]["lock_margin"]
    assert list(values) == list(local_plan.arguments["Jobs"]), "the constructor's order"
    assert "Timelock" in local_plan.arguments, "the plan itself is as it was"


def test_amended__argument_that_no_constructor_has__refused(local_plan: Plan) -> None:
    with pytest.raises(WrongInput, match="Jobs has no argument fee_bsp"):
        plans.amended(local_plan, {"Jobs": {"fee_bsp": 7}})


def test_amended__contract_that_is_referred_to_but_left_out__refused(local_plan: Plan) -> None:
    plan = plans.amended(local_plan, {}, {"Timelock"})
    with pytest.raises(WrongInput, match="Timelock is not deployed yet"):
        plan.resolve("Token", {"deployer": "0x" + "11" * 20})


def test_rollout__sends_what_the_recorded_deployment_sends(
    local_plan: Plan, artifacts: dict[str, Artifact]
) -> None:
    """In the same order, further managers before the seal; nothing is asked for."""
    sent: list[str] = []

    def send(label: str, to: str | None, data: bytes) -> str:
        assert data and (to is None) == (label in local_plan.arguments)
        sent.append(label)
        return f"0x{len(sent):040x}" if to is None else ""

    rollout = Rollout(local_plan, artifacts, "0x" + "22" * 20, send)
    rollout.deploy()
    further = "0x" + "33" * 20
    rollout.wire({further: 1})
    steps = [step.name for step in local_plan.steps()]
    assert sent == [*steps[:-1], f"manager {further}", "seal"]
    assert rollout.addresses["Jobs"] == f"0x{9:040x}"

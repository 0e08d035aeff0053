# SPDX-License-Identifier: Apache-2.0
"""`register` and what an owner can change later: operator, payout, endpoint, lock limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boa
import pytest
from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from tests.contracts.actions import FAR, Provider, consent, domain, event, go_to, now, register
from tests.contracts.deploy import (
    DAY,
    TPF,
    ZERO_ADDRESS,
    Contract,
    Suite,
    account_of,
    address_of,
    deploy_staking,
)


@pytest.fixture
def applicant() -> str:
    return address_of("applicant")


@pytest.fixture
def operator() -> LocalAccount:
    return account_of("applicant's operator")


@pytest.fixture
def apply(staking: Contract, applicant: str, operator: LocalAccount) -> Callable[..., Any]:
    """Call `register` with good arguments but for those given."""

    def call(sender: str = applicant, **changes: Any) -> None:
        arguments: dict[str, Any] = {
            "operator": operator.address,
            "payout": address_of("payout"),
            "commission_bps": 1_000,
            "max_lock_per_order": 5 * TPF,
            "max_locked": 8 * TPF,
            "endpoint": "https://provider.example",
            "nonce": 0,
            "expires": FAR,
            "consent": None,
        } | changes
        if arguments["consent"] is None:
            (_, _, arguments["consent"]) = consent(
                staking, applicant, operator, arguments["expires"], arguments["nonce"]
            )
        staking.register(*arguments.values(), sender=sender)

    return call


def test_register__stores_and_announces(
    staking: Contract, apply: Callable[..., Any], applicant: str, operator: LocalAccount
) -> None:
    apply()
    assert event(staking, "Registered") == {
        "provider": applicant,
        "operator": operator.address,
        "payout": address_of("payout"),
        "commission_bps": 1_000,
        "max_lock_per_order": 5 * TPF,
        "max_locked": 8 * TPF,
        "endpoint": "https://provider.example",
    }
    assert staking.operator_of(applicant) == operator.address
    assert staking.provider_of(operator.address) == applicant
    assert staking.payout_of(applicant) == address_of("payout")
    assert staking.commission_of(applicant) == 1_000
    assert staking.pending_commission(applicant) == (0, 0)
    assert staking.consent_nonce(operator.address) == 1
    assert not staking.is_unsettled(applicant)
    assert staking.lock_limits(applicant) == (5 * TPF, 8 * TPF)
    assert staking.endpoint_digest(applicant) == keccak(text="https://provider.example")
    assert staking.pool(applicant) == (0, 0, 0, 0, 0, 0)


def test_register__widest_values(
    staking: Contract, apply: Callable[..., Any], applicant: str
) -> None:
    apply(
        commission_bps=10_000,
        max_lock_per_order=2**128 - 1,
        max_locked=2**128 - 1,
        endpoint="x" * 128,
    )
    assert staking.lock_limits(applicant) == (2**128 - 1, 2**128 - 1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payout": ZERO_ADDRESS}, "staking: zero payout"),
        ({"commission_bps": 10_001}, "staking: commission above 100 %"),
        ({"max_lock_per_order": 2**128}, "staking: limit above 128 bits"),
        ({"max_locked": 2**128}, "staking: limit above 128 bits"),
        ({"nonce": 1}, "staking: wrong consent nonce"),
        ({"nonce": 2**256 - 1}, "staking: wrong consent nonce"),
        ({"consent": b""}, "staking: not the operator's consent"),
        ({"consent": b"\x01" * 64}, "staking: not the operator's consent"),
        ({"consent": b"\x01" * 64 + b"\x05"}, "ecdsa: invalid signature"),
        ({"operator": ZERO_ADDRESS, "consent": b""}, "staking: zero operator"),
    ],
)
def test_register__bad_argument__reverts(
    apply: Callable[..., Any], changes: Any, reason: str
) -> None:
    with boa.reverts(reason):
        apply(**changes)


def test_register__endpoint_too_long__reverts(apply: Callable[..., Any]) -> None:
    with boa.reverts():
        apply(endpoint="x" * 129)


def test_register__twice__reverts(apply: Callable[..., Any]) -> None:
    apply()
    with boa.reverts("staking: already registered"):
        apply()


def test_register__consent_works_until_its_last_second(
    apply: Callable[..., Any], staking: Contract, applicant: str
) -> None:
    expires = now() + 100
    go_to(expires)
    apply(expires=expires)
    assert staking.operator_of(applicant) != ZERO_ADDRESS


def test_register__consent_expired__reverts(apply: Callable[..., Any]) -> None:
    expires = now() + 100
    go_to(expires + 1)
    with boa.reverts("staking: consent expired"):
        apply(expires=expires)


def test_register__consent_to_another_owner__reverts(
    apply: Callable[..., Any], stranger: str
) -> None:
    with boa.reverts("staking: not the operator's consent"):
        apply(sender=stranger)


def test_register__consent_of_another_key__reverts(
    staking: Contract, apply: Callable[..., Any], applicant: str
) -> None:
    with boa.reverts("staking: not the operator's consent"):
        apply(consent=consent(staking, applicant, account_of("stranger"))[2])


def test_register__consent_for_another_deployment__reverts(
    suite: Suite, staking: Contract, apply: Callable[..., Any], operator: LocalAccount
) -> None:
    other = deploy_staking(suite.token, suite.owner, suite.parameters, suite.deployer)
    assert domain(other) != domain(staking)
    with boa.reverts("staking: not the operator's consent"):
        apply(consent=consent(other, address_of("applicant"), operator)[2])


def test_register__malleable_consent__reverts(
    staking: Contract, apply: Callable[..., Any], applicant: str, operator: LocalAccount
) -> None:
    (_, _, signature) = consent(staking, applicant, operator)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with boa.reverts("ecdsa: invalid signature `s` value"):
        apply(consent=twin)


def test_register__operator_of_another_provider__reverts(
    staking: Contract, apply: Callable[..., Any], stranger: str, operator: LocalAccount
) -> None:
    apply()
    with boa.reverts("staking: operator is taken"):
        apply(sender=stranger, nonce=1, consent=consent(staking, stranger, operator)[2])


# ---------------------------------------------------------------- set_operator


def test_set_operator__replaces_the_key(staking: Contract, provider: Provider) -> None:
    successor = account_of("successor")
    staking.set_operator(
        successor.address,
        *consent(staking, provider.owner, successor),
        sender=provider.owner,
    )
    assert event(staking, "OperatorChanged") == {
        "provider": provider.owner,
        "operator": successor.address,
    }
    assert staking.operator_of(provider.owner) == successor.address
    assert staking.provider_of(successor.address) == provider.owner
    assert staking.provider_of(provider.operator.address) == ZERO_ADDRESS


def test_set_operator__same_key_again(staking: Contract, provider: Provider) -> None:
    staking.set_operator(
        provider.operator.address,
        *consent(staking, provider.owner, provider.operator),
        sender=provider.owner,
    )
    assert staking.provider_of(provider.operator.address) == provider.owner


def test_set_operator__key_of_another_provider__reverts(
    staking: Contract, provider: Provider, make_provider: Callable[..., Provider]
) -> None:
    other = make_provider("other provider")
    with boa.reverts("staking: operator is taken"):
        staking.set_operator(
            other.operator.address,
            *consent(staking, provider.owner, other.operator),
            sender=provider.owner,
        )


def test_set_operator__released_key_can_serve_another_owner(
    suite: Suite, staking: Contract, provider: Provider, stranger: str
) -> None:
    successor = account_of("successor")
    staking.set_operator(
        successor.address,
        *consent(staking, provider.owner, successor),
        sender=provider.owner,
    )
    staking.register(
        provider.operator.address,
        stranger,
        0,
        0,
        0,
        "",
        *consent(staking, stranger, provider.operator),
        sender=stranger,
    )
    assert staking.provider_of(provider.operator.address) == stranger


def test_set_operator__old_consent__binds_nothing_again(
    suite: Suite, staking: Contract, provider: Provider, make_provider: Callable[..., Provider]
) -> None:
    """P7: an old owner cannot take a key back that it has let go, as often as it tries."""
    nonce, expires, signature = consent(staking, provider.owner, provider.operator, nonce=0)
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    assert staking.consent_nonce(provider.operator.address) == 1
    key = provider.operator.address
    with boa.reverts("staking: wrong consent nonce"):
        staking.set_operator(key, nonce, expires, signature, sender=provider.owner)
    # The next nonce is not what was signed.
    with boa.reverts("staking: not the operator's consent"):
        staking.set_operator(key, 1, expires, signature, sender=provider.owner)
    other = make_provider("other provider")
    staking.set_operator(key, *consent(staking, other.owner, provider.operator), sender=other.owner)
    assert staking.provider_of(key) == other.owner
    assert staking.consent_nonce(key) == 2
    with boa.reverts("staking: operator is taken"):
        staking.set_operator(key, nonce, expires, signature, sender=provider.owner)


def test_set_operator__consent_of_another_owner__reverts(
    staking: Contract, provider: Provider, make_provider: Callable[..., Provider]
) -> None:
    other = make_provider("other provider")
    successor = account_of("successor")
    with boa.reverts("staking: not the operator's consent"):
        staking.set_operator(
            successor.address, *consent(staking, provider.owner, successor), sender=other.owner
        )


def test_set_operator__same_key__a_new_consent(
    staking: Contract, provider: Provider, manager: str
) -> None:
    """Bound again the key has a consent of its own, which `lock` tells: old quotes are dead."""
    operator = provider.operator
    for number in range(3):
        assert staking.lock(operator.address, bytes(32), 0, 0, 0, sender=manager) == (
            provider.owner,
            number,
        )
        assert staking.consent_nonce(operator.address) == number + 1
        staking.set_operator(
            operator.address, *consent(staking, provider.owner, operator), sender=provider.owner
        )


def test_set_operator__consent_expired__reverts(staking: Contract, provider: Provider) -> None:
    successor = account_of("successor")
    with boa.reverts("staking: consent expired"):
        staking.set_operator(
            successor.address,
            *consent(staking, provider.owner, successor, now() - 1),
            sender=provider.owner,
        )
    assert staking.provider_of(provider.operator.address) == provider.owner


def test_set_operator__not_registered__reverts(staking: Contract, stranger: str) -> None:
    successor = account_of("successor")
    with boa.reverts("staking: not registered"):
        staking.set_operator(
            successor.address, *consent(staking, stranger, successor), sender=stranger
        )


def test_set_operator__by_the_operator__reverts(staking: Contract, provider: Provider) -> None:
    successor = account_of("successor")
    with boa.reverts("staking: not registered"):
        staking.set_operator(
            successor.address,
            *consent(staking, provider.owner, successor),
            sender=provider.operator.address,
        )


def test_set_operator__keeps_generations_after_a_wipe(
    suite: Suite, staking: Contract, provider: Provider, manager: str
) -> None:
    staking.slash(provider.owner, bytes(32), 2**127, sender=manager)
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    assert staking.shares_of(provider.owner, provider.owner) == 0


# ------------------------------------------------- payout, endpoint and limits


def test_set_payout__changes_the_receiver(
    staking: Contract, provider: Provider, stranger: str
) -> None:
    staking.set_payout(stranger, sender=provider.owner)
    assert event(staking, "PayoutChanged") == {"provider": provider.owner, "payout": stranger}
    assert staking.payout_of(provider.owner) == stranger


def test_set_payout__zero__reverts(staking: Contract, provider: Provider) -> None:
    with boa.reverts("staking: zero payout"):
        staking.set_payout(ZERO_ADDRESS, sender=provider.owner)


def test_set_endpoint__stores_the_digest(staking: Contract, provider: Provider) -> None:
    staking.set_endpoint("https://elsewhere.example", sender=provider.owner)
    assert event(staking, "EndpointChanged") == {
        "provider": provider.owner,
        "endpoint": "https://elsewhere.example",
    }
    assert staking.endpoint_digest(provider.owner) == keccak(text="https://elsewhere.example")


def test_set_lock_limits__changes_both(staking: Contract, provider: Provider) -> None:
    staking.set_lock_limits(3, 4, sender=provider.owner)
    assert event(staking, "LockLimitsChanged") == {
        "provider": provider.owner,
        "max_lock_per_order": 3,
        "max_locked": 4,
    }
    assert staking.lock_limits(provider.owner) == (3, 4)


def test_set_lock_limits__above_128_bits__reverts(staking: Contract, provider: Provider) -> None:
    for limits in ((2**128, 0), (0, 2**128)):
        with boa.reverts("staking: limit above 128 bits"):
            staking.set_lock_limits(*limits, sender=provider.owner)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("set_payout", (address_of("payout"),)),
        ("set_endpoint", ("https://elsewhere.example",)),
        ("set_lock_limits", (1, 1)),
    ],
)
def test_setters__not_the_owner__reverts(
    staking: Contract, provider: Provider, stranger: str, method: str, arguments: Any
) -> None:
    for caller in (stranger, provider.operator.address, provider.payout):
        with boa.reverts("staking: not registered"):
            getattr(staking, method)(*arguments, sender=caller)


def test_views__unknown_provider__empty(staking: Contract, stranger: str) -> None:
    assert staking.operator_of(stranger) == ZERO_ADDRESS
    assert staking.payout_of(stranger) == ZERO_ADDRESS
    assert staking.provider_of(stranger) == ZERO_ADDRESS
    assert staking.consent_nonce(stranger) == 0
    assert staking.commission_of(stranger) == 0
    assert staking.pending_commission(stranger) == (0, 0)
    assert staking.entry_of(stranger, stranger) == 0
    assert not staking.is_unsettled(stranger)
    assert staking.lock_limits(stranger) == (0, 0)
    assert staking.pool(stranger) == (0, 0, 0, 0, 0, 0)
    assert staking.owner_assets(stranger) == 0
    assert staking.assets_of(stranger, stranger) == 0
    assert staking.ticket(stranger, stranger, 0) == (0, 0, 0)
    assert staking.lock_of(stranger, stranger, bytes(32)) == (0, 0)


def test_register__before_the_seal__staking_waits_for_it(suite: Suite) -> None:
    token = suite.token
    staking = deploy_staking(token, suite.owner, suite.parameters, suite.deployer)
    owner, operator = address_of("early"), account_of("early operator")
    staking.register(
        operator.address, owner, 0, 0, 0, "", *consent(staking, owner, operator), sender=owner
    )
    token.transfer(owner, DAY, sender=suite.faucet)
    token.approve(staking.address, DAY, sender=owner)
    with boa.reverts("staking: not sealed"):
        staking.delegate(owner, DAY, sender=owner)
    staking.seal(sender=suite.deployer)
    staking.delegate(owner, DAY, sender=owner)
    assert staking.owner_assets(owner) == DAY


def test_register__helper_stakes(suite: Suite) -> None:
    registered = register(suite, "helper", stake=TPF)
    assert suite.staking.owner_assets(registered.owner) == TPF

# SPDX-License-Identifier: Apache-2.0
"""`register` and what an owner can change later: operator, payout, endpoint, lock limits."""

import boa
import pytest
from eth_utils.crypto import keccak

from tests.contracts.actions import FAR, consent, domain, event, go_to, now, register
from tests.contracts.deploy import (
    DAY,
    TPF,
    ZERO_ADDRESS,
    account_of,
    address_of,
    deploy_staking,
)


@pytest.fixture
def applicant():
    return address_of("applicant")


@pytest.fixture
def operator():
    return account_of("applicant's operator")


@pytest.fixture
def apply(staking, applicant, operator):
    """Call `register` with good arguments but for those given."""

    def call(sender=applicant, **changes):
        arguments = {
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


def test_register__stores_and_announces(staking, apply, applicant, operator):
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


def test_register__widest_values(staking, apply, applicant):
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
def test_register__bad_argument__reverts(apply, changes, reason):
    with boa.reverts(reason):
        apply(**changes)


def test_register__endpoint_too_long__reverts(apply):
    with boa.reverts():
        apply(endpoint="x" * 129)


def test_register__twice__reverts(apply):
    apply()
    with boa.reverts("staking: already registered"):
        apply()


def test_register__consent_works_until_its_last_second(apply, staking, applicant):
    expires = now() + 100
    go_to(expires)
    apply(expires=expires)
    assert staking.operator_of(applicant) != ZERO_ADDRESS


def test_register__consent_expired__reverts(apply):
    expires = now() + 100
    go_to(expires + 1)
    with boa.reverts("staking: consent expired"):
        apply(expires=expires)


def test_register__consent_to_another_owner__reverts(apply, stranger):
    with boa.reverts("staking: not the operator's consent"):
        apply(sender=stranger)


def test_register__consent_of_another_key__reverts(staking, apply, applicant):
    with boa.reverts("staking: not the operator's consent"):
        apply(consent=consent(staking, applicant, account_of("stranger"))[2])


def test_register__consent_for_another_deployment__reverts(suite, staking, apply, operator):
    other = deploy_staking(suite.token, suite.owner, suite.parameters, suite.deployer)
    assert domain(other) != domain(staking)
    with boa.reverts("staking: not the operator's consent"):
        apply(consent=consent(other, address_of("applicant"), operator)[2])


def test_register__malleable_consent__reverts(staking, apply, applicant, operator):
    (_, _, signature) = consent(staking, applicant, operator)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    s = order - int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with boa.reverts("ecdsa: invalid signature `s` value"):
        apply(consent=twin)


def test_register__operator_of_another_provider__reverts(staking, apply, stranger, operator):
    apply()
    with boa.reverts("staking: operator is taken"):
        apply(sender=stranger, nonce=1, consent=consent(staking, stranger, operator)[2])


# ---------------------------------------------------------------- set_operator


def test_set_operator__replaces_the_key(staking, provider):
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


def test_set_operator__same_key_again(staking, provider):
    staking.set_operator(
        provider.operator.address,
        *consent(staking, provider.owner, provider.operator),
        sender=provider.owner,
    )
    assert staking.provider_of(provider.operator.address) == provider.owner


def test_set_operator__key_of_another_provider__reverts(staking, provider, make_provider):
    other = make_provider("other provider")
    with boa.reverts("staking: operator is taken"):
        staking.set_operator(
            other.operator.address,
            *consent(staking, provider.owner, other.operator),
            sender=provider.owner,
        )


def test_set_operator__released_key_can_serve_another_owner(suite, staking, provider, stranger):
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


def test_set_operator__old_consent__binds_nothing_again(suite, staking, provider, make_provider):
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


def test_set_operator__consent_of_another_owner__reverts(staking, provider, make_provider):
    other = make_provider("other provider")
    successor = account_of("successor")
    with boa.reverts("staking: not the operator's consent"):
        staking.set_operator(
            successor.address, *consent(staking, provider.owner, successor), sender=other.owner
        )


def test_set_operator__same_key__a_new_consent(staking, provider, manager):
    """Bound anew the key has a consent of its own, which `lock` tells: old quotes are dead."""
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


def test_set_operator__consent_expired__reverts(staking, provider):
    successor = account_of("successor")
    with boa.reverts("staking: consent expired"):
        staking.set_operator(
            successor.address,
            *consent(staking, provider.owner, successor, now() - 1),
            sender=provider.owner,
        )
    assert staking.provider_of(provider.operator.address) == provider.owner


def test_set_operator__not_registered__reverts(staking, stranger):
    successor = account_of("successor")
    with boa.reverts("staking: not registered"):
        staking.set_operator(
            successor.address, *consent(staking, stranger, successor), sender=stranger
        )


def test_set_operator__by_the_operator__reverts(staking, provider):
    successor = account_of("successor")
    with boa.reverts("staking: not registered"):
        staking.set_operator(
            successor.address,
            *consent(staking, provider.owner, successor),
            sender=provider.operator.address,
        )


def test_set_operator__keeps_generations_after_a_wipe(suite, staking, provider, manager):
    staking.slash(provider.owner, bytes(32), 2**127, sender=manager)
    successor = account_of("successor")
    staking.set_operator(
        successor.address, *consent(staking, provider.owner, successor), sender=provider.owner
    )
    assert staking.shares_of(provider.owner, provider.owner) == 0


# ------------------------------------------------- payout, endpoint and limits


def test_set_payout__changes_the_receiver(staking, provider, stranger):
    staking.set_payout(stranger, sender=provider.owner)
    assert event(staking, "PayoutChanged") == {"provider": provider.owner, "payout": stranger}
    assert staking.payout_of(provider.owner) == stranger


def test_set_payout__zero__reverts(staking, provider):
    with boa.reverts("staking: zero payout"):
        staking.set_payout(ZERO_ADDRESS, sender=provider.owner)


def test_set_endpoint__stores_the_digest(staking, provider):
    staking.set_endpoint("https://elsewhere.example", sender=provider.owner)
    assert event(staking, "EndpointChanged") == {
        "provider": provider.owner,
        "endpoint": "https://elsewhere.example",
    }
    assert staking.endpoint_digest(provider.owner) == keccak(text="https://elsewhere.example")


def test_set_lock_limits__changes_both(staking, provider):
    staking.set_lock_limits(3, 4, sender=provider.owner)
    assert event(staking, "LockLimitsChanged") == {
        "provider": provider.owner,
        "max_lock_per_order": 3,
        "max_locked": 4,
    }
    assert staking.lock_limits(provider.owner) == (3, 4)


def test_set_lock_limits__above_128_bits__reverts(staking, provider):
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
def test_setters__not_the_owner__reverts(staking, provider, stranger, method, arguments):
    for caller in (stranger, provider.operator.address, provider.payout):
        with boa.reverts("staking: not registered"):
            getattr(staking, method)(*arguments, sender=caller)


def test_views__unknown_provider__empty(staking, stranger):
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


def test_register__before_the_seal__staking_waits_for_it(suite):
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


def test_register__helper_stakes(suite):
    registered = register(suite, "helper", stake=TPF)
    assert suite.staking.owner_assets(registered.owner) == TPF

# SPDX-License-Identifier: Apache-2.0
"""channels/signers.vy by itself: at the bounds of a signature, which no key can be made to meet in
a whole claim.
"""

from __future__ import annotations

import boa
import pytest
from eth_keys.datatypes import Signature

from tests.contracts.deploy import CONTRACTS, Contract

pytestmark = pytest.mark.invariant("I-9", "I-12")

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HALF = ORDER // 2
R = 0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798  # of a point of the curve
DIGEST = bytes(range(32))


@pytest.fixture(scope="module")
def signers() -> Contract:
    """The library alone; its functions have no state."""
    return boa.load_partial(str(CONTRACTS / "channels" / "signers.vy")).deploy().internal


def signer_of(s: int, v: int) -> str:
    """Whose signature this is by the curve, in whatever form."""
    signature = Signature(vrs=(v - 27, R, s))
    return str(signature.recover_public_key_from_msg_hash(DIGEST).to_checksum_address())


@pytest.mark.parametrize("v", [27, 28])
@pytest.mark.parametrize("s", [1, 2, HALF - 1, HALF])
def test_signature__of_its_two_forms_the_lower_one_is_taken(
    signers: Contract, s: int, v: int
) -> None:
    signer = signer_of(s, v)
    assert signer == signer_of(ORDER - s, 55 - v)  # the twin, which anybody can make of it
    assert signers._is_from_key(signer, DIGEST, R, s, v)
    assert not signers._is_from_key(signer, DIGEST, R, ORDER - s, 55 - v)
    assert not signers._is_from_key(signer, DIGEST, R, s, 55 - v)

# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Token transfers in and out
@license AGPL-3.0-only
@notice Pulls and pushes a plain ERC-20. Tokens that answer nothing are
        accepted; tokens that take a fee on transfer or rebase are out of scope.
"""

from ethereum.ercs import IERC20


@internal
def _pull(token: IERC20, sender: address, amount: uint256):
    """
    @dev Moves `amount` from `sender` to this contract, against an allowance.
    """
    assert extcall token.transferFrom(
        sender, self, amount, default_return_value=True
    ), "token: transfer failed"


@internal
def _push(token: IERC20, receiver: address, amount: uint256):
    """
    @dev Moves `amount` from this contract to `receiver`.
    """
    assert receiver != empty(address), "token: zero receiver"
    assert extcall token.transfer(
        receiver, amount, default_return_value=True
    ), "token: transfer failed"


@internal
def _permit(
    token: IERC20,
    owner: address,
    amount: uint256,
    deadline: uint256,
    v: uint8,
    r: bytes32,
    s: bytes32,
):
    """
    @dev Uses an EIP-2612 permit. A failure is ignored: somebody may have sent
         the same permit first, and then the allowance is there already. If it
         is not, the pull that follows fails.
    """
    success: bool = raw_call(
        token.address,
        abi_encode(
            owner,
            self,
            amount,
            deadline,
            v,
            r,
            s,
            method_id=method_id(
                "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)"
            ),
        ),
        revert_on_failure=False,
    )

# SPDX-License-Identifier: AGPL-3.0-only
# pragma version 0.4.3
"""
@title Upgradable dollar, the proxy, for gas figures
@license AGPL-3.0-only
@notice Costs what a widely used proxied dollar costs: each call reads the
        administrator and the implementation from storage and delegates.
        Its state is laid out in ProxiedTokenLogic.
"""

implementation: address
administrator: address


@deploy
def __init__(implementation: address, administrator: address):
    self.implementation = implementation
    self.administrator = administrator


@external
@raw_return
def __default__() -> Bytes[64]:
    assert (
        msg.sender != self.administrator
    ), "proxy: the administrator holds no tokens"
    return raw_call(
        self.implementation,
        msg.data,
        max_outsize=64,
        is_delegate_call=True,
    )

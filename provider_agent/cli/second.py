# SPDX-License-Identifier: Apache-2.0
"""Whether another agent of this machine has the key already."""

from __future__ import annotations

from provider_agent.core.settings import Settings
from provider_agent.tx.keys import KeyLock
from teraproof import keyfiles


def refuse_second(settings: Settings) -> None:
    """KeyInUse when an agent runs with the key; nothing where the key cannot be named yet.

    The agent takes the lock itself when it starts: this only says so before anything is checked.
    """
    operator = settings.operator
    try:
        if operator.keystore is not None:  # it names its address, which needs no password
            address = keyfiles.address_of(operator.keystore)
        else:
            address = str(keyfiles.load(private_key_file=operator.private_key_file).address)
    except keyfiles.KeyFileError:
        return  # the checks say what is wrong with it
    if address is not None:
        with KeyLock(settings.chain.chain_id, address, settings.agent.lock_dir):
            pass

# SPDX-License-Identifier: Apache-2.0
"""What a lease costs: by the owner's table, or by the program that it has named.

The program is the owner's. It is asked for strangers, so one runs at a time, for a few seconds, and
what it says for a specification is good for a while. Whatever goes wrong with it declines.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import subprocess
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from typing import Any

from provider_agent.modules.leases.settings import LeasesSettings
from teraproof.errors import Refused
from teraproof.protocol.errors import Code
from teraproof.protocol.lease_offer import LeaseOffer, Prices
from teraproof.protocol.leasespec import LeaseSpec

log = logging.getLogger(__name__)

_HOUR = 3_600
_MOST_RATE = 2**80 - 1  # of an order on chain
_ANSWER = re.compile(rb"\s*([0-9]{1,12}(?:\.[0-9]{1,18})?)\s*")
_ANSWER_BYTES = 64
_GOOD_SECONDS, _KEPT = 60.0, 1_024


def table(settings: LeasesSettings) -> Prices:
    """The owner's table, per hour."""
    return Prices(
        core=Fraction(settings.core_price),
        memory_gib=Fraction(settings.memory_price),
        disk_gib=Fraction(settings.disk_price),
        gpu={model: Fraction(price) for model, price in settings.gpu_prices.items()},
    )


class PriceDesk:
    """See the module. `unit` is payment token units of a whole token. Asked from any thread."""

    def __init__(
        self,
        settings: LeasesSettings,
        unit: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._command, self._seconds = settings.price_command, settings.price_command_seconds
        self._unit, self._clock = unit, clock
        self._lock = threading.Lock()
        self._said: OrderedDict[tuple[bytes, int], tuple[float, int | None]] = OrderedDict()

    def rate(self, offer: LeaseOffer, spec: LeaseSpec, seconds: int) -> int:
        """Payment token units per second, rounded up, at least 1. Refused without a price."""
        by_table = offer.rate(spec, self._unit)
        if by_table is None:
            raise Refused(Code.MACHINE_UNFIT, "has not all of the GPUs", wanted="gpus")
        if not self._command:
            return _bounded(by_table)
        key = (spec.digest(), seconds)
        if not self._lock.acquire(timeout=2 * self._seconds):
            raise _none()
        try:
            known = self._said.get(key)
            if known is None or self._clock() - known[0] > _GOOD_SECONDS:
                known = (self._clock(), self._ask(spec, seconds, by_table))
                self._said[key] = known
                while len(self._said) > _KEPT:
                    self._said.popitem(last=False)
        finally:
            self._lock.release()
        if known[1] is None:
            raise _none()
        return _bounded(known[1])

    def _ask(self, spec: LeaseSpec, seconds: int, by_table: int) -> int | None:
        """The program's price in units per second; None where it names none."""
        asked = _question(spec, seconds, str(Decimal(by_table * _HOUR) / self._unit))
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            log.warning("leases.price_command does not start: %s", error.strerror)
            return None
        try:
            said, _ = process.communicate(json.dumps(asked).encode(), timeout=self._seconds)
        except subprocess.TimeoutExpired:
            log.warning("leases.price_command took more than %s s", self._seconds)
            return None
        except OSError:
            return None  # it did not read the question
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        if process.returncode != 0 or not said.strip():
            return None
        answer = _ANSWER.fullmatch(said) if len(said) <= _ANSWER_BYTES else None
        if answer is None:
            log.warning("leases.price_command printed no price")
            return None
        return math.ceil(Fraction(answer[1].decode()) * self._unit / _HOUR)


def _question(spec: LeaseSpec, seconds: int, per_hour: str) -> dict[str, Any]:
    """What the program is asked: nothing of what the containers hear."""
    return {
        "spec": spec.digest().hex(),
        "seconds": seconds,
        "per_hour": per_hour,
        "needs": spec.needs().to_json(),
        "services": [
            {"name": one.name, "count": one.count, "resources": one.resources.to_json()}
            for one in spec.services
        ],
    }


def _bounded(rate: int) -> int:
    if rate > _MOST_RATE:
        raise _none()
    return max(1, rate)


def _none() -> Refused:
    return Refused(Code.PRICE_UNKNOWN, "names no price for that now; try later", retry_after=60)

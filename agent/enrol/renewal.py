"""Renews the running agent's certificate with new keys, and says when it is about to end.

From day 20 of 30 on, later by up to a day at random so that a fleet that was
enrolled together does not come together; what fails is tried again after
waits that double up to six hours, with full jitter. An attempt has a thread of
its own and waits for the network there. Which day it is says the agent's
clock, however it jumps: too early an attempt costs one certificate, and after
the end attempts go on, because it may be the clock that is wrong.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from agent.config import AgentConfig
from agent.enrol.enrolled import Validity, validity_of
from agent.enrol.est import EnrolmentFailed
from agent.enrol.issue import renew
from agent.health import Faults
from agent.keys.at_rest import KeyringError

DUE_SHARE: Final = 2 / 3
"""Of a certificate's days, after which it is renewed."""
SPREAD_SHARE: Final = 1 / 30
ALARM_S: Final = 5 * 86_400
"""A certificate that ends so soon is an alarm."""
WAIT_S: Final = (60.0, 6 * 3600.0)
"""Shortest and longest wait after an attempt that failed."""
_DAY_S: Final = 86_400
_LOOK_EVERY_S: Final = 1.0


class Renewal:
    """Looks after one certificate. `tick` is called often, by one thread."""

    def __init__(
        self,
        certificate_file: Path,
        attempt: Callable[[], Validity] | None,
        *,
        in_use: Callable[[Validity], None],
        now_utc_s: Callable[[], float],
        faults: Faults,
        monotonic_s: Callable[[], float] = time.monotonic,
        draw: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`attempt` gets the next certificate and puts it in use on the disk; None: by hand only.

        `in_use` lets the running agent go over to it. Raises KeyringError if there is no
        certificate.
        """
        self._file = certificate_file
        self._attempt = attempt
        self._in_use = in_use
        self._now_utc_s = now_utc_s
        self._faults = faults
        self._monotonic_s = monotonic_s
        self._draw = draw
        self._failures = 0
        self._retry_s = float("-inf")
        self._look_s = float("-inf")
        self._running: _Attempt | None = None
        self._plan(validity_of(certificate_file))

    @property
    def ends_utc_s(self) -> float:
        """When the certificate ends."""
        return self._validity.not_after_utc_s

    def tick(self) -> None:
        """Take what an attempt brought, begin one if it is time, raise and end the alarm."""
        now_s = self._monotonic_s()
        if self._running is not None:
            if self._running.is_alive():
                return
            self._take(self._running, now_s)
            self._running = None
        elif now_s < self._look_s:
            return
        self._look_s = now_s + _LOOK_EVERY_S
        now_utc_s = self._now_utc_s()
        self._watch(now_utc_s)
        if now_utc_s < self._due_utc_s:
            # Also after the clock was set right.
            self._faults.over("renewal")
        elif self._attempt is not None and now_s >= self._retry_s:
            self._running = _Attempt(self._attempt)
            self._running.start()

    def _plan(self, validity: Validity) -> None:
        self._validity = validity
        span_s = validity.not_after_utc_s - validity.not_before_utc_s
        share = DUE_SHARE + self._draw(0.0, SPREAD_SHARE)
        self._due_utc_s = validity.not_before_utc_s + share * span_s

    def _take(self, ended: _Attempt, now_s: float) -> None:
        if ended.brought is None:
            longest_s = min(WAIT_S[1], WAIT_S[0] * 2 ** min(self._failures, 16))
            self._failures += 1
            self._retry_s = now_s + self._draw(0.5 * WAIT_S[0], longest_s)
            self._faults.report("renewal", f"no new certificate: {ended.why}; tried again")
            return
        self._failures = 0
        self._plan(ended.brought)
        self._faults.over("renewal")
        self._in_use(ended.brought)

    def _watch(self, now_utc_s: float) -> None:
        left_s = self.ends_utc_s - now_utc_s
        if left_s >= ALARM_S:
            self._faults.over("certificate")
            return
        until = time.strftime("%Y-%m-%d %H:%M", time.gmtime(self.ends_utc_s))
        what = f"ends on {until} UTC" if left_s > 0 else f"has ended on {until} UTC"
        remedy = (
            "copy a new bundle of the centre"
            if self._attempt is None
            else "see renewal, or enrol anew with a token (loadscape-agent enrol --anew)"
        )
        self._faults.report("certificate", f"{self._file}: {what}; {remedy}")


def build_renewal(
    config: AgentConfig,
    now_utc_s: Callable[[], float],
    faults: Faults,
    in_use: Callable[[Validity], None],
) -> Renewal:
    """Of the running agent; raises KeyringError if there is no certificate."""
    enrolled = config.keys.folder is not None
    return Renewal(
        config.broker.cert_file,
        partial(renew, config, now_utc_s) if enrolled else None,
        in_use=in_use,
        now_utc_s=now_utc_s,
        faults=faults,
    )


class _Attempt(threading.Thread):
    """One attempt; afterwards either `brought` or `why` is set."""

    def __init__(self, attempt: Callable[[], Validity]) -> None:
        super().__init__(name="renewal", daemon=True)
        self._attempt = attempt
        self.brought: Validity | None = None
        self.why = "the attempt ended by itself, the log says why"

    def run(self) -> None:
        try:
            self.brought = self._attempt()
        except (EnrolmentFailed, KeyringError, OSError) as error:
            self.why = str(error)

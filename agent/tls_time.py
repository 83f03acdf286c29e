"""Certificates judged by the agent's clock where the machine's is behind it.

OpenSSL asks the machine for the time, and a machine without a battery says
1970: no certificate is valid then, no connection comes about, and nobody ever
tells it the time. So where the agent's clock (never below its floor,
`agent/clock_trust.py`) is ahead of the machine's, OpenSSL is told to leave the
dates alone, and the broker's own certificate is held against the agent's clock
here; those of the authorities above it are not. All else is checked as ever.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

BEHIND_S = 60.0
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME (OpenSSL, X509_VERIFY_PARAM_set_flags)."""


class _Judged(ssl.SSLSocket):
    """A connection whose peer's certificate is held against the context's clock."""

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        assert isinstance(self.context, ClockedContext)
        self.context.judge(self.getpeercert())


class ClockedContext(ssl.SSLContext):
    """A client's context by the clock `now_utc_s`."""

    sslsocket_class = _Judged
    now_utc_s: Callable[[], float] = staticmethod(time.time)

    def wrap_socket(self, sock: socket.socket, *given: Any, **named: Any) -> ssl.SSLSocket:
        """As ssl.SSLContext does; the handshake raises SSLCertVerificationError."""
        if self._behind():
            self.verify_flags |= _NO_CHECK_TIME
        else:
            self.verify_flags &= ~_NO_CHECK_TIME
        return super().wrap_socket(sock, *given, **named)

    def judge(self, certificate: Any) -> None:
        """Raise SSLCertVerificationError if the peer's certificate is not valid now."""
        if not self._behind():
            return
        now_utc_s = self.now_utc_s()
        first = ssl.cert_time_to_seconds(certificate["notBefore"])
        last = ssl.cert_time_to_seconds(certificate["notAfter"])
        if not first <= now_utc_s <= last:
            shown = time.asctime(time.gmtime(now_utc_s))
            raise ssl.SSLCertVerificationError(
                f"the peer's certificate is valid from {certificate['notBefore']} to "
                f"{certificate['notAfter']}, the agent's clock shows {shown} UTC; "
                "renew it, or set the clock right"
            )

    def _behind(self) -> bool:
        return time.time() < self.now_utc_s() - BEHIND_S

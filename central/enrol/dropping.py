"""Ends the live connection of a revoked device: the centre takes its name at the broker.

A broker that reads a new revocation list refuses the device's next handshake, but
lets a connection that stands live on. MQTT 5 knows one way to end it that every
broker has (3.1.4-3): another client of the same name takes the session over. The
authority certifies a key of the centre for that name, for a day, kept in memory
and a closed temporary folder; where the list was not read yet the device could
come back, so it is read first.
"""

from __future__ import annotations

import ssl
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from central.config import BrokerAccess
from central.durable import write_file
from central.keys.authority import read_authority
from central.keys.place import KeyPlace

_PATIENCE_S: Final = 20.0


class NotDropped(Exception):
    """The connection may still stand; the message says why and what to do."""


def reload_broker(command: Sequence[str]) -> None:
    """Let the broker read the revocation list; raises NotDropped."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotDropped(f"{' '.join(command)}: {error}; reload the broker by hand") from error
    if done.returncode:
        said = done.stderr.strip()[-200:]
        raise NotDropped(f"{' '.join(command)}: exit code {done.returncode}: {said}")


def drop_connection(place: KeyPlace, broker: BrokerAccess, name: str) -> None:
    """End whatever connection stands under `name`; raises NotDropped, KeysError."""
    issued = read_authority(place).issue_client(name, 1)
    answered = threading.Event()
    reasons: list[ReasonCode] = []

    def connected(_c: Client, _u: object, _f: object, reason: ReasonCode, _p: object) -> None:
        reasons.append(reason)
        answered.set()

    client = Client(CallbackAPIVersion.VERSION2, name, protocol=MQTTv5)
    client.on_connect = connected
    client.tls_set_context(_context(broker, issued.certificate, issued.key))
    try:
        client.connect(broker.host, broker.port, clean_start=True)
        client.loop_start()
        told = answered.wait(_PATIENCE_S)
        client.disconnect()
        client.loop_stop()
    except OSError as error:
        raise NotDropped(
            f"{broker.host}:{broker.port}: {error}; end the connection there, or restart the broker"
        ) from error
    if not told or reasons[0].is_failure:
        why = str(reasons[0]) if reasons else "no answer"
        raise NotDropped(
            f"{broker.host}:{broker.port} does not let the centre in as {name} ({why}); restart it"
        )


def _context(broker: BrokerAccess, certificate: bytes, key: bytes) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(broker.ca_file)
    # OpenSSL takes files only.
    with tempfile.TemporaryDirectory(prefix="loadscape-") as folder:
        files: Any = Path(folder, "as.crt"), Path(folder, "as.key")
        for path, data in zip(files, (certificate, key), strict=True):
            write_file(path, data)
        context.load_cert_chain(*files)
    return context

"""A concentrator without meters: seals given readings and delivers them as an agent must.

It keeps every batch until a verified receipt covers it and sends again what
was not receipted. Benches and tests of central use it where serial lines
would only take time.
"""

from __future__ import annotations

import json
import secrets
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from wire import topics
from wire.block import BlockRow, Roster, encode_block
from wire.channels import PROFILE_SCHEMA, Schema
from wire.cose import CoseError
from wire.envelope import BLOCK, BatchHeader, DeviceSigner, chain_hash, seal
from wire.keyset import Keyset, verify_keyset
from wire.receipt import Receipt, ReceiptError, verify_receipt

_ED25519 = -19


@dataclass(slots=True)
class BenchDevice:
    """One enrolled device, made from its bundle."""

    tenant: str
    device: str
    bundle: Path
    stream: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    boot: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    seq: int = 0
    prev: bytes = bytes(16)
    outbox: dict[int, bytes] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    signer: DeviceSigner = field(init=False)
    keyset: Keyset = field(init=False)
    _client: Client | None = None
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def __post_init__(self) -> None:
        self.signer = DeviceSigner(bytes.fromhex((self.bundle / "sign.key").read_text()))
        root = bytes.fromhex((self.bundle / "root.pub").read_text())
        data = (self.bundle / "keyset.cose").read_bytes()
        self.keyset = verify_keyset(data, root, tenant=self.tenant, lowest_version=1)

    @property
    def cn(self) -> str:
        """The device's common name."""
        return topics.common_name(self.tenant, self.device)

    def cut(
        self,
        roster: Roster,
        rows: Sequence[BlockRow],
        *,
        schema: Schema = PROFILE_SCHEMA,
        with_roster: bool = True,
    ) -> bytes:
        """Seal `rows` as the next batch of the stream and put it into the outbox."""
        block = encode_block(schema, roster, rows, with_roster=with_roster)
        return self.seal_next(block, schema_id=schema.id)

    def seal_next(self, plaintext: bytes, *, content: int = BLOCK, schema_id: int = 1) -> bytes:
        """Seal any plaintext as the next batch of the stream and put it into the outbox."""
        epoch = self.keyset.epoch_keys[-1]
        self.seq += 1
        header = BatchHeader(
            alg=_ED25519,
            content=content,
            kid=self.signer.kid,
            tenant=self.tenant,
            stream=self.stream,
            boot=self.boot,
            seq=self.seq,
            prev=self.prev,
            epoch_kid=epoch.kid,
            suite=epoch.suite,
            schema_id=schema_id,
        )
        sealed = seal(header, plaintext, epoch_public=epoch.public, signer=self.signer)
        self.prev = chain_hash(sealed)
        self.outbox[self.seq] = sealed
        return sealed

    def connect(self, host: str, port: int) -> None:
        """Connect in the background and stay connected until `close`."""
        client = Client(CallbackAPIVersion.VERSION2, client_id=self.cn, protocol=MQTTv5)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(self.bundle / "ca.crt")
        context.load_cert_chain(self.bundle / "tls.crt", self.bundle / "tls.key")
        client.tls_set_context(context)
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_message = self._on_message
        client.connect_async(host, port, clean_start=False)
        client.loop_start()
        self._client = client

    def close(self) -> None:
        """Leave the broker."""
        if self._client is not None:
            self._client.disconnect()
            self._client.loop_stop()

    def publish(self, payload: bytes, *, topic: str | None = None) -> None:
        """Publish once, on the device's own topic unless told otherwise."""
        if self._client is None:
            raise RuntimeError("connect before publishing")
        self._client.publish(topic or topics.up(self.cn), payload, qos=1)

    def publish_state(self) -> None:
        """Publish the retained birth."""
        if self._client is None:
            raise RuntimeError("connect before publishing")
        state = {
            "online": True,
            "boot": self.boot.hex(),
            "stream": self.stream.hex(),
            "next": self.seq + 1,
            "head": self.prev.hex(),
            "keyset": self.keyset.version,
            "outbox": len(self.outbox),
        }
        self._client.publish(topics.state(self.cn), json.dumps(state), qos=1, retain=True)

    def deliver(self, *, within_s: float, again_after_s: float = 2.0, window: int = 50) -> bool:
        """Send the outbox until receipts cover all of it; false if time runs out."""
        until_s = time.monotonic() + within_s
        sent_upto, sent_s = 0, time.monotonic()
        while time.monotonic() < until_s:
            with self._changed:
                waiting = sorted(self.outbox)
                if not waiting:
                    return True
                if time.monotonic() - sent_s > again_after_s:
                    sent_upto = 0
                due = [seq for seq in waiting[:window] if seq > sent_upto]
                if not due:
                    self._changed.wait(0.1)
                    continue
            if self._client is None or not self._client.is_connected():
                time.sleep(0.05)
                continue
            for seq in due:
                sealed = self.outbox.get(seq)
                if sealed is not None:
                    self.publish(sealed)
            sent_upto, sent_s = due[-1], time.monotonic()
        return not self.outbox

    def wait_for_receipt(self, within_s: float, count: int = 1) -> Receipt | None:
        """The newest receipt once at least `count` have come, None if time runs out."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.receipts) >= count, within_s)
            return self.receipts[-1] if came else None

    def _on_connect(
        self,
        client: Client,
        userdata: object,
        flags: ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        client.subscribe(topics.down(self.cn), qos=1)

    def _on_message(self, client: Client, userdata: object, message: MQTTMessage) -> None:
        try:
            receipt = verify_receipt(bytes(message.payload), self.keyset)
        except (CoseError, ReceiptError):
            self._take_keyset(bytes(message.payload))
            return
        with self._changed:
            self.receipts.append(receipt)
            if receipt.stream == self.stream:
                for seq in [seq for seq in self.outbox if seq <= receipt.upto]:
                    del self.outbox[seq]
            self._changed.notify_all()

    def _take_keyset(self, data: bytes) -> None:
        root = bytes.fromhex((self.bundle / "root.pub").read_text())
        keyset = verify_keyset(
            data, root, tenant=self.tenant, lowest_version=self.keyset.version + 1
        )
        with self._changed:
            self.keyset = keyset
            self._changed.notify_all()

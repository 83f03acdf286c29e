"""Whatever is done to a tenant's keys in whatever order: no device is ever led astray."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from central.keys.authority import init_authority
from central.keys.destruction import destroy, due
from central.keys.place import KeyPlace, KeysError, read_hex, read_keyset
from central.keys.receipts import ReceiptKeys
from central.keys.record import (
    DAY_S,
    EPOCH,
    PURPOSES,
    RECEIPT,
    KeyRecord,
    destroy_at_utc_s,
    private_file,
    read_records,
)
from central.keys.root import make_request, read_request, sign_asked, take_keyset
from central.keys.rotation import add_key, revoke_key
from wire.keyset import verify_keyset

NOW = 1_772_000_000
PURPOSE = st.sampled_from(sorted(PURPOSES))


class KeyLife(RuleBasedStateMachine):
    """An office, a root that is elsewhere, a device that takes every keyset that reaches it."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.root = self.folder / "root"
        office = self.folder / "office"
        init_authority(office, "demo", broker_hosts=["b"], now_utc_s=NOW, root=self.root)
        self.office = KeyPlace(office)
        self.now_s = NOW
        self.requests = [make_request(self.office)]
        self.signed = {1: self.office.keyset.read_bytes()}
        self.known = read_keyset(self.office)
        self.revoked: set[bytes] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    @rule(days=st.integers(1, 60))
    def time_passes(self, days: int) -> None:
        self.now_s += days * DAY_S

    @rule(purpose=PURPOSE, at_once=st.booleans())
    def rotate(self, purpose: str, at_once: bool) -> None:
        add_key(self.office, PURPOSES[purpose], self.now_s, at_once=at_once)

    @rule(purpose=PURPOSE, which=st.integers(0, 5))
    def revoke(self, purpose: str, which: int) -> None:
        records = [r for r in self._records(purpose) if r.revoked_utc_s is None]
        if records:
            record = records[which % len(records)]
            revoke_key(self.office, PURPOSES[purpose], record.kid, self.now_s)
            self.revoked.add(record.kid)

    @rule()
    def ask(self) -> None:
        self.requests.append(make_request(self.office))

    @rule(which=st.integers(0, 3))
    def sign(self, which: int) -> None:
        """One of the last requests, whichever the courier has."""
        request = self.requests[-1 - which % len(self.requests)]
        try:
            asked = read_request(self.root, request)
        except KeysError:
            return
        data = sign_asked(self.root, asked)
        assert self.signed.setdefault(asked.keyset.version, data) == data

    @rule(which=st.integers(0, 3))
    def take(self, which: int) -> None:
        data = list(self.signed.values())[-1 - which % len(self.signed)]
        try:
            take_keyset(self.office, data)
        except KeysError:
            return

    @rule()
    def reach_the_device(self) -> None:
        data, public = self.office.keyset.read_bytes(), read_hex(self.office.root_public, 32)
        known, lowest = self.known, self.known.version
        self.known = verify_keyset(data, public, tenant="demo", lowest_version=lowest)
        assert {*known.revoked} <= {*self.known.revoked}

    @rule()
    def destroy_due(self) -> None:
        for purpose in PURPOSES.values():
            for record in due(self.office, purpose, self.now_s):
                assert destroy_at_utc_s(record, purpose) <= self.now_s
                destroy(self.office, purpose, [record], self.now_s)

    @invariant()
    def a_batch_sealed_within_a_keys_time_can_be_opened_for_90_days(self) -> None:
        for record in self._records(EPOCH.name):
            if self.now_s < record.not_after_utc_s + 90 * DAY_S:
                assert private_file(self.office, EPOCH, record.kid).exists()

    @invariant()
    def the_keyset_in_force_has_keys_of_both_kinds_and_none_that_it_revokes(self) -> None:
        keyset = read_keyset(self.office)
        for keys in (keyset.epoch_keys, keyset.receipt_keys):
            assert keys
            assert not {key.kid for key in keys} & {*keyset.revoked}
        assert {*keyset.revoked} <= self.revoked

    @invariant()
    def the_collector_can_sign_what_the_keyset_in_force_accepts(self) -> None:
        keyset = read_keyset(self.office)
        signer = ReceiptKeys(self.office, keyset).signer(self.now_s)
        assert keyset.receipt_key(signer.kid) is not None

    @invariant()
    def nothing_is_due_that_is_destroyed_and_nothing_destroyed_comes_back(self) -> None:
        for purpose in (EPOCH, RECEIPT):
            gone = [r for r in self._records(purpose.name) if r.destroyed_utc_s is not None]
            assert not [r for r in gone if private_file(self.office, purpose, r.kid).exists()]

    def _records(self, purpose: str) -> list[KeyRecord]:
        return read_records(self.office, PURPOSES[purpose])


class TestKeyLife(KeyLife.TestCase):
    settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


@pytest.mark.slow
class TestLongKeyLife(KeyLife.TestCase):
    settings = settings(max_examples=500, stateful_step_count=40, deadline=None)

"""The collector's receipt keys: which one signs now.

The youngest that the keyset in force names signs: a receipt of another key
would be refused by every device.
"""

from __future__ import annotations

from central.keys.place import KeyPlace, KeysError, read_hex
from central.keys.record import RECEIPT, private_file, read_records
from wire.envelope import DeviceSigner
from wire.keyset import Keyset


class ReceiptKeys:
    """Private receipt keys of one folder, as far as `keyset` names them."""

    def __init__(self, place: KeyPlace, keyset: Keyset) -> None:
        """Raises KeysError if the keyset names none whose private half is here."""
        self._signers = [
            (record.not_before_utc_s, DeviceSigner(read_hex(path, 32)))
            for record in read_records(place, RECEIPT)
            if keyset.receipt_key(record.kid) is not None
            and (path := private_file(place, RECEIPT, record.kid)).exists()
        ]
        if not self._signers:
            raise KeysError(
                f"{place.receipt_dir}: no private half of a receipt key that keyset version "
                f"{keyset.version} names; hand the collector's keys out anew (keys hand-out)"
            )

    def signer(self, now_utc_s: float) -> DeviceSigner:
        """The youngest key whose time has come; the oldest if none's has."""
        begun = [signer for begins_s, signer in self._signers if begins_s <= now_utc_s]
        return begun[-1] if begun else self._signers[0][1]

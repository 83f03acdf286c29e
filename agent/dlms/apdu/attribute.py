"""Which attribute or which method of which object is meant."""

from __future__ import annotations

from dataclasses import dataclass

from agent.dlms.constants import obis, obis_text


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one object."""

    class_id: int
    name: bytes
    index: int

    @classmethod
    def parse(cls, text: str) -> Attribute:
        """From `class/name/attribute`, such as `3/1.0.1.8.0.255/2`; raises ValueError."""
        return cls(*_parsed(text, "attribute", "3/1.0.1.8.0.255/2"))

    def __str__(self) -> str:
        return f"{self.class_id}/{obis_text(self.name)}/{self.index}"

    @property
    def scaler_unit(self) -> Attribute:
        """Attribute 3 of the same register: its scaler and unit."""
        return Attribute(self.class_id, self.name, 3)

    def descriptor(self) -> bytes:
        """The nine bytes that name the attribute in a request."""
        return self.class_id.to_bytes(2, "big") + self.name + bytes([self.index])


@dataclass(frozen=True, slots=True)
class Method:
    """One method of one object."""

    class_id: int
    name: bytes
    index: int

    @classmethod
    def parse(cls, text: str) -> Method:
        """From `class/name/method`, such as `8/0.0.1.0.0.255/6`; raises ValueError."""
        return cls(*_parsed(text, "method", "8/0.0.1.0.0.255/6"))

    def __str__(self) -> str:
        return f"method {self.class_id}/{obis_text(self.name)}/{self.index}"

    def descriptor(self) -> bytes:
        """The nine bytes that name the method in a request."""
        return self.class_id.to_bytes(2, "big") + self.name + bytes([self.index])


def _parsed(text: str, last: str, example: str) -> tuple[int, bytes, int]:
    parts = text.split("/")
    if len(parts) != 3 or not parts[0].isdecimal() or not parts[2].isdecimal():
        raise ValueError(f"expected class/logical name/{last} such as {example}, found {text!r}")
    return int(parts[0]), obis(parts[1]), int(parts[2])

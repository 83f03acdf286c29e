"""Serial number and model registers of the simulated meters, against bytes worked out by hand."""

from dataclasses import replace

import pytest

from hil.meters.modbus import ModbusMeter, models
from hil.meters.steady import Steady

FACE = Steady(serial="21000035")
TOLD = {
    # 21,000,035 is 0x01406f63.
    "eastron_sdm120": (3, 64512, 2, "0140 6f63"),
    "eastron_sdm230": (3, 64512, 2, "0140 6f63"),
    "eastron_sdm630": (3, 64512, 2, "0140 6f63"),
    "eastron_sdm72d_v2": (3, 64512, 2, "0140 6f63"),
    "carlo_gavazzi_em24_rs485": (3, 0x1300, 7, "3231 3030 3030 3335 0000 0000 0000"),
    "carlo_gavazzi_em340": (4, 0x5000, 7, "0031 0030 0030 0030 0030 0033 0035"),
    "carlo_gavazzi_em111": (3, 0x5000, 7, "0031 0030 0030 0030 0030 0033 0035"),
    "schneider_iem3155": (3, 129, 2, "0140 6f63"),
    "schneider_pm5110": (3, 129, 2, "0140 6f63"),
    "abb_b23_b24": (3, 0x8900, 2, "0140 6f63"),
    "janitza_umg96rm": (3, 754, 2, "0140 6f63"),
    "inepro_pro380": (3, 0x4000, 2, "2100 0035"),
}
MODEL = {
    "eastron_sdm120": (3, 0xFC02, 1, "0020"),
    "eastron_sdm630": (3, 0xFC02, 1, "0070"),
    "eastron_sdm72d": (3, 0xFC02, 1, "0084"),
    "eastron_sdm72d_v2": (3, 0xFC02, 1, "0089"),
    "carlo_gavazzi_em24_rs485": (3, 0x0B, 1, "0048"),
    "carlo_gavazzi_em340": (3, 0x0B, 1, "0155"),
    "carlo_gavazzi_em111": (3, 0x0B, 1, "0067"),
    "schneider_pm5110": (3, 89, 1, "3ba6"),
    "abb_b23_b24": (3, 0x8960, 6, b"B23 112-100\0".hex()),
    "janitza_umg96rm": (3, 769, 2, "004f aead"),  # product number 5,222,061
    "inepro_pro380": (3, 0x1010, 1, "2007"),
}


@pytest.mark.parametrize("model", TOLD)
def test_a_meter_tells_the_serial_number_of_its_face(model: str) -> None:
    function, address, count, data = TOLD[model]
    meter = ModbusMeter(model, FACE)
    assert meter.read(function, address, count, 0.0) == bytes.fromhex(data)
    meter.shown = replace(FACE, serial="21000042")
    assert meter.read(function, address, count, 0.0) != bytes.fromhex(data)


@pytest.mark.parametrize("model", MODEL)
def test_a_meter_tells_its_model(model: str) -> None:
    function, address, count, data = MODEL[model]
    assert ModbusMeter(model, FACE).read(function, address, count, 0.0) == bytes.fromhex(data)


@pytest.mark.parametrize("model", ["siemens_pac2200", "siemens_pac3200"])
def test_a_block_that_is_whole_comes_only_in_one_piece(model: str) -> None:
    meter = ModbusMeter(model, FACE)
    block = meter.read(3, 64001, 27, 0.0)
    assert isinstance(block, bytes)
    assert block[:2] == b"\0\x2a"
    assert block[22:38] == b"21000035        "
    assert meter.read(3, 64012, 8, 0.0) == 2


def test_the_register_that_is_also_a_high_word_tells_the_model_only_alone() -> None:
    meter = ModbusMeter("carlo_gavazzi_em340", FACE)
    assert meter.read(4, 0x0B, 1, 0.0) == b"\x01\x55"
    together = meter.read(4, 0x0A, 4, 0.0)
    assert isinstance(together, bytes)
    assert together[2:4] != b"\x01\x55"


@pytest.mark.parametrize("model", models())
def test_a_meter_without_identity_refuses_the_registers(model: str) -> None:
    meter = ModbusMeter(model, FACE, tells_identity=False)
    asked = [table[model] for table in (TOLD, MODEL) if model in table]
    for function, address, count, data in asked:
        assert meter.read(function, address, count, 0.0) != bytes.fromhex(data)
    assert meter.read(3, 64001, 27, 0.0) in (1, 2, 3)


def test_a_serial_number_with_letters_is_zero_in_a_number_register() -> None:
    meter = ModbusMeter("eastron_sdm630", Steady(serial="M3"))
    assert meter.read(3, 64512, 2, 0.0) == bytes(4)

"""What a later program writes: kept sealed, alarmed, nobody asked again, opened after an update."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from loader_bench import MIDNIGHT, ROSTER, Bench, interval, unopened

from central.cli import main
from central.readings.lake import VALUE_COLUMNS
from central.readings.ledger import LoaderLedger, LoaderProgress
from wire import block, suites
from wire.block import BlockRow, encode_block
from wire.channels import FLAGS, IMPORT_WH, SCHEMAS, Schema

LATER = Schema(30_000, "of a later program", (IMPORT_WH, FLAGS))
ROWS: list[BlockRow] = [(MIDNIGHT, 0, [7_000, 0])]
SEALED = "loadscape_loader_sealed_batches"


def later_schema(bench: Bench) -> bytes:
    data = encode_block(LATER, ROSTER, ROWS, with_roster=True)
    return bench.device.seal_next(data, schema_id=LATER.id)


def later_suite(bench: Bench) -> bytes:
    """Sealed under a number that no suite has yet, by the means of suite 1."""
    keyset = bench.device.keyset
    (key,) = keyset.epoch_keys
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(suites.SUITES, 9, suites.SUITES[suites.X25519])
        bench.device.keyset = replace(keyset, epoch_keys=(replace(key, suite=9),))
        sealed = bench.device.cut(ROSTER, interval(7))
    bench.device.keyset = keyset
    return sealed


MAKERS: dict[str, Callable[[Bench], bytes]] = {
    "a schema": later_schema,
    "a suite": later_suite,
    "a block version": lambda bench: bench.device.seal_next(b"\x02" + bytes(60)),
    "a content": lambda bench: bench.device.seal_next(b"?", content=77),
    "a version of events": lambda bench: bench.device.seal_next(b"\x82\x02\x80", content=3),
    "a version of the log": lambda bench: bench.device.seal_next(b"\x81\x02", content=4),
}


@pytest.mark.parametrize("what", MAKERS)
def test_what_is_not_known_yet_is_kept_and_alarmed_and_not_asked_for_again(
    bench: Bench, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, what: str
) -> None:
    bench.store(MAKERS[what](bench))
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    assert len(bench.rows()) == 3
    assert unopened(bench, "unknown") == 1
    assert bench.metrics.value(SEALED, reason="unknown") == 1
    assert "opened after an update" in caplog.text
    progress = LoaderProgress(bench.config.loader_file)
    assert progress.unopened_after(0) == []
    assert progress.loaded_upto() == 2
    assert main(["status", "--config", str(bench.config.source), "--json"]) == 0
    state = json.loads(capsys.readouterr().out)
    assert (state["unopened"], state["unopened_unknown"]) == (1, 1)
    assert main(["status", "--config", str(bench.config.source)]) == 0
    assert "ALARM: 1 batches" in capsys.readouterr().out


def test_after_an_update_the_loader_opens_what_it_knows_now(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.store(later_schema(bench))
    bench.store(bench.device.seal_next(b"?", content=77))
    bench.loader.step()
    bench.loader.close()
    again = bench.new_loader()
    assert again.try_sealed_again() == 0
    again.close()
    monkeypatch.setitem(block.SCHEMAS, LATER.id, LATER)
    updated = bench.new_loader()
    assert updated.try_sealed_again() == 1
    (row,) = bench.rows()
    assert (row["meter"], bench.metrics.value(SEALED, reason="unknown")) == ("m0", 1)
    assert updated.try_sealed_again() == 0
    assert LoaderProgress(bench.config.loader_file).waiting_by_reason() == {"unknown": 1}


def test_the_epoch_keys_that_a_later_program_will_need_are_told(bench: Bench) -> None:
    kid = bench.device.keyset.epoch_keys[-1].kid
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    ledger = LoaderLedger(bench.config.loader_file)
    assert ledger.epochs_waited_for() == set()
    bench.store(later_schema(bench))
    bench.loader.step()
    assert ledger.epochs_waited_for() == {kid}
    ledger.close()


def test_a_roster_that_comes_late_opens_what_waited_for_it(bench: Bench) -> None:
    bench.store(bench.device.cut(ROSTER, interval(1), with_roster=False))
    bench.store(bench.device.cut(ROSTER, interval(0)))
    bench.loader.step()
    assert (unopened(bench), len(bench.rows())) == (1, 3)
    assert bench.loader.try_sealed_again() == 1
    assert len(bench.rows()) == 6
    assert LoaderProgress(bench.config.loader_file).waiting_by_reason() == {}


def test_the_lake_has_a_column_for_every_channel_of_every_schema() -> None:
    channels = {channel.name for schema in SCHEMAS.values() for channel in schema.channels}
    assert channels <= {*VALUE_COLUMNS, "flags"}

"""Topics carry the device's name and its shard, and refuse what could mean something else."""

import hashlib

import pytest

from wire.topics import TopicError, common_name, device_of, down, shard, state, up


def test_the_common_name_joins_tenant_and_device() -> None:
    assert common_name("demo", "t07") == "demo-t07"


@pytest.mark.parametrize("bad", ["", "a/b", "a.b", "a-b", "#", "+", "A", "_a", "a_", "x" * 33])
def test_names_that_mean_something_in_a_topic_are_refused(bad: str) -> None:
    with pytest.raises(TopicError):
        common_name("demo", bad)
    with pytest.raises(TopicError):
        common_name(bad, "t07")


def test_the_shard_is_the_first_byte_of_sha256_in_hex() -> None:
    assert shard("demo-t07") == hashlib.sha256(b"demo-t07").hexdigest()[:2]
    assert up("demo-t07") == f"loadscape/1/up/{shard('demo-t07')}/demo-t07"
    assert down("demo-t07") == "loadscape/1/down/demo-t07"


def test_the_device_is_read_from_up_and_state_topics() -> None:
    assert device_of(up("demo-t07")) == "demo-t07"
    assert device_of(state("demo-t07")) == "demo-t07"


@pytest.mark.parametrize(
    "topic",
    [
        "loadscape/1/up/00/demo-t07",
        "loadscape/2/up/93/demo-t07",
        "loadscape/1/up/demo-t07",
        "loadscape/1/down/demo-t07",
        "elsewhere",
    ],
)
def test_a_wrong_shard_or_shape_is_refused(topic: str) -> None:
    with pytest.raises(TopicError):
        device_of(topic)

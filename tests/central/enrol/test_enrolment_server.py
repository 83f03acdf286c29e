"""The enrolment server: a token is good once, a certificate for the next, and a copy is noticed."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from enrol_bench import DAY_S, Centre, Keys, centre_at, fetch_authority

from agent.enrol.est import EnrolmentFailed, Est, Refused
from central.collect.gate import Gate
from central.enrol.ledger import EnrolmentLedger
from central.enrol.registrar import AGAIN_S, Registrar
from central.enrol.server import ANSWERS
from central.keys.certificates import revoked_serials
from central.keys.device import issue_device, revoke_device
from central.keys.place import read_devices
from wire import est
from wire.envelope import DeviceSigner
from wire.keyset import verify_keyset

HOUR_S = 3600


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    with centre_at(tmp_path / "keys") as made:
        yield made


# --- what anyone may have


def test_the_authority_fits_the_tokens_fingerprint_and_no_other(centre: Centre) -> None:
    token = centre.token()
    authority = fetch_authority(token.server, token.authority)
    assert authority.public_bytes(Encoding.PEM) == centre.place.authority_certificate.read_bytes()
    with pytest.raises(EnrolmentFailed, match="somebody stands between"):
        fetch_authority(token.server, os.urandom(16))


def test_the_companion_holds_root_keyset_and_broker(centre: Centre) -> None:
    companion = centre.client().companion()
    assert est.fingerprint(companion.root_public) == centre.token().root
    verify_keyset(companion.keyset, companion.root_public, tenant="demo", lowest_version=0)
    assert (companion.broker_host, companion.broker_port) == ("broker.example", 8883)


# --- the token


def test_a_token_brings_a_certificate_of_30_days_for_the_devices_own_keys(centre: Centre) -> None:
    keys, certificate = centre.enrolled()
    assert certificate.public_key() == keys.tls.public_key()
    lasts = certificate.not_valid_after_utc.timestamp() - centre.clock.utc_s
    assert 30 * DAY_S - 2 <= lasts <= 30 * DAY_S + 2
    device = centre.device()
    assert (device.kid, device.public, device.active) == (keys.sign.kid, keys.sign.public, True)
    assert device.certificate_serial == certificate.serial_number
    assert device.renewed == ()


def test_the_same_request_gets_the_same_answer_for_an_hour(centre: Centre) -> None:
    token, keys = centre.token(), Keys.make()
    first = centre.client().enroll(keys.request, token.basic)
    centre.clock.utc_s += AGAIN_S - 1
    assert centre.client().enroll(keys.request, token.basic) == first
    centre.clock.utc_s += 2
    with pytest.raises(Refused, match=r"401 .*spent"):
        centre.client().enroll(keys.request, token.basic)


def test_a_spent_token_is_good_for_no_other_request(centre: Centre) -> None:
    token = centre.token()
    centre.client().enroll(Keys.make().request, token.basic)
    with pytest.raises(Refused, match=r"401 .*spent"):
        centre.client().enroll(Keys.make().request, token.basic)


@pytest.mark.parametrize("case", ["over", "cancelled", "another's", "guessed", "replaced"])
def test_a_token_that_is_not_good_brings_nothing(centre: Centre, case: str) -> None:
    token, name = centre.token(), "demo-t01"
    basic = token.basic
    if case == "over":
        centre.clock.utc_s += 24 * HOUR_S + 1
    elif case == "cancelled":
        with centre.ledger.transaction():
            assert centre.ledger.cancel_token("t01")
    elif case == "another's":
        name = "demo-t02"
    elif case == "guessed":
        wrong = est.Token(name, token.server, os.urandom(16), token.authority, token.root)
        basic = wrong.basic
    else:
        centre.token()
    with pytest.raises(Refused, match=r"40[13] "):
        centre.client().enroll(Keys.make(name).request, basic)
    assert read_devices(centre.place) == {}


def test_of_the_token_only_a_hash_is_kept(centre: Centre) -> None:
    token = centre.token()
    centre.client().enroll(Keys.make().request, token.basic)
    kept = b"".join(path.read_bytes() for path in centre.place.directory.rglob("ledger.db*"))
    assert b"t01" in kept
    assert token.secret not in kept
    assert token.secret.hex().encode() not in kept


def test_what_was_spent_before_a_cut_is_made_good_by_the_same_request(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, keys = centre.token(), Keys.make()
    with monkeypatch.context() as patched:
        patched.setattr(Registrar, "_register", lambda *_, **__: (_ for _ in ()).throw(OSError))
        with pytest.raises(EnrolmentFailed, match="503 "):
            centre.client().enroll(keys.request, token.basic)
    assert read_devices(centre.place) == {}
    certificate = centre.client().enroll(keys.request, token.basic)
    assert centre.device().certificate_serial == certificate.serial_number


def test_two_requests_with_one_token_at_once_bring_one_certificate(centre: Centre) -> None:
    token, brought = centre.token(), []

    def ask() -> None:
        try:
            brought.append(centre.client().enroll(Keys.make().request, token.basic))
        except Refused:
            brought.append(None)

    asking = [threading.Thread(target=ask) for _ in range(6)]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    assert sum(certificate is not None for certificate in brought) == 1


# --- renewal


def test_a_renewal_leaves_the_old_key_beside_the_new_one_until_the_next(centre: Centre) -> None:
    first = centre.enrolled()
    second = centre.renewed(first)
    kids = [key.kid for key in centre.device().under_each_key()]
    assert kids == [first[0].sign.kid, second[0].sign.kid]
    third = centre.renewed(second)
    kids = [key.kid for key in centre.device().under_each_key()]
    assert kids == [second[0].sign.kid, third[0].sign.kid]


def test_a_renewal_whose_answer_was_lost_gets_it_again(centre: Centre) -> None:
    first, keys = centre.enrolled(), Keys.make()
    answer = centre.client(first).reenroll(keys.request)
    assert centre.client(first).reenroll(keys.request) == answer
    assert centre.device().quarantined == ""


def test_a_second_renewal_under_one_certificate_is_a_clone_and_both_are_in_quarantine(
    centre: Centre, caplog: pytest.LogCaptureFixture
) -> None:
    first = centre.enrolled()
    second = centre.renewed(first)
    with pytest.raises(Refused, match=r"403 .*quarantine"):
        centre.renewed(first)
    assert "second renewal" in centre.device().quarantined
    assert "alarm (clone)" in caplog.text
    with pytest.raises(Refused, match=r"403 .*quarantine"):
        centre.renewed(second)
    centre.registrar.release("t01")
    assert centre.renewed(second)[1].serial_number in centre.device().serials


def test_a_second_request_after_a_cut_before_the_first_was_registered_is_a_clone(
    centre: Centre, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = centre.enrolled()
    with monkeypatch.context() as patched:
        patched.setattr(Registrar, "_register", lambda *_, **__: (_ for _ in ()).throw(OSError))
        with pytest.raises(EnrolmentFailed):
            centre.renewed(first)
    with pytest.raises(Refused, match=r"403 .*quarantine"):
        centre.renewed(first)


def test_of_two_renewals_at_once_under_one_certificate_one_is_a_clone(centre: Centre) -> None:
    first = centre.enrolled()
    clients = [centre.client(first) for _ in range(2)]
    refused = []

    def renew(client: Est) -> None:
        try:
            client.reenroll(Keys.make().request)
        except Refused as error:
            refused.append(error)

    renewing = [threading.Thread(target=renew, args=(client,)) for client in clients]
    for thread in renewing:
        thread.start()
    for thread in renewing:
        thread.join()
    assert len(refused) == 1
    assert centre.device().quarantined


def test_a_new_token_leaves_the_keys_in_use_until_the_newest_is_used(centre: Centre) -> None:
    first = centre.enrolled()
    second = centre.renewed(first)
    third = centre.enrolled()
    kids = [key.kid for key in centre.device().under_each_key()]
    assert kids == [keys.sign.kid for keys, _ in (first, second, third)]
    revoke_device(centre.place.directory, "t01")
    listed = revoked_serials(centre.place.revocation_list.read_bytes())
    assert {one.serial_number for _, one in (first, second, third)} <= set(listed)


def test_whoever_is_enrolled_anew_after_quarantine_leaves_no_certificate_of_before(
    centre: Centre,
) -> None:
    first = centre.enrolled()
    second = centre.renewed(first)
    third = centre.renewed(second)
    with pytest.raises(Refused):
        centre.renewed(second)
    again = centre.enrolled()
    listed = revoked_serials(centre.place.revocation_list.read_bytes())
    assert {one.serial_number for _, one in (first, second, third)} <= set(listed)
    assert again[1].serial_number not in listed


def test_a_new_token_ends_the_quarantine(centre: Centre) -> None:
    first = centre.enrolled()
    centre.renewed(first)
    with pytest.raises(Refused):
        centre.renewed(first)
    again, _ = centre.enrolled()
    assert centre.device().quarantined == ""
    assert [key.kid for key in centre.device().under_each_key()] == [again.sign.kid]


def test_two_devices_never_share_a_key(centre: Centre) -> None:
    first, _ = centre.enrolled("t01")
    for shared in (Keys.make("demo-t02", first.sign), Keys.make("demo-t01", first.sign)):
        token = centre.token(shared.name.removeprefix("demo-"))
        with pytest.raises(Refused, match=r"403 .*registered before"):
            centre.client().enroll(shared.request, token.basic)
    bundle = centre.place.directory.parent / "bundle"
    issue_device(centre.place.directory, "t03", bundle)
    theirs = DeviceSigner(bytes.fromhex((bundle / "sign.key").read_text()))
    with pytest.raises(Refused, match=r"403 "):
        centre.client().enroll(Keys.make("demo-t04", theirs).request, centre.token("t04").basic)


def test_a_revoked_device_gets_nothing_until_a_new_token(centre: Centre) -> None:
    first = centre.enrolled()
    revoke_device(centre.place.directory, "t01")
    with pytest.raises(Refused, match=r"403 .*revoked"):
        centre.renewed(first)
    centre.enrolled()
    assert centre.device().active


def test_a_device_renews_itself_only(centre: Centre) -> None:
    first = centre.enrolled("t01")
    centre.enrolled("t02")
    with pytest.raises(Refused, match=r"403 "):
        centre.client(first).reenroll(Keys.make("demo-t02").request)


def test_without_a_certificate_or_with_one_of_another_authority_nobody_renews(
    centre: Centre, tmp_path: Path
) -> None:
    with pytest.raises(Refused, match=r"401 "):
        centre.client().reenroll(Keys.make().request)
    with centre_at(tmp_path / "other") as other:
        theirs = other.enrolled()
        with pytest.raises(EnrolmentFailed):
            centre.client(theirs).reenroll(Keys.make().request)


# --- limits


def ask(centre: Centre, method: str, path: str, body: bytes = b"", **headers: str) -> int:
    context = ssl.create_default_context(cadata=centre.place.authority_certificate.read_text())
    host, port = centre.address.split(":")
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=9)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    connection.close()
    return answer.status


def test_what_is_no_request_is_refused_with_a_status_and_counted(centre: Centre) -> None:
    basic = centre.token().basic
    assert ask(centre, "GET", "/") == 404
    assert ask(centre, "POST", "/", b"x") == 404
    assert ask(centre, "POST", est.ENROLL, b"x", Authorization=basic) == 400
    assert ask(centre, "POST", est.ENROLL, b"eHg=", Authorization=basic) == 400
    assert ask(centre, "POST", est.ENROLL, b"eHg=") == 401
    assert ask(centre, "POST", est.ENROLL, b"eHg=", Authorization="Basic !!") == 401
    too_long = {"Content-Length": str(est.LARGEST_BODY + 1)}
    assert ask(centre, "POST", est.ENROLL, **too_long) == 413
    assert ask(centre, "POST", est.ENROLL, b"", **{"Content-Length": "many"}) == 411
    assert centre.metrics.value(ANSWERS, status="400") == 2
    assert centre.metrics.value(ANSWERS, status="401") == 2


def test_tls_1_2_is_not_spoken(centre: Centre) -> None:
    context = ssl.create_default_context(cadata=centre.place.authority_certificate.read_text())
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, port = centre.address.split(":")
    with socket.create_connection((host, int(port))) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname=host)


def test_clients_that_say_nothing_hold_nobody_up_and_are_bounded(centre: Centre) -> None:
    host, port = centre.address.split(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(40)]
    assert ask(centre, "GET", est.CACERTS) == 200
    silent += [socket.create_connection((host, int(port))) for _ in range(40)]
    # The last ones are let go at once, without a thread of their own.
    silent[-1].settimeout(9)
    assert silent[-1].recv(1) == b""
    for one in silent:
        one.close()


def test_the_ledger_outlives_a_restart(centre: Centre) -> None:
    token, keys = centre.token(), Keys.make()
    first = centre.client().enroll(keys.request, token.basic)
    again = EnrolmentLedger(centre.place.enrol_ledger)
    registrar = Registrar(centre.place, again, centre.clock.now_utc_s)
    answer = registrar.enroll("demo-t01", token.secret, est.to_body(keys.request))
    assert answer == first
    assert isinstance(answer, x509.Certificate)
    again.close()


# --- the collector


def test_a_device_in_quarantine_and_a_replaced_key_are_refused_at_the_gate(
    centre: Centre,
) -> None:
    first = centre.enrolled()
    second = centre.renewed(first)
    devices = read_devices(centre.place)
    old, new = first[0].sign.kid, second[0].sign.kid
    message = _batch(first[0].sign)
    topic = _topic("demo-t01")
    taken = Gate("demo", devices).check(topic, message)
    assert getattr(taken, "kid", None) == old
    refused = Gate("demo", devices, {old}).check(topic, message)
    assert getattr(refused, "reason", None) == "retired"
    assert Gate("demo", devices, {old}).check(topic, _batch(second[0].sign)).kid == new
    with pytest.raises(Refused):
        centre.renewed(first)
    refused = Gate("demo", read_devices(centre.place)).check(topic, message)
    assert getattr(refused, "reason", None) == "quarantined"


def _topic(name: str) -> str:
    from wire.topics import up

    return up(name)


def _batch(signer: DeviceSigner) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from wire.envelope import BLOCK, NO_PREV, BatchHeader, seal
    from wire.suites import X25519

    header = BatchHeader(
        alg=signer.alg,
        content=BLOCK,
        kid=signer.kid,
        tenant="demo",
        stream=bytes(8),
        boot=bytes(8),
        seq=1,
        prev=NO_PREV,
        epoch_kid=bytes(8),
        suite=X25519,
        schema_id=1,
    )
    public = X25519PrivateKey.generate().public_key().public_bytes_raw()
    return seal(header, b"rows", epoch_public=public, signer=signer)

"""Writes the configuration of a Mosquitto (2.0.11 and newer) for one tenant.

Everyone shows a client certificate; its common name is username and client
id. A device may write its own topics and read its own answers; the collector
reads all devices' and answers them. What the broker acknowledges is not
durable, and nothing here relies on it: receipts are.
"""

from __future__ import annotations

import getpass
from pathlib import Path

from central.durable import PUBLIC, write_file
from central.keys.place import KeyPlace, KeysError, collector_name, read_tenant

_CONF = """\
# Written by `loadscape-central broker-config`; written anew, not edited.
user {user}
per_listener_settings false
persistence true
persistence_location {persistence}/
autosave_interval 60
log_dest stderr
log_type error
log_type warning
log_type notice
connection_messages true

listener {port} {bind}
max_connections -1
cafile {authority}
crlfile {revoked}
certfile {certificate}
keyfile {key}
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {acl}

max_packet_size 262144
max_keepalive 3600
max_inflight_messages 20
max_queued_messages 100000
max_queued_bytes 268435456
persistent_client_expiration 7d
"""

_ACL = """\
# Written by `loadscape-central broker-config`; %u is the certificate's common name.
user {collector}
topic read loadscape/1/up/+/+
topic read loadscape/1/state/+
topic write loadscape/1/down/+

pattern write loadscape/1/up/+/%u
pattern write loadscape/1/state/%u
pattern read loadscape/1/down/%u
"""


def write_broker_config(
    keys: Path, port: int, out: Path, *, bind: str = "127.0.0.1", user: str | None = None
) -> Path:
    """Write `out`/mosquitto.conf and `out`/acl; returns the former.

    Certificates are named where they lie, so `keys` must stay there. `user`
    is whom a broker started by root becomes; by default the caller. Raises
    KeysError when the keys are not made yet.
    """
    place = KeyPlace(keys.absolute())
    out = out.absolute()
    named = (
        place.authority_certificate,
        place.revocation_list,
        place.broker_certificate,
        place.broker_key,
    )
    for path in (*named, out):
        if any(character in str(path) for character in "\r\n"):
            raise KeysError(f"{path!s}: a line break in a path; choose another directory")
    for path in named:
        if not path.exists():
            raise KeysError(f"{path}: not there; make it with loadscape-central keys init")
    persistence = out / "persistence"
    persistence.mkdir(parents=True, exist_ok=True, mode=0o700)
    acl = out / "acl"
    # Mosquitto 2 warns about an access list that others can read.
    write_file(acl, _ACL.format(collector=collector_name(read_tenant(place))).encode())
    conf = out / "mosquitto.conf"
    write_file(
        conf,
        _CONF.format(
            user=user or getpass.getuser(),
            persistence=persistence,
            port=port,
            bind=bind,
            authority=place.authority_certificate,
            revoked=place.revocation_list,
            certificate=place.broker_certificate,
            key=place.broker_key,
            acl=acl,
        ).encode(),
        PUBLIC,
    )
    return conf

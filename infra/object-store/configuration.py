"""Swift's configuration: rings of one device that hold every object once, and one file a server."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from swift.common.ring import RingBuilder

ADDRESSES = {  # loopback addresses, one a server, so that one port is enough
    "proxy": "127.0.0.1",
    "account": "127.0.0.2",
    "container": "127.0.0.3",
    "object": "127.0.0.4",
}
FILTERS = {
    "proxy": "catch_errors gatekeeper healthcheck one_winner listing_formats bulk "
    "s3api tempauth copy slo dlo versioned_writes symlink",
    "account": "healthcheck",
    "container": "healthcheck",
    "object": "healthcheck",
}
SWIFT = """
[swift-hash]
swift_hash_path_prefix = sep-batch
swift_hash_path_suffix = sep-batch
[storage-policy:0]
name = one
default = yes
"""
# There is one disk, no server to fail over to, and no process that mends a listing later: every server waits for the others.
SERVER = """
[DEFAULT]
bind_ip = {address}
bind_port = {port}
swift_dir = {folder}/etc
devices = {folder}/disks
mount_check = false
disable_fallocate = true
workers = 0
user = {user}
log_level = ERROR
conn_timeout = 10
node_timeout = 60
container_update_timeout = 60
error_suppression_limit = 1000000
[pipeline:main]
pipeline = {filters} {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
account_autocreate = true
"""
FILTER = """
[filter:{name}]
{options}
"""


def write(folder: Path, port: int, key: str, secret: str) -> None:
    """Write rings and configuration below FOLDER/etc, which only its owner may read.

    Args:
        folder: Folder of Swift's objects and configuration.
        port: Port of all servers.
        key: Access key, as ACCOUNT:USER.
        secret: Secret that signs the key's requests.
    """
    (folder / "disks" / "one").mkdir(parents=True, exist_ok=True)
    (folder / "etc").mkdir(mode=0o700, exist_ok=True)
    swift_conf(folder).write_text(SWIFT)
    options = {
        "one_winner": "paste.filter_factory = one_winner:filter_factory",
        "s3api": "use = egg:swift#s3api\nlocation = us-east-1",
        "tempauth": f"use = egg:swift#tempauth\nuser_{key.replace(':', '_')} = {secret} .admin",
    }
    user = pwd.getpwuid(os.getuid()).pw_name
    for kind, filters in FILTERS.items():
        conf = SERVER.format(kind=kind, address=ADDRESSES[kind], port=port, folder=folder, filters=filters, user=user)
        for name in filters.split():
            conf += FILTER.format(name=name, options=options.get(name, f"use = egg:swift#{name}"))
        server_conf(folder, kind).write_text(conf)
    for kind in ("account", "container", "object"):
        _write_ring(folder / "etc" / f"{kind}.ring.gz", ADDRESSES[kind], port)


def swift_conf(folder: Path) -> Path:
    """Return the path of the file that all servers read."""
    return folder / "etc" / "swift.conf"


def server_conf(folder: Path, kind: str) -> Path:
    """Return the path of a server's own file."""
    return folder / "etc" / f"{kind}-server.conf"


def _write_ring(path: Path, address: str, port: int) -> None:
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    address_fields = {"ip": address, "port": port, "replication_ip": address, "replication_port": port}
    builder.add_dev({"id": 0, "region": 1, "zone": 1, "weight": 1.0, "device": "one", **address_fields})
    builder.rebalance()
    builder.get_ring().save(str(path))

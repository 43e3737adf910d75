"""nginx (on OpenSSL): one process, one ``server`` block and Unix socket for each site."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.leaves import Leaves
from tests.interop.process import Running, running
from tests.interop.server import Server, sockets
from tests.interop.site import OPENSSL_GROUPS, TARGET, Site, body

_TRAITS = {
    "": "",
    "long": "",
    "tls12": "ssl_protocols TLSv1.2;",
    "client-certificate": "ssl_verify_client optional_no_ca;",
    "padding": "ssl_conf_command RecordPadding 512;",
    "small-records": "ssl_buffer_size 64;",
    "rsa-sha384": "ssl_conf_command SignatureAlgorithms rsa_pss_rsae_sha384;",
    "rsa-sha512": "ssl_conf_command SignatureAlgorithms rsa_pss_rsae_sha512;",
    "gzip": "gzip_static always;",
    "stapling": "ssl_stapling on;",
    "weak-key": "ssl_ciphers DEFAULT:@SECLEVEL=0;",
}


@contextmanager
def nginx(sites: Sequence[Site], leaves: Leaves, folder: Path) -> Iterator[Server]:
    """Runs nginx in ``folder``."""
    places = sockets(sites, folder)
    for trait in ("", "long"):
        page = folder / f"page{trait}"
        page.write_bytes(body(trait))
        page.with_name(page.name + ".gz").write_bytes(gzip.compress(body(trait)))
    blocks = [_block(site, places[site], leaves, folder) for site in sites]
    configuration = folder / "nginx.conf"
    configuration.write_text(
        "daemon off; master_process off; worker_rlimit_nofile 1024;\n"
        f"pid {folder}/nginx.pid; error_log stderr;\n"
        "events { worker_connections 512; }\n"
        "http {\naccess_log off; default_type application/json;\n"
        + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in _TEMPORARY)
        + "\n".join(blocks)
        + "\n}\n"
    )
    command = ("nginx", "-e", "stderr", "-p", folder, "-c", configuration)
    process = Running(command, folder=folder, name="nginx")
    with running(process, list(places.values())):
        yield Server(name="nginx", address=places.__getitem__)


_TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


def _block(site: Site, place: str, leaves: Leaves, folder: Path) -> str:
    leaf = leaves.leaf(site.leaf)
    page = folder / ("pagelong" if site.trait == "long" else "page")
    lines = [
        f"listen unix:{place} ssl;",
        f"ssl_certificate {leaf.chain}; ssl_certificate_key {leaf.key};",
        _TRAITS[site.trait],
    ]
    if site.trait == "stapling":
        lines.append(f"ssl_stapling_file {leaves.staple(site.leaf)};")
    if site.trait != "tls12":
        lines.append("ssl_protocols TLSv1.3;")
    if site.group:
        lines.append(f"ssl_ecdh_curve {OPENSSL_GROUPS[site.group]};")
    if site.suite:
        lines.append(f"ssl_conf_command Ciphersuites {site.suite};")
    path = TARGET.partition("?")[0]
    lines.append(f"location = {path} {{ alias {page}; }}")
    return "server {\n" + "\n".join(lines) + "\n}"

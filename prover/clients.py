"""How a client of each form is told to go through the sidecar: commands that run as they stand."""

from __future__ import annotations

import dataclasses
import json
import shlex
from urllib.parse import urlsplit

from prover.fetch import FetchPlan


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a client has to go: the sidecar's address, the key log, the venue's roots.

    ``roots`` is a PEM file, None where the client's own roots know the venue.
    """

    proxy: str
    keylog: str
    roots: str | None


def client_text(plan: FetchPlan, place: Place) -> str:
    """Returns the shell command of the form ``curl``, the Python of the other two."""
    if plan.spec.form == "curl":
        return _curl(plan, place)
    return _httpx(plan, place) if plan.spec.form == "httpx" else _standard_library(plan, place)


def url(plan: FetchPlan) -> str:
    """The URL that the plan's request is for."""
    spec = plan.spec
    return f"https://{spec.host}{'' if spec.port == 443 else f':{spec.port}'}{spec.target}"


def _curl(plan: FetchPlan, place: Place) -> str:
    own = ["Accept-Encoding", "Connection"]
    words = ["curl", "--proxy", place.proxy, "--http1.1", "--no-sessionid", "--tlsv1.3"]
    words += [] if place.roots is None else ["--cacert", place.roots]
    words += ["-A", "quotary"]
    for name, value in _headers(plan):
        words += ["-H", f"{name}: {value}"] if name in own else []
    return f"SSLKEYLOGFILE={shlex.quote(place.keylog)} {shlex.join([*words, url(plan)])}"


def _httpx(plan: FetchPlan, place: Place) -> str:
    headers = {name: value for name, value in _headers(plan) if name not in ("Host", "Accept")}
    return (
        "import ssl, httpx\n"
        f"context = ssl.create_default_context({_cafile(place)})\n"
        f"context.keylog_filename = {_quoted(place.keylog)}\n"
        f"with httpx.Client(proxy={_quoted(place.proxy)}, verify=context, "
        f"headers={_dictionary(headers)}) as client:\n"
        f"    print(client.get({_quoted(url(plan))}).text)"
    )


def _standard_library(plan: FetchPlan, place: Place) -> str:
    proxy, spec = urlsplit(place.proxy), plan.spec
    return (
        "import http.client, ssl\n"
        f"context = ssl.create_default_context({_cafile(place)})\n"
        f"context.keylog_filename = {_quoted(place.keylog)}\n"
        f"venue = http.client.HTTPSConnection({_quoted(proxy.hostname or '')}, {proxy.port}, "
        "context=context)\n"
        f"venue.set_tunnel({_quoted(spec.host)}, {spec.port})\n"
        f'venue.putrequest("{plan.request.method}", {_quoted(plan.request.target)}, '
        "skip_host=True, skip_accept_encoding=True)\n"
        f"for name, value in {_dictionary(dict(_headers(plan)))}.items():\n"
        "    venue.putheader(name, value)\n"
        "venue.endheaders()\n"
        "print(venue.getresponse().read().decode())"
    )


def _headers(plan: FetchPlan) -> list[tuple[str, str]]:
    """The header lines of the request with their names as they are written."""
    head = plan.plaintext.decode("ascii").split("\r\n\r\n", 1)[0]
    return [(line.split(": ", 1)[0], line.split(": ", 1)[1]) for line in head.split("\r\n")[1:]]


def _cafile(place: Place) -> str:
    return "" if place.roots is None else f"cafile={_quoted(place.roots)}"


def _quoted(text: str) -> str:
    """A JSON string is a Python string too."""
    return json.dumps(text)


def _dictionary(items: dict[str, str]) -> str:
    return json.dumps(items)

"""``verifier verify``, ``inspect`` and ``recheck``: one document in, one answer out."""

from __future__ import annotations

from typing import Annotated

import typer

from attestation.errors import UsageError
from attestation.expect import Expect
from attestation.trust import Trust
from attestation.verdict import Accepted
from verifier.cli.boundary import CONFIGURATION_LIMIT, answer, boundary, now, read, read_trust, say
from verifier.cli.verdicts import say_verdict
from verifier.text import safe, utc

TrustOption = Annotated[
    str, typer.Option("--trust", metavar="FILE", help="Trust file: the keys you believe.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the answer as JSON to stdout.")]
NowOption = Annotated[
    int | None,
    typer.Option(
        "--now-us",
        metavar="MICROSECONDS",
        help="What time it is, since the Unix epoch, instead of this machine's clock.",
    ),
]


def verify_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Presentation, - for stdin. Several: one quote, witnessed by several notaries.",
        ),
    ],
    trust: TrustOption,
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="FILE", help="Expect file: what you demand of it."),
    ] = None,
    insecure_no_expect: Annotated[
        bool,
        typer.Option(
            "--insecure-no-expect",
            help="Compare with nothing: says authentic, which is less than accepted.",
        ),
    ] = False,
    before: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The slot before: is it the first at or after --at-us, on the feed's --grid-us?",
        ),
    ] = None,
    at_us: Annotated[
        int | None, typer.Option("--at-us", metavar="MICROSECONDS", help="With --before.")
    ] = None,
    grid_us: Annotated[
        int | None, typer.Option("--grid-us", metavar="MICROSECONDS", help="With --before.", min=1)
    ] = None,
    now_us: NowOption = None,
    as_json: JsonOption = False,
) -> None:
    """Decide whether presentations are what you expect."""
    with boundary(as_json=as_json):
        together = (before is None) + (at_us is None) + (grid_us is None)
        if together % 3 or (before is not None and (len(files) != 1 or expect is None)):
            raise UsageError(
                "--before, --at-us and --grid-us go together, with one slot and --expect",
                rule="before",
            )
        if (expect is None) != insecure_no_expect:
            raise UsageError(
                "say what you expect: --expect FILE, or --insecure-no-expect alone", rule="expect"
            )
        if sum(name == "-" for name in (*files, trust, expect, before)) > 1:
            raise UsageError("stdin can be one file only")
        believed = read_trust(trust)
        moment = now() if now_us is None else now_us
        wanted = None
        if expect is not None:
            wanted = Expect.parse(read(expect, limit=CONFIGURATION_LIMIT))
        if before is not None and at_us is not None and grid_us is not None and wanted:
            instants = (at_us, grid_us)
            verdict = _first(read(files[0]), read(before), believed, wanted, moment, instants)
        else:
            verdict = _verdict([read(name) for name in files], believed, wanted, moment)
        if as_json:
            answer(verdict.encode())
        say_verdict(verdict)
        if at_us is not None:
            say(f"  the first slot at or after {utc(at_us)}")


def _verdict(
    presentations: list[bytes], trust: Trust, expect: Expect | None, now_us: int
) -> Accepted:
    # Loaded here, so that `inspect` and `trust` start without the venue files.
    from verifier.decide import authentic, decide
    from verifier.insecure import insecure_verify_authentic

    if expect is not None:
        return decide(list(presentations), trust=trust, expect=expect, now_us=now_us)
    if len(presentations) != 1:
        raise UsageError("without an expectation, one presentation at a time")
    return authentic(insecure_verify_authentic(presentations[0], trust=trust, now_us=now_us))


def _first(
    slot: bytes, before: bytes, trust: Trust, expect: Expect, now_us: int, instants: tuple[int, int]
) -> Accepted:
    from verifier.decide import decide_first

    at_us, grid_us = instants
    return decide_first(
        slot, before, at_us=at_us, grid_us=grid_us, trust=trust, expect=expect, now_us=now_us
    )


def inspect_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Any document, - for stdin.")],
    as_json: JsonOption = False,
) -> None:
    """Print a document for people, to standard error. Nothing it says is checked.

    To page through it: verifier inspect FILE 2>&1 | less.
    """
    with boundary(as_json=as_json):
        from verifier.show import INSPECT_LIMIT, describe, read_document

        data = read(file, limit=INSPECT_LIMIT)
        document = read_document(data)
        if as_json:
            # The bytes are canonical, and so is the wrapping.
            answer(b'{"document":' + data.removesuffix(b"\n") + b',"verified":false}')
        say("UNVERIFIED: these are claims, nothing here has been checked")
        say(describe(document))


def recheck_command(
    file: Annotated[str, typer.Argument(metavar="EVIDENCE", help="Evidence file, - for stdin.")],
    trust: TrustOption,
    roots: Annotated[
        str | None,
        typer.Option(
            "--roots", metavar="PEM", help="Root certificates; certifi's where it is installed."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Repeat a notary's work on raw TLS records and compare with what it signed."""
    with boundary(as_json=as_json):
        from attestation.secrets import EVIDENCE_LIMIT
        from attestation.tls13.certificates import RootStore
        from verifier.recheck import recheck

        believed = read_trust(trust)
        store = RootStore.from_pem(read(roots or _certifi(), limit=4 * CONFIGURATION_LIMIT))
        report = recheck(read(file, limit=EVIDENCE_LIMIT), roots=store, trust=believed)
        if as_json:
            answer(report.encode())
        say(f"SAME: attestation {report.attestation} follows from the evidence")
        say(
            f"  host {safe(report.host)}, signed by {safe(report.notary)} ({safe(report.operator)})"
        )
        say(f"  repeated: {', '.join(report.checked)}")
        say(f"  not checked: {', '.join(report.not_checked)}")


def _certifi() -> str:
    try:
        import certifi
    except ImportError:
        raise UsageError(
            "name the root certificates: --roots FILE (certifi is not installed)", rule="roots"
        ) from None
    return certifi.where()

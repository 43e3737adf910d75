"""Compares an authentic session with what the consumer expects."""

from __future__ import annotations

from functools import lru_cache

from attestation.address import is_public
from attestation.errors import (
    ExpectationError,
    InvalidProofError,
    MalformedError,
    StaleError,
)
from attestation.expect import Expect
from attestation.http_date import SECOND_US, http_date_us
from verifier.authenticate import AuthenticSession


def check_session(authentic: AuthenticSession, expect: Expect, now_us: int) -> None:
    """Raises ExpectationError or StaleError where the session is not as expected."""
    session, connection = authentic.session, authentic.connection
    check_server_name(authentic)
    among(session.mode, expect.accepted_modes, "modes", "witnessed in another mode")
    among(session.binding, expect.accepted_bindings, "bindings", "bound in another way")
    check_purpose(session.purpose, expect)
    if expect.hosts is not None:
        # Another port is another server: the certificate is for all of them.
        among(connection.place, expect.hosts, "hosts", "another host or port answered")
    check_peer(authentic, expect)
    check_interval(expect, now_us, connection.request_first_us, connection.response_last_us)
    check_date(authentic, expect)


def check_server_name(authentic: AuthenticSession) -> None:
    """Raises InvalidProofError unless the certificate was checked for the host."""
    if authentic.server.name != authentic.connection.host:
        raise InvalidProofError(
            "the certificate was checked for another name",
            rule="server.name",
            found=authentic.server.name,
            wanted=authentic.connection.host,
        )


def check_purpose(purpose: str, expect: Expect) -> None:
    """Raises ExpectationError for another purpose than the expected one."""
    if expect.purpose is not None and purpose != expect.purpose:
        raise ExpectationError(
            "attested for another purpose",
            rule="expect.purpose",
            found=purpose,
            wanted=expect.purpose,
        )


def check_peer(authentic: AuthenticSession, expect: Expect) -> None:
    """Raises ExpectationError for other root certificates, and for a development address."""
    if expect.roots is not None and authentic.server.roots != expect.roots:
        raise ExpectationError(
            "the notary trusts other root certificates",
            rule="expect.roots",
            found=authentic.server.roots,
            wanted=expect.roots,
        )
    _check_address(authentic.connection.address, expect)


def check_interval(expect: Expect, now_us: int, first_us: int, last_us: int) -> None:
    """Raises StaleError unless the proven interval lies where it is expected."""
    if expect.not_before_us is not None and first_us < expect.not_before_us:
        raise StaleError(
            "proven too early",
            rule="expect.not_before_us",
            found=first_us,
            wanted=expect.not_before_us,
        )
    if expect.not_after_us is not None and last_us > expect.not_after_us:
        raise StaleError(
            "proven too late", rule="expect.not_after_us", found=last_us, wanted=expect.not_after_us
        )
    if expect.max_age_us is not None and now_us - first_us > expect.max_age_us:
        raise StaleError(
            "too old", rule="expect.max_age_us", found=now_us - first_us, wanted=expect.max_age_us
        )


def among(found: str, wanted: tuple[str, ...], member: str, detail: str) -> None:
    """Raises ExpectationError unless ``wanted``, a member of expect, has ``found``."""
    if found not in wanted:
        raise ExpectationError(detail, rule=f"expect.{member}", found=found, wanted=list(wanted))


def _check_address(address: str, expect: Expect) -> None:
    """A venue on a private address is a simulation, or a redirected name."""
    if not expect.insecure_allow_development and not _is_public(address):
        raise ExpectationError(
            "the notary connected to an address that is not public",
            rule="expect.insecure_allow_development",
            found=address,
        )


# A few exchanges have a few addresses, and a batch falls within a few seconds.
_is_public = lru_cache(maxsize=1024)(is_public)


def check_date(authentic: AuthenticSession, expect: Expect) -> None:
    """Raises StaleError where the exchange's own clock, whole seconds, and the notary's differ."""
    text = authentic.http.server_date
    if text is None:
        return
    try:
        date_us = http_date_us(text)
    except MalformedError as error:
        raise InvalidProofError(
            "Date is not an HTTP date", rule="http.server_date", found=error.found
        ) from None
    connection, skew = authentic.connection, expect.date_skew_us
    low = connection.request_first_us - skew - SECOND_US
    if not low <= date_us <= connection.response_last_us + skew:
        raise StaleError(
            "the exchange's Date and the notary's clock disagree",
            rule="expect.max_date_skew_us",
            found=date_us,
            wanted=[low, connection.response_last_us + skew],
        )

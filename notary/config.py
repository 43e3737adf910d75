"""The notary's configuration: ``notary.toml`` and the environment ``QUOTARY_NOTARY_*``.

    name = "notary-a.example"
    operator = "Example Ltd"
    listen = "127.0.0.1:7047"        # control API; port 0 = the system's choice
    relay = "127.0.0.1:7048"         # CONNECT listener
    proxy = "notary-a.example:7048"  # what provers are told, if not the relay's address
    data = "data"                    # store; relative to this file
    keys = ["data/attest.key"]       # from `notary keygen`, one of each algorithm
    retired = []                     # replaced by `notary rotate`: they sign nothing new

    [allow]
    venues = ["binance", "kraken"]   # default: every venue file
    hosts = ["api.example.com:443"]  # ad hoc hosts, purpose adhoc/... only
    unknown_provers = true           # provers that are not listed, with lower limits
    anonymous = false                # unsigned session requests, adhoc/... only
    extensions = ["quote/v1"]        # what provers may request

    [limits]                         # session, deadlines, prover, unknown_prover, ...
    deadlines = { response_us = 2000000 }

    [[provers]]
    name = "market data"
    vkey = "prover.example+..."

    [log]                            # transparency log, after `notary log create`
    key = "data/log.key"             # from `notary keygen --role log`
    files = "public"                 # also as plain files; default: over HTTP alone
    interval_us = 500000             # of checkpoints, at most one second
    witnesses = [{ vkey = "witness.example+...", url = "https://witness.example" }]

    [development]                    # accepted with `notary serve --development` alone
    connect_to = [{ host = "api.binance.com", port = 443, to = "127.0.0.1:8443" }]
    roots = ["venues-ca.pem"]

An environment variable overrides the file; ``__`` separates nested members, as
in ``QUOTARY_NOTARY_ALLOW__ANONYMOUS=true``.
"""

from __future__ import annotations

import contextvars
import dataclasses
import ipaddress
import math
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyAddress,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from attestation.errors import MalformedError, QuotaryError, UsageError
from attestation.keys import VerifyingKey
from attestation.keys import check_name as check_key_name
from attestation.log.cosignature import WitnessKey
from attestation.tls13.hello import host_bytes
from notary.extensions import VALIDATORS
from notary.limits import Deadlines, ProverLimits, SessionLimits

DEFAULT_LISTEN = "127.0.0.1:7047"
DEFAULT_RELAY = "127.0.0.1:7048"
PREFIX = "QUOTARY_NOTARY_"
"""Of what the environment says."""


def split_address(text: str) -> tuple[str, int]:
    """Splits ``host:port`` or ``[v6]:port``; raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise UsageError("not host:port", found=text[:80])
    return host.removeprefix("[").removesuffix("]"), int(port)


def join_address(host: str, port: int) -> str:
    """The inverse of ``split_address``."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _address(text: str) -> str:
    try:
        split_address(text)
    except UsageError as error:
        raise ValueError(error.detail) from None
    return text


def _host_port(text: str) -> str:
    _address(text)
    _host(split_address(text)[0])
    return text


def _host(text: str) -> str:
    try:
        host_bytes(text)
    except QuotaryError as error:
        raise ValueError(error.detail) from None
    return text


def _numeric(text: str) -> str:
    _address(text)
    ipaddress.ip_address(split_address(text)[0])
    return text


def _key_name(text: str) -> str:
    try:
        check_key_name(text)
    except MalformedError as error:
        raise ValueError(error.detail) from None
    return text


def _vkey(text: str) -> str:
    try:
        VerifyingKey.parse(text)
    except QuotaryError as error:
        raise ValueError(error.detail) from None
    return text


def _witness_vkey(text: str) -> str:
    try:
        WitnessKey.parse(text)
    except QuotaryError as error:
        raise ValueError(error.detail) from None
    return text


def _extension(text: str) -> str:
    if text not in VALIDATORS:
        raise ValueError(f"no such extension: {text}")
    return text


Address = Annotated[str, AfterValidator(_address)]
_UnknownLimits = ProverLimits(
    sessions=8,
    rate=2.0,
    burst=10.0,
    bytes_rate=256 * 1024,
    bytes_burst=8 * 1024 * 1024,
    seconds_rate=2.0,
    seconds_burst=120.0,
)


_AddressLimits = ProverLimits(
    sessions=64,
    rate=8.0,
    burst=64.0,
    bytes_rate=1024 * 1024,
    bytes_burst=32 * 1024 * 1024,
    seconds_rate=8.0,
    seconds_burst=480.0,
)
_StrangersLimits = ProverLimits(
    sessions=4_000,
    rate=200.0,
    burst=1_000.0,
    bytes_rate=32 * 1024 * 1024,
    bytes_burst=256 * 1024 * 1024,
    seconds_rate=512.0,
    seconds_burst=60_000.0,
)
_METERS = ("session", "deadlines", "prover", "unknown_prover", "unknown_address", "unknown_all")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Allow(_Section):
    """Where sessions may go, and whose."""

    venues: tuple[str, ...] | None = None
    hosts: tuple[Annotated[str, AfterValidator(_host_port)], ...] = ()
    unknown_provers: bool = True
    anonymous: bool = False
    extensions: tuple[Annotated[str, AfterValidator(_extension)], ...] = ("quote/v1",)


class LimitSettings(_Section):
    """Limits of sessions and provers; members as in ``notary.limits``."""

    session: SessionLimits = SessionLimits()
    deadlines: Deadlines = Deadlines()
    prover: ProverLimits = ProverLimits()
    unknown_prover: ProverLimits = _UnknownLimits
    unknown_address: ProverLimits = _AddressLimits
    """All unknown provers of one address together."""
    unknown_all: ProverLimits = _StrangersLimits
    """All unknown provers together."""
    connections: int = Field(default=1_024, gt=1)
    """Relay connections at a time, those without a session included."""
    control_connections: int = Field(default=1_024, gt=1)
    """Connections to the control API at a time."""
    address_connections: int = Field(default=256, gt=0)
    """Connections of one address at a time, to each listener."""
    shared_addresses: tuple[IPvAnyAddress, ...] = ()
    """Addresses that many come from, such as a proxy's: not limited for themselves."""

    @field_validator(*_METERS, mode="before")
    @classmethod
    def _fill(cls, value: Any, info: ValidationInfo) -> Any:
        """Fills what is not told from this section's defaults.

        Those of `unknown_prover` are lower than those of its type.
        """
        if isinstance(value, dict):
            defaults = cls.model_fields[str(info.field_name)].default
            known = {field.name for field in dataclasses.fields(defaults)}
            if unknown := sorted(map(str, value.keys() - known)):
                raise ValueError(f"no such member: {', '.join(unknown)}")
            return {**dataclasses.asdict(defaults), **value}
        return value

    @field_validator(*_METERS)
    @classmethod
    def _above_zero(cls, value: Any) -> Any:
        for name, number in dataclasses.asdict(value).items():
            if not 0 < number < math.inf:
                raise ValueError(f"{name} is not above 0 and finite")
        return value


class ProverSettings(_Section):
    """A prover that the operator knows."""

    name: str
    vkey: Annotated[str, AfterValidator(_vkey)]


class ConnectTo(_Section):
    """Sends a host's connections to a simulated venue."""

    host: Annotated[str, AfterValidator(_host)]
    port: int = Field(ge=1, le=65_535)
    to: Annotated[str, AfterValidator(_numeric)]


class LogWitness(_Section):
    """A witness that is asked to cosign checkpoints; ``vkey`` is of type 0x04."""

    vkey: Annotated[str, AfterValidator(_witness_vkey)]
    url: str = Field(pattern=r"https?://[!-~]+")


class LogSettings(_Section):
    """The transparency log, made by ``notary log create``."""

    key: Path | None = None
    files: Path | None = None
    interval_us: int = Field(default=500_000, ge=10_000, le=1_000_000)
    witnesses: tuple[LogWitness, ...] = ()


class Development(_Section):
    """What must never stand in the configuration of a public notary."""

    connect_to: tuple[ConnectTo, ...] = ()
    roots: tuple[Path, ...] = ()


class Config(BaseSettings):
    """See the module's docstring.  Relative paths are relative to the file."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    name: Annotated[str, AfterValidator(_key_name)]
    operator: str = Field(min_length=1, max_length=256)
    listen: Address = DEFAULT_LISTEN
    relay: Address = DEFAULT_RELAY
    proxy: Address | None = None
    data: Path = Path("data")
    keys: tuple[Path, ...] | None = None
    retired: tuple[Path, ...] = ()
    allow: Allow = Allow()
    limits: LimitSettings = LimitSettings()
    provers: tuple[ProverSettings, ...] = ()
    development: Development | None = None
    log: LogSettings | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file; nothing else is read."""
        file = TomlConfigSettingsSource(settings_cls, toml_file=_FILE.get())
        return (init_settings, env_settings, file)

    @property
    def key_files(self) -> tuple[Path, ...]:
        """The key files; by default ``attest.key`` in ``data``."""
        return self.keys if self.keys is not None else (self.data / "attest.key",)


_MESSAGES = {"extra_forbidden": "no such member", "missing": "is required"}
_FILE: contextvars.ContextVar[Path | None] = contextvars.ContextVar("config_file", default=None)


def load_config(file: Path, *, development: bool, **overrides: Any) -> Config:
    """Reads a configuration; raises UsageError for anything wrong with it.

    A ``development`` section without ``development=True`` is refused, so that a
    simulated venue can never be attested by mistake.
    """
    if not file.is_file():
        raise UsageError("no such configuration file", rule="config", found=str(file))
    for name in sorted(os.environ):
        member = name.upper().removeprefix(PREFIX).lower().partition("__")[0]
        if name.upper().startswith(PREFIX) and member not in Config.model_fields:
            raise UsageError(f"{name}: no such member", rule="environment")
    token = _FILE.set(file)
    try:
        config = Config(**overrides)
    except ValidationError as error:
        # A name that is not known explains one that is missing.
        found = error.errors(include_url=False, include_input=False)
        first = min(found, key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"])
        message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise UsageError(f"{where}: {message}", rule="config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not TOML: {error}", rule="config") from None
    except OSError as error:
        raise UsageError(
            f"cannot read it: {error.strerror}", rule="config", found=str(file)
        ) from None
    finally:
        _FILE.reset(token)
    if config.development is not None and not development:
        raise UsageError(
            "[development] is accepted with `notary serve --development` alone",
            rule="config.development",
        )
    return _resolve_paths(config, file.parent.resolve())


def _resolve_paths(config: Config, folder: Path) -> Config:
    changes: dict[str, Any] = {
        "data": folder / config.data,
        "retired": tuple(folder / key for key in config.retired),
    }
    if config.keys is not None:
        changes["keys"] = tuple(folder / key for key in config.keys)
    if config.log is not None:
        key, files = config.log.key, config.log.files
        changes["log"] = config.log.model_copy(
            update={
                "key": folder / config.data / "log.key" if key is None else folder / key,
                "files": None if files is None else folder / files,
            }
        )
    if config.development is not None:
        roots = tuple(folder / file for file in config.development.roots)
        changes["development"] = config.development.model_copy(update={"roots": roots})
    return config.model_copy(update=changes)

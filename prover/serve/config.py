"""A feed's configuration: ``feed.toml`` and the environment ``QUOTARY_FEED_*``.

    name = "btc-usd"                  # in the notaries' logs; unique there
    market = "BTC/USD"
    venues = ["binance", "kraken"]    # default: every venue that lists the market
    notaries = ["https://notary-a.example", "https://notary-b.example"]
    trust = "trust.toml"              # whose word counts; relative to this file, as all paths
    key = "prover.key"                # from `prover keygen`
    data = "data"                     # the store
    spool = "/elsewhere/spool"        # default: inside; on another disk it outlives more
    evidence_days = 30                # how long what slots rest on is kept
    grid_ms = 500                     # a slot every so often
    late_ms = 1000                    # how long after a slot its entry still counts
    listen = "127.0.0.1:7051"         # of `prover serve`; port 0 = the system's choice
    origins = []                      # web origins whose pages may read here

    [trades]                          # taken and settled beside the feed
    policy = "policy.json"            # settlement policy, canonical JSON
    log_policy = "log-policy.txt"     # the one it names
    win = "1.9"                       # stakes that a won trade pays back
    token = "orders.token"            # file; who places orders must name it; default: anybody

    [development]                     # accepted with --development alone
    roots = ["venues-ca.pem"]         # of simulated venues
    connect_to = "127.0.0.1:8443"     # where they give the tokens of their channels

An environment variable overrides the file; lists are JSON, ``__`` separates nested members.
"""

from __future__ import annotations

import contextvars
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from attestation.errors import UsageError
from attestation.venues import VenueFile, shipped_venues

DEFAULT_LISTEN = "127.0.0.1:7051"
DAY_US = 86_400_000_000
PREFIX = "QUOTARY_FEED_"
"""Of what the environment says."""


def split_address(text: str) -> tuple[str, int]:
    """Splits ``host:port`` or ``[v6]:port``; raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ValueError("not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _address(text: str) -> str:
    split_address(text)
    return text


def _different(values: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(values)) != len(values):
        raise ValueError("one is named twice")
    return values


_Url = Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=512)]
_Origin = Annotated[str, Field(pattern=r"^https?://[^/\s]+$", max_length=256)]


class Development(BaseModel):
    """What simulated venues need."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    roots: tuple[Path, ...] = ()
    connect_to: Annotated[str, AfterValidator(_address)] | None = None


class Trades(BaseModel):
    """What trades are taken under."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: Path
    log_policy: Path
    win: str = Field(default="1.9", max_length=32)
    token: Path | None = None


class FeedSettings(BaseSettings):
    """See the module's docstring."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True
    )

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    market: str = Field(min_length=3, max_length=64)
    venues: Annotated[tuple[str, ...], AfterValidator(_different)] | None = None
    notaries: Annotated[tuple[_Url, ...], AfterValidator(_different)] = Field(min_length=1)
    trust: Path = Path("trust.toml")
    key: Path = Path("prover.key")
    data: Path = Path("data")
    spool: Path | None = None
    evidence_days: int = Field(default=30, ge=1, le=36_500)
    grid_ms: int = Field(default=500, ge=100, le=60_000)
    late_ms: int = Field(default=1_000, ge=100, le=10_000)
    listen: Annotated[str, AfterValidator(_address)] = DEFAULT_LISTEN
    origins: tuple[_Origin, ...] = ()
    trades: Trades | None = None
    development: Development | None = None

    @model_validator(mode="after")
    def _markets(self) -> FeedSettings:
        try:
            listing(self.market, self.venues)
        except UsageError as error:
            raise ValueError(error.detail) from None
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given goes before the environment, that before the file."""
        file = _FILE.get()
        if file is None:
            return (init_settings, env_settings)
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file))

    @property
    def listed(self) -> dict[str, VenueFile]:
        """The venues of the feed, in byte order, and their files."""
        return listing(self.market, self.venues)


_FILE: contextvars.ContextVar[Path | None] = contextvars.ContextVar("feed_file", default=None)
_MESSAGES = {"extra_forbidden": "no such member", "missing": "is required"}


def listing(market: str, names: tuple[str, ...] | None) -> dict[str, VenueFile]:
    """Returns the named venues' files, by default of all that stream the market but optional ones.

    Raises UsageError for a venue that does not exist or does not list the market.
    """
    shipped = shipped_venues()
    able = {
        name: file
        for name, file in shipped.items()
        if file.websocket is not None and any(row.market == market for row in file.markets)
    }
    if not able:
        raise UsageError(f"no venue lists {market}", rule="market", found=market)
    if names is None:
        return {name: file for name, file in sorted(able.items()) if not file.optional}
    for name in names:
        if name not in shipped:
            known = ", ".join(shipped)
            raise UsageError(f"no such venue: {name} (there are {known})", rule="venues")
        if name not in able:
            raise UsageError(f"{name} has no live channel of {market}", rule="venues")
    return {name: able[name] for name in sorted(names)}


def load_config(
    file: Path | None, given: Mapping[str, Any] = MappingProxyType({}), *, development: bool
) -> FeedSettings:
    """Reads a configuration; raises UsageError for anything wrong with it.

    ``given`` goes before file and environment; its paths are relative to the working
    folder, those of the file to the file.
    """
    if file is not None and not file.is_file():
        raise UsageError("no such configuration file", rule="config", found=str(file))
    for name in sorted(os.environ):
        member = name.upper().removeprefix(PREFIX).lower().partition("__")[0]
        if name.upper().startswith(PREFIX) and member not in FeedSettings.model_fields:
            raise UsageError(f"{name}: no such member", rule="environment")
    token = _FILE.set(file)
    try:
        config = FeedSettings(**given)
    except ValidationError as error:
        # A name that is not known explains one that is missing.
        found = error.errors(include_url=False, include_input=False)
        first = min(found, key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(str(part) for part in first["loc"])
        message = _MESSAGES.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise UsageError(": ".join(filter(None, (where, message))), rule="config") from None
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
            "[development] is accepted with --development alone", rule="config.development"
        )
    return config if file is None else _resolve(config, file.parent.resolve(), given)


def _resolve(config: FeedSettings, folder: Path, given: Mapping[str, Any]) -> FeedSettings:
    changes: dict[str, Any] = {
        name: folder / getattr(config, name)
        for name in ("trust", "key", "data", "spool")
        if name not in given and getattr(config, name) is not None
    }
    if config.trades is not None and "trades" not in given:
        files = {
            name: folder / file
            for name in ("policy", "log_policy", "token")
            if (file := getattr(config.trades, name)) is not None
        }
        changes["trades"] = config.trades.model_copy(update=files)
    if config.development is not None and "development" not in given:
        roots = tuple(folder / file for file in config.development.roots)
        changes["development"] = config.development.model_copy(update={"roots": roots})
    return config.model_copy(update=changes)

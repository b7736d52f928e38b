"""Read `limiter.toml`: the quotas of a project, and where its store is.

    url = "redis://localhost:6379/0"        # optional

    [quotas.gpt-4o]
    rpm = 500
    tpm = 30_000
    burst = "full"                          # or "smooth", or seconds
    models = ["gpt-4o*"]
    limits = [{dimension = "images", amount = 50, per = "minute"}]
    tenant_limits = [{dimension = "tokens", amount = 5_000}]    # for each tenant by itself
    group = "acme"                          # whose quotas one call may take from together

    [quotas.gpt-4o.priorities.batch]        # see `Priority`
    level = -10
    share = 0.5
    max_waiting = 1_000

    [quotas.gpt-4o.tenants]                 # weights
    search = 2.0

Nothing in it is ignored: a key that is not known is an error, and names the nearest one.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limiter.core.priority import Priority, Tenants
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError

FILE = "limiter.toml"
VARIABLE = "LIMITER_CONFIG"

_AMOUNTS = ("rpm", "tpm", "rpd", "tpd", "concurrency")
_LISTS = ("limits", "tenant_limits")
_TABLES = ("priorities", "tenants")
_QUOTA_KEYS = (*_AMOUNTS, "burst", "adaptive", "models", "group", *_LISTS, *_TABLES)
_PRIORITY_KEYS = (
    "level", "floor", "share", "strict", "max_waiting", "timeout", "promote_after_s",
    "lend_after_s",
)  # fmt: skip
_LIMIT_KEYS = ("dimension", "amount", "per", "burst", "adaptive")
_PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0, "none": None}


@dataclass(frozen=True, slots=True)
class Config:
    """Hold what a file says.

    Attributes:
        quotas: by name.
        url: the store, None where the file names none.
        path: the file; None: there is none.
    """

    quotas: Mapping[str, Quota] = field(default_factory=dict)
    url: str | None = None
    path: Path | None = None


def find(path: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the file to read: `path`, else `LIMITER_CONFIG`, else `./limiter.toml` if it exists.

    A file that somebody has named is returned even if it is not there.
    """
    named = path or os.environ.get(VARIABLE)
    if named:
        return Path(named)
    return Path(FILE) if Path(FILE).is_file() else None


def load(path: str | os.PathLike[str] | None = None) -> Config:
    """Read the file that `find` finds; an empty `Config` where there is none.

    Raises:
        ConfigError: it cannot be read, or something in it is wrong; names file and key.
    """
    found = find(path)
    if found is None:
        return Config()
    try:
        text = found.read_bytes().decode()
        data = tomllib.loads(text)
    except OSError as exc:
        named = "" if path else f", which {VARIABLE} names"
        raise ConfigError(
            f"{found}{named}: cannot be read ({exc.strerror}); give the path of a limiter.toml."
        ) from exc
    except ValueError as exc:  # UnicodeDecodeError is one, too
        raise ConfigError(f"{found}: is not TOML: {exc}.") from exc
    return _config(found, data)


def _config(path: Path, data: Mapping[str, Any]) -> Config:
    _known(str(path), data, ("url", "quotas"))
    url = data.get("url")
    if url is not None and (not isinstance(url, str) or not url):
        raise ConfigError(f"{path}: url: is a text such as 'redis://host:6379/0', got {url!r:.60}.")
    tables = _table(f"{path}: quotas", data.get("quotas", {}))
    quotas = {name: _quota(f"{path}: quotas.{name}", name, table) for name, table in tables.items()}
    return Config(quotas, url, path)


def _quota(where: str, name: str, value: object) -> Quota:
    table = _table(where, value)
    _known(where, table, _QUOTA_KEYS)
    # Each key by itself first, so that the message can name the one that is wrong.
    if "burst" in table:
        _checked(f"{where}.burst", Limit, "requests", 1, 60.0, table["burst"])
    if "adaptive" in table:
        _checked(f"{where}.adaptive", Limit, "requests", 1, adaptive=table["adaptive"])
    if not isinstance(table.get("models", []), list):
        raise ConfigError(f"{where}.models: is a list of names or patterns, as ['gpt-4o-mini*'].")
    for key in table:
        if key in _AMOUNTS:
            _checked(f"{where}.{key}", Quota, "q", **{key: table[key]})
        elif key in ("models", "group"):
            _checked(f"{where}.{key}", Quota, "q", rpm=1, **{key: table[key]})
    settings = {key: table[key] for key in table if key not in (*_LISTS, *_TABLES)}
    settings |= {key: _limits(f"{where}.{key}", table[key]) for key in _LISTS if key in table}
    if "priorities" in table:
        settings["priorities"] = _priorities(f"{where}.priorities", table["priorities"])
    if "tenants" in table:
        settings["tenants"] = _tenants(f"{where}.tenants", table["tenants"])
    quota: Quota = _checked(where, Quota, name, **settings)
    return quota


def _priorities(where: str, value: object) -> list[Priority]:
    table = _table(where, value, "quotas.gpt-4o.priorities.batch")
    return [_priority(f"{where}.{name}", name, each) for name, each in table.items()]


def _priority(where: str, name: str, value: object) -> Priority:
    table = _table(where, value, "quotas.gpt-4o.priorities.batch")
    _known(where, table, _PRIORITY_KEYS)
    _checked(where, Priority, name)
    for key in table:
        _checked(f"{where}.{key}", Priority, name, **{key: table[key]})
    return Priority(name, **table)


def _tenants(where: str, value: object) -> Mapping[str, float]:
    table = _table(where, value, "quotas.gpt-4o.tenants")
    for name in table:
        _checked(f"{where}.{name}", Tenants, {name: table[name]})
    return table


def _limits(where: str, value: object) -> list[Limit]:
    if not isinstance(value, list):
        raise ConfigError(
            f'{where}: is a list of tables, as [{{dimension = "images", amount = 50}}].'
        )  # fmt: skip
    return [_limit(f"{where}[{place}]", each) for place, each in enumerate(value)]


def _limit(where: str, value: object) -> Limit:
    table = _table(where, value)
    _known(where, table, _LIMIT_KEYS)
    for key in ("dimension", "amount"):
        if key not in table:
            raise ConfigError(f"{where}: needs {key}, as {{dimension = 'images', amount = 50}}.")
    # A slot comes back when its call ends; every other dimension refills, by default by the minute.
    usual = "none" if table["dimension"] == "concurrency" else "minute"
    per = _period(f"{where}.per", table.get("per", usual))
    limit: Limit = _checked(
        where, Limit, table["dimension"], table["amount"], per, table.get("burst", "full"),
        adaptive=table.get("adaptive", False),
    )  # fmt: skip
    return limit


def _period(where: str, value: object) -> float | None:
    if isinstance(value, str) and value in _PERIODS_S:
        return _PERIODS_S[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        words = ", ".join(f"'{word}'" for word in _PERIODS_S)
        raise ConfigError(f"{where}: is seconds, or one of {words}; got {value!r:.40}.")
    return value


def _checked(where: str, make: Any, *args: Any, **settings: Any) -> Any:
    try:
        return make(*args, **settings)
    except ConfigError as exc:
        raise ConfigError(f"{where}: {exc}") from exc


def _table(where: str, value: object, example: str = "quotas.gpt-4o") -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: is a table, as [{example}]; got {value!r:.40}.")
    return value


def _known(where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
    for key in table:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1, cutoff=0.3)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise ConfigError(
                f"{where}: the key {key!r} is not known.{meant} Known are {', '.join(keys)}."
            )

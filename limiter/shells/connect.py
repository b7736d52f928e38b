"""Make Redis clients from URLs, with what redis-py must not decide by itself.

Its own retries would send a command again behind our back (ten times by default), its default
pool refuses the 101st command at once, and a socket timeout of its own would cut our long reads.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from limiter.errors import ConfigError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel",
           "redis+cluster", "rediss+cluster", "memory")  # fmt: skip
CONNECT_S = 5.0
_CONNECTIONS = 2**16  # more than anybody opens: redis-py's full pools refuse instead of waiting


def scheme(url: str) -> str:
    """Return the URL's scheme.

    Raises:
        ConfigError: it is none that we know.
    """
    found = url.partition("://")[0] if "://" in url else ""
    if found not in SCHEMES:
        raise ConfigError(
            f"The URL {_hidden(url)!r} must begin with one of "
            f"{', '.join(f'{name}://' for name in SCHEMES)}."
        )
    return found


def _hidden(url: str) -> str:
    """Leave a password out of messages."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://…@{after}" if at else url


def sync_client(url: str, timeout_s: float) -> Any:
    """Make a sync client; nothing is connected yet, but for a cluster's, which looks around."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    settings: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(CONNECT_S, timeout_s),
        "max_connections": _CONNECTIONS,
    }
    kind = scheme(url)
    try:
        if kind.endswith("+sentinel"):
            from redis import sentinel

            hosts, service, options = _sentinel(url)
            made: Any = sentinel.Sentinel
            asked = _of_sentinels(settings, timeout_s)
            return made(hosts, sentinel_kwargs=asked).master_for(service, **settings, **options)
        if kind.endswith("+cluster"):
            from redis.cluster import RedisCluster

            return RedisCluster.from_url(url.replace("+cluster", "", 1), **settings)
        pool = redis.ConnectionPool.from_url(url, **settings)
        return redis.Redis(connection_pool=pool)
    except ValueError as exc:
        raise ConfigError(f"The URL {_hidden(url)!r} is not understood: {exc}.") from exc


def async_client(url: str, timeout_s: float) -> Any:
    """Make an asyncio client; nothing is connected yet."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # No socket timeout: redis-py would make a task for each command; the store has its own.
    settings: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,
        "socket_connect_timeout": min(CONNECT_S, timeout_s),
        "max_connections": _CONNECTIONS,
    }
    kind = scheme(url)
    try:
        if kind.endswith("+sentinel"):
            from redis.asyncio import sentinel

            hosts, service, options = _sentinel(url)
            made: Any = sentinel.Sentinel
            asked = _of_sentinels(settings, timeout_s)
            return made(hosts, sentinel_kwargs=asked).master_for(service, **settings, **options)
        if kind.endswith("+cluster"):
            from redis.asyncio.cluster import RedisCluster

            return RedisCluster.from_url(url.replace("+cluster", "", 1), **settings)
        pool: Any = redis.asyncio.ConnectionPool.from_url(url, **settings)
        return redis.asyncio.Redis(connection_pool=pool)
    except ValueError as exc:
        raise ConfigError(f"The URL {_hidden(url)!r} is not understood: {exc}.") from exc


def sync_node(cluster: Any, node: Any) -> Any:
    """Make a client to one node alone: a cluster's closes its connections, from any thread."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = cluster.get_redis_connection(node).connection_pool
    settings = {**pool.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
    return redis.Redis(connection_pool=redis.ConnectionPool(pool.connection_class, **settings))


def async_node(node: Any) -> Any:
    """Make an asyncio client to one node alone, for the same reason."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    settings = {**node.connection_kwargs, "retry": Retry(NoBackoff(), 0)}
    pool = redis.asyncio.ConnectionPool(node.connection_class, **settings)
    return redis.asyncio.Redis(connection_pool=pool)


def _of_sentinels(settings: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Say how the sentinels themselves are asked: one that is silent must not hold us up."""
    return {**settings, "socket_timeout": min(CONNECT_S, timeout_s)}


def _sentinel(url: str) -> tuple[list[tuple[str, int]], str, dict[str, Any]]:
    """Read `redis+sentinel://[user:password@]host:port[,host:port…]/service[/db]`."""
    scheme_, _, rest = url.partition("://")
    parts = urlsplit(f"x://{rest}")
    hosts = []
    for host in parts.netloc.rpartition("@")[2].split(","):
        name, _, port = host.partition(":")
        if not name or (port and not port.isdigit()):
            raise ConfigError(f"The sentinel {host!r} must be written host:port.")
        hosts.append((name, int(port or 26379)))
    service, _, db = parts.path.strip("/").partition("/")
    if not service or (db and not db.isdigit()):
        raise ConfigError(
            "A sentinel URL names its service: redis+sentinel://host:26379/service[/db]."
        )
    options: dict[str, Any] = {"db": int(db or 0), **dict(parse_qsl(parts.query))}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    options |= {key: value for key, value in (("username", user), ("password", password)) if value}
    if scheme_.startswith("rediss"):
        options["ssl"] = True
    return hosts, service, options

"""What the store says a quota is: read as it was written, by both drivers, on each store."""

from __future__ import annotations

import pytest

from limiter import ConfigError, Declaration, Limit, Priority, Quota
from tests.api.conftest import Face, faces

pytestmark = pytest.mark.asyncio

FULL = {
    "rpm": 500,
    "tpm": 30_000,
    "limits": [Limit("images", 50, burst="smooth")],
    "models": ["m-2*"],
    "priorities": [Priority("batch", -10, share=0.5)],
    "tenants": {"search": 2.0},
    "tenant_limits": [Limit("tokens", 1000)],
}


async def got(face: Face, name: str) -> Quota | None:
    return await face._do(face.limiter.get_quota, name)


async def listed(face: Face, *units: str) -> list[Declaration]:
    """Return what is declared in these units; other tests have theirs in the same store."""
    found = await face._do(face.limiter.declarations)
    return [each for each in found if each.quota.unit in units]


async def test_a_quota_is_read_as_it_was_declared(kind: str, store_url: str, name: str) -> None:
    """Whoever asks gets the quota that another one declared, with all its policies."""
    quota = Quota(name, **FULL)
    async with faces(kind, store_url) as make:
        ann, bob = make(quota), make()
        await ann.peek(name)
        assert await got(bob, name) == quota
        assert await listed(bob, name) == [Declaration(quota, central=False)]


async def test_to_ask_declares_nothing(kind: str, store_url: str, name: str) -> None:
    """A quota that nobody has declared is None, also for one who would declare it."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, rpm=5))
        assert await got(face, name) is None
        assert await listed(face, name) == []


async def test_who_declared_it_is_told(kind: str, store_url: str, name: str) -> None:
    """What was set centrally is marked, and is what one reads whatever programs declare."""
    async with faces(kind, store_url) as make:
        face = make(Quota(name, rpm=5))
        await face._do(face.limiter.set_quota, Quota(name, rpm=7))
        await face.peek(name)
        assert await got(face, name) == Quota(name, rpm=7)
        assert await listed(face, name) == [Declaration(Quota(name, rpm=7), central=True)]


async def test_quotas_of_a_group(kind: str, store_url: str, name: str) -> None:
    """All of a group are listed; one is found by its name where its group is known."""
    quotas = [Quota(each, rpm=5, group=name) for each in ("east", "west")]
    async with faces(kind, store_url) as make:
        ann, bob = make(*quotas), make()
        await ann.peek(name)
        assert await got(ann, "west") == quotas[1]
        assert await got(bob, "west") is None
        assert [each.quota for each in await listed(bob, name)] == quotas


async def test_what_cannot_be_read_is_an_error() -> None:
    """A definition that a newer release wrote is not taken for none."""
    with pytest.raises(ConfigError, match="'q' in the store cannot be read"):
        Declaration.of("q", ("1", '{"limits": []}', "code"))

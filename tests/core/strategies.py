"""Whatever callers may write: limits, priorities and quotas, for the laws about all of them."""

from __future__ import annotations

from hypothesis import strategies as st

from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota

parts = st.integers(1, 1000).map(lambda n: n / 1000)
spans_s = st.integers(0, 10**9).map(lambda us: us / 1e6)
rates = st.builds(
    Limit,
    st.sampled_from(["requests", "tokens", "images"]),
    st.integers(1, 2**40),
    st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]) | st.floats(0.1, 1e5),
    st.sampled_from(["full", "smooth"]) | st.floats(0.1, 100.0),
)
slots = st.builds(Limit, st.just("concurrency"), st.integers(1, 10_000), st.none())
names = st.sampled_from(["default", "batch", "chat", "eval-1", "night_run"])


def distinct(limits: st.SearchStrategy[Limit], least: int = 0) -> st.SearchStrategy[list[Limit]]:
    return st.lists(limits, min_size=least, max_size=4, unique_by=lambda limit: limit.label)


priorities = st.builds(
    Priority,
    names,
    level=st.integers(-1000, 1000),
    floor=parts.map(lambda part: 1 - part),
    share=st.none() | parts,
    strict=st.booleans(),
    max_waiting=st.none() | st.integers(0, 10**6),
    timeout=st.none() | spans_s,
    promote_after_s=st.none() | spans_s.map(lambda span: span + 1e-6),
    lend_after_s=spans_s,
)
tenants = st.dictionaries(
    st.text(st.characters(categories=["L", "N", "Zs"], exclude_characters="\xa0"), min_size=1)
    .map(lambda name: f"t{name.strip()}"[:50])
    .filter(str.isprintable),
    st.floats(0.01, 100),
    max_size=3,
)


def quotas(name: str = "q", group: str | None = None) -> st.SearchStrategy[Quota]:
    return st.builds(
        Quota,
        st.just(name),
        limits=distinct(rates | slots, 1),
        models=st.lists(st.sampled_from(["gpt-4o*", "o3"]), unique=True),
        priorities=st.lists(priorities, max_size=4, unique_by=lambda each: each.name),
        tenants=tenants,
        tenant_limits=distinct(rates | slots),
        group=st.just(group),
    )

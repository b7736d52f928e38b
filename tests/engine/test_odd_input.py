"""Names and numbers at the edges of what callers may write, in the Lua and in the model."""

from __future__ import annotations

import itertools
import os

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limiter.core.priority import Priority
from limiter.core.quota import Limit, Quota
from limiter.errors import ConfigError
from tests.engine.test_model import Pair, pause

EXAMPLES = int(os.environ.get("LIMITER_EXAMPLES", "100"))
names = itertools.count()

printable = st.text(max_size=200).filter(str.isprintable)
tenant = st.one_of(
    printable, st.sampled_from(["0001", "w0001", "i0001" + "0" * 16, "é" * 200, "a", "ab", "a b", "-", "[", "("])
)  # fmt: skip
large = st.sampled_from([1, 2, 2**20, 2**49, 2**50 - 1, 2**50])
limit = st.one_of(
    st.builds(Limit, st.sampled_from(["requests", "tokens"]), large,
              st.sampled_from([1.0, 86_400.0, 400 * 86_400.0]), st.sampled_from(["full", "smooth"]), st.just(0)),
    st.builds(Limit, st.just("slots"), large, st.none()),
)  # fmt: skip
limits = st.lists(limit, min_size=1, max_size=3, unique_by=lambda each: each.label)
policy = st.builds(
    Priority,
    st.just("default"),
    floor=st.sampled_from([0.0, 0.999]),
    share=st.sampled_from([None, 1.0, 0.5]),
    promote_after_s=st.sampled_from([None, 1e-6, 1.0]),
    lend_after_s=st.sampled_from([0.0, 86_400.0]),
)
cost = st.lists(st.one_of(st.integers(0, 3), large), min_size=3, max_size=3)
entry = st.one_of(
    st.tuples(st.just("acquire"), st.sampled_from([0, 1, 1, 5]), cost, st.just(2**40), st.just(0),
              st.sampled_from(["", "a\nb"]), tenant, st.sampled_from([1, 100, 10_000])),
    st.tuples(st.just("settle"), st.integers(1, 9), cost),
    st.tuples(st.just("cancel"), st.integers(1, 9)),
    st.tuples(st.just("look"), st.integers(1, 9)),
)  # fmt: skip
runs = st.lists(st.tuples(pause, st.lists(entry, max_size=4)), max_size=15)


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(limits=limits, own=st.one_of(st.just([]), limits), policy=policy, told=runs)
def test_the_edges_are_exact_in_both(any_url, limits, own, policy, told) -> None:
    """The largest amounts, any printable name and any weight give the same in both, in digits."""
    try:
        quota = Quota(f"odd-{next(names)}", limits=limits, tenant_limits=own, priorities=[policy])
    except ConfigError:
        return  # a share that is too small to be counted
    pair = Pair(any_url, quota)
    try:
        for pause_us, entries in told:
            pair.run("ann", pause_us, entries)
    finally:
        pair.close()

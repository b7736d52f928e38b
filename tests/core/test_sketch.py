"""Sketches of lengths: small whatever they are told, and exact enough whatever that was."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from limiter.core import sketch
from limiter.core.sketch import BUCKETS, FULL, LARGEST, LEAST, Sketch, bucket_of, tokens_of

tokens = st.one_of(st.integers(1, 40), st.integers(1, 5_000), st.integers(1, LARGEST))
permilles = st.integers(1, 1000)
enough = st.lists(tokens, min_size=LEAST, max_size=200)


def of(seen: list[int]) -> Sketch:
    made = Sketch()
    for length in seen:
        made.add(bucket_of(length), 0)
    return made


def exact(seen: list[int], permille: int) -> int:
    """Return the least of them that so many of a thousand are not above."""
    return sorted(seen)[-(-len(seen) * permille // 1000) - 1]


@given(length=tokens)
def test_a_bucket_says_its_tokens_within_a_twentieth(length: int) -> None:
    """Every whole number is in a bucket whose middle is at most 5 % off; small ones are exact."""
    bucket = bucket_of(length)
    assert 1 <= bucket <= BUCKETS
    assert abs(tokens_of(bucket) - length) * 20 <= length
    assert length > 18 or tokens_of(bucket) == length


@given(one=tokens, other=tokens)
def test_buckets_are_in_the_order_of_their_tokens(one: int, other: int) -> None:
    """What is longer is in no lower bucket, and lower buckets say fewer tokens."""
    low, high = sorted((one, other))
    assert bucket_of(low) <= bucket_of(high)
    assert tokens_of(bucket_of(low)) <= tokens_of(bucket_of(high))


def test_few_buckets_hold_everything() -> None:
    """At most 220 buckets reach 2^30 tokens; whatever is below or above is in the outermost."""
    assert BUCKETS <= 220
    assert [bucket_of(n) for n in (-5, 0, 1)] == [1, 1, 1]
    assert [bucket_of(n) for n in (LARGEST, LARGEST + 1, 2**70)] == [BUCKETS] * 3


@given(seen=enough, permille=permilles)
def test_a_quantile_is_within_a_twentieth_of_the_exact_one(seen: list[int], permille: int) -> None:
    """Whatever was told, in whatever order: at most 5 % off."""
    told, wanted = tokens_of(of(seen).quantile(permille)), exact(seen, permille)
    assert abs(told - wanted) * 20 <= wanted


@given(seen=enough, one=permilles, other=permilles)
def test_a_higher_quantile_is_no_shorter(seen: list[int], one: int, other: int) -> None:
    """Quantiles grow with the part that they stand for."""
    low, high = sorted((one, other))
    assert of(seen).quantile(low) <= of(seen).quantile(high)


@given(seen=st.lists(tokens, max_size=LEAST - 1), permille=permilles)
def test_too_few_answers_tell_nothing(seen: list[int], permille: int) -> None:
    """Below 20 answers there is no quantile."""
    assert of(seen).quantile(permille) == 0


@settings(max_examples=40)
@given(some=st.lists(tokens, min_size=1, max_size=60), seed=st.integers(0, 999), permille=permilles)
def test_fading_moves_no_quantile_by_more_than_an_answer(
    some: list[int], seed: int, permille: int
) -> None:
    """With all counts halved, a quantile is that of before or the next answer in order."""
    seen = random.Random(seed).choices(some, k=FULL)
    faded, ordered = of(seen), sorted(seen)
    rank = -(-FULL * permille // 1000)
    assert faded.total == FULL // 2
    assert faded.quantile(permille) in {bucket_of(n) for n in ordered[rank - 1 : rank + 1]}


@settings(max_examples=20)
@given(seen=st.lists(tokens, min_size=1, max_size=60), times=st.integers(1, 100))
def test_a_sketch_stays_small(seen: list[int], times: int) -> None:
    """However much it is told, it counts less than a thousand answers, each count above 0."""
    made = of(seen * times)
    assert made.total == sum(made.counts.values()) < FULL
    assert set(made.counts) <= set(range(1, BUCKETS + 1))
    assert all(made.counts.values())


def test_what_comes_outweighs_what_was() -> None:
    """After 1,500 longer answers, nothing is left of a thousand short ones above the median's half."""
    made = of([100] * FULL + [1_000] * 1_500)
    assert tokens_of(made.quantile(500)) == tokens_of(bucket_of(1_000))
    assert made.counts[bucket_of(100)] < made.total // 4


def test_a_rank_is_never_the_one_below() -> None:
    """Of 20 answers the 90th percentile is the 18th, of 21 the 19th: the least that is enough."""
    for count, place in ((20, 18), (21, 19), (30, 27)):
        assert of(list(range(1, count + 1))).quantile(900) == bucket_of(place)


def test_a_day_without_an_answer_halves_what_a_sketch_weighs() -> None:
    """A key that nobody uses gives way to one that is used less often, but today."""
    made = of([5] * 800)
    assert [made.weight(days * sketch.DAY_US) for days in (0, 1, 3, 400)] == [800, 400, 100, 0]

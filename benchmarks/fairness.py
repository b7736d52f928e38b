"""Who goes first: tenants by their weights, newcomers, and calls of higher priority.

Four real processes in virtual time (`lockstep`), on a real server. `python -m benchmarks.fairness`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.crowd import Arrival, Backlog, Flow, Plan
from benchmarks.lockstep import Granted, Record, live
from benchmarks.report import Row
from limiter import Limit, Priority, Quota

PROCESSES = 4
SECOND_US = 1_000_000
WARM_US = 2 * SECOND_US  # until the burst is spent and everybody has a line

TENANTS = {f"t{weight}": float(weight) for weight in range(1, 11)}
TPM = 12_000_000  # 200 calls/s of 1,000 tokens: 218 for the lightest of 55 parts in a minute
_LINE = {"waiting": 10, "low": 7}  # of one tenant in one process


def shared(tpm: int, burst_s: float, name: str, *priorities: Priority) -> Quota:
    """Return a quota of tokens alone."""
    limit = Limit("tokens", tpm, burst=burst_s)
    return Quota(name, limits=[limit], priorities=priorities)


def plans(
    backlogs: Sequence[Backlog], arrivals: Sequence[Arrival], processes: int = PROCESSES
) -> list[Plan]:
    """Deal a fleet's work out: each process has all backlogs, and its part of the arrivals."""
    return [
        Plan(f"p{i}", i, tuple(backlogs), tuple(arrivals[i::processes])) for i in range(processes)
    ]


def moments(count: int, from_us: int, until_us: int, seed: int, apart: float = 0.0) -> list[int]:
    """Draw moments, in their order.

    With `apart` each has a part of the time for itself and leaves so much of it unused, so that no
    two are closer than that.
    """
    draw = random.Random(seed)
    if not apart:
        return sorted(draw.randrange(from_us, until_us) for _ in range(count))
    each_us = (until_us - from_us) // count
    return [
        from_us + i * each_us + int(draw.random() * (1 - apart) * each_us) for i in range(count)
    ]


def shares(grants: Iterable[Granted], weights: Mapping[str, float]) -> dict[str, float]:
    """Return what each tenant got of what all of them got, over what it is entitled to: 1 is fair."""
    got: Counter[str] = Counter()
    for grant in grants:
        if grant.tenant in weights:
            got[grant.tenant] += grant.tokens
    all_got, all_weights = got.total(), sum(weights.values())
    return {
        tenant: got[tenant] / all_got / (weight / all_weights) for tenant, weight in weights.items()
    }


def jain(values: Iterable[float]) -> float:
    """Return Jain's index of fairness: 1 where all are equal, 1/n where one has everything."""
    listed = list(values)
    return sum(listed) ** 2 / (len(listed) * sum(value * value for value in listed))


def percentile(values: Iterable[float], part: float) -> float:
    """Return the smallest value that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def by_weight(url: str, seconds: int = 60, newcomers: int = 20) -> Record:
    """Saturate ten tenants of weights 1 to 10; now and then an eleventh has a single call.

    Its calls are so far apart that each one has been paid for by the time of the next: until 55
    others have gone, a tenant of weight 1 that comes again is no newcomer.
    """
    backlogs = [Backlog(Flow(name, weight), **_LINE) for name, weight in TENANTS.items()]
    until_us = WARM_US + seconds * SECOND_US
    at_us = moments(newcomers, WARM_US, until_us - SECOND_US, seed=11, apart=0.2)
    single = [Arrival(at, Flow("newcomer")) for at in at_us]
    quota = shared(TPM, 1.0, "by-weight")
    return live(url, quota, plans(backlogs, single), until_us, WARM_US)


def fairness(url: str) -> list[Row]:
    """Measure shares against weights, and what a newcomer waits for."""
    record = by_weight(url)
    ratios = shares((g for g in record.grants if g.at_us >= WARM_US), TENANTS)
    worst = max(ratios.values(), key=lambda ratio: abs(ratio - 1))
    before = [grant.before for grant in record.once()]
    shortest = min(record.shortest[tenant] for tenant in TENANTS)
    note = (
        f"{PROCESSES} processes, 60 s of virtual time, {len(record.grants):,} grants, never less "
        f"than {shortest} waiting of each; share / (weight/55): "
        + ", ".join(f"{tenant} {ratio:.4f}" for tenant, ratio in ratios.items())
    )
    waits = max(grant.waited_us for grant in record.once()) / 1e3
    return [
        Row("10 tenants, weights 1-10: share off by", abs(worst - 1), 0.02, "stay below", "", note),
        Row("  … shortest line of a tenant", shortest, 20),
        Row("  … Jain's index of share / weight", jain(ratios.values()), 0.99),
        Row("  … grants before a newcomer's, at most", max(before), 2, "stay below", "",
            f"{len(before)} of them: {before}; longest wait {waits:.1f} ms"),
    ]  # fmt: skip


def beside_a_hog(url: str, waiting: int = 10_000, singles: int = 20) -> Row:
    """Let single calls come while another tenant has thousands waiting."""
    each = waiting // PROCESSES
    hog = Backlog(Flow("hog"), waiting=each + 50, low=each)
    at_us = moments(singles, WARM_US, 20 * SECOND_US, seed=12)
    arrivals = [Arrival(at, Flow("other")) for at in at_us]
    quota = shared(TPM // 4, 1.0, "hog")
    record = live(url, quota, plans([hog], arrivals), 21 * SECOND_US, WARM_US)
    before = [grant.before for grant in record.once()]
    note = f"{len(before)} calls at random moments, {record.shortest['hog']:,} waiting: {before}"
    return Row("beside 10,000 of another tenant: grants before", max(before), 1, "stay below", "", note)  # fmt: skip


BATCH, INTERACTIVE = Flow(priority="batch"), Flow(priority="interactive")
INVERSION_TPM = 1_200_000  # 20 calls/s of 1,000 tokens
PAUSE_S = 5.0  # between two interactive calls, on average
BEGIN_US = 20 * SECOND_US  # by then the batch has spent the burst


def beside_a_batch(url: str, floor: float = 0.0, calls: int = 300, waiting: int = 5_000) -> Record:
    """Let interactive calls come at random moments while thousands of batch calls wait.

    The floor is not lent in between: one call comes at the very beginning (it is not counted), and
    no pause is as long as `lend_after_s`.
    """
    each = waiting // PROCESSES
    batch = Backlog(BATCH, waiting=each + 50, low=each)
    until_us = BEGIN_US + round(calls * PAUSE_S * 1e6)
    at_us = [0, *moments(calls, BEGIN_US, until_us, seed=13)]
    priorities = Priority("batch", 0, floor, lend_after_s=10 * PAUSE_S), Priority("interactive", 10)
    quota = shared(INVERSION_TPM, 6.0, f"inversion-{floor:g}", *priorities)
    fleet = plans([batch], [Arrival(at, INTERACTIVE) for at in at_us])
    return live(url, quota, fleet, until_us + 3 * SECOND_US, BEGIN_US)


def _counted(record: Record) -> list[Granted]:
    return [grant for grant in record.once() if grant.at_us >= BEGIN_US]


def inversion(url: str) -> list[Row]:
    """Measure what an interactive call waits for behind a batch, without and with a floor."""
    record, per_us = beside_a_batch(url), INVERSION_TPM / 60e6
    calls = _counted(record)
    ratios = [grant.waited_us / (grant.tokens / per_us) for grant in calls]
    waits = [grant.waited_us / 1e3 for grant in calls]
    guarded = [grant.waited_us / 1e3 for grant in _counted(beside_a_batch(url, floor=0.2))]
    note = (
        f"each call's wait is divided by its own cost / rate (1,000 tokens: {1 / per_us:.0f} ms); "
        f"{len(calls)} calls, {record.shortest['batch']:,} waiting; longest ratio "
        f"{max(ratios):.2f}; waits: p50 {percentile(waits, 0.5):.1f}, p99 "
        f"{percentile(waits, 0.99):.1f}, max {max(waits):.1f} ms"
    )
    return [
        Row("interactive beside 5,000 batch: p99 of wait / refill of its cost",
            percentile(ratios, 0.99), 1, "stay below", "", note),
        Row("  … the batch has floor=0.2: p99 of the wait", percentile(guarded, 0.99), 0,
            "stay below", "ms", f"{len(guarded)} calls; longest wait {max(guarded):.1f} ms"),
    ]  # fmt: skip


def rows(url: str) -> list[Row]:
    """Measure all of it."""
    return [*fairness(url), beside_a_hog(url), *inversion(url)]


def main() -> None:
    """Print the table."""
    from benchmarks.report import publish
    from benchmarks.servers_redis import redis_server

    with redis_server() as redis:
        publish(rows(redis.url), redis_version=redis.version)


if __name__ == "__main__":
    main()

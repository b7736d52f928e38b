"""Law 4 for fleets: who goes first, with several owners, told to the model and to each real server.

Small runs of `benchmarks/fairness.py`: real processes on a real server, and one process on the model.
Time is virtual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import pytest

from benchmarks.crowd import Arrival, Backlog, Crowd, Flow, Plan
from benchmarks.fairness import SECOND_US, jain, plans, shared, shares
from benchmarks.lockstep import Local, Member, Record, drive, live
from limiter import Priority, Quota
from limiter.core import definition
from limiter.core.model import Model
from limiter.simulation.replay import LEASE_US
from limiter.simulation.workload import START_US
from tests import servers

Live = Callable[[Quota, Sequence[Plan], int], Record]

TENANTS = {"one": 1.0, "two": 2.0, "four": 4.0}
WARM_US = 2 * SECOND_US
TPM = 3_000_000  # 50 calls/s


def on_the_model(quota: Quota, fleet: Sequence[Plan], until_us: int) -> Record:
    """Let a fleet live in this process."""
    agreed = definition.read(quota.unit, "1", definition.write(quota))
    model = Model(agreed, START_US)

    def member(plan: Plan) -> Member:
        numbers = count(1)
        return Local(
            Crowd(
                plan,
                lambda at_us, sent: model.run(
                    START_US + at_us, plan.owner, next(numbers), LEASE_US, agreed.version, sent
                ),
                agreed,
            )
        )

    return drive({plan.owner: member(plan) for plan in fleet}, until_us, WARM_US)


@pytest.fixture(params=["model", *sorted(servers.binaries())])
def fleet(request: pytest.FixtureRequest, urls: dict[str, str]) -> Live:
    """Run a fleet on one engine: processes where there is a server."""
    if request.param == "model":
        return on_the_model
    return partial(_processes, urls[request.param])


def _processes(url: str, quota: Quota, fleet: Sequence[Plan], until_us: int) -> Record:
    return live(url, quota, fleet, until_us, WARM_US)


def test_tenants_get_by_their_weights_whoever_sends_for_them(fleet: Live, name: str) -> None:
    """While all wait, no two tenants' tokens by weight differ by more than two calls of each.

    Start-time fair queueing promises largest/weight + largest/weight (Goyal, Vin, Cheng, 1996,
    theorem 1), which is for calls of at most 1,500 tokens 3,000 at weight 1.
    """
    backlogs = [Backlog(Flow(tenant, weight), 8, 5) for tenant, weight in TENANTS.items()]
    record = fleet(shared(TPM, 1.0, name), plans(backlogs, [], 2), 12 * SECOND_US)
    grants = [grant for grant in record.grants if grant.at_us >= WARM_US]
    assert min(record.shortest.values()) > 0
    served = {
        tenant: sum(grant.tokens for grant in grants if grant.tenant == tenant) / weight
        for tenant, weight in TENANTS.items()
    }
    assert max(served.values()) - min(served.values()) <= 3_000
    assert jain(shares(grants, TENANTS).values()) >= 0.99


def test_who_comes_late_has_saved_nothing_up(fleet: Live, name: str) -> None:
    """From its arrival on a tenant gets what is its own, not what it did not ask for before."""
    late_us = 6 * SECOND_US
    backlogs = [Backlog(Flow("early"), 8, 5), Backlog(Flow("late"), 8, 5, from_us=late_us)]
    record = fleet(shared(TPM, 1.0, name), plans(backlogs, [], 2), 10 * SECOND_US)
    grants = [grant for grant in record.grants if grant.at_us >= late_us]
    early, late = (
        sum(grant.tokens for grant in grants if grant.tenant == tenant)
        for tenant in ("early", "late")
    )
    assert late > 50_000
    assert abs(early - late) <= 3_000


def test_a_newcomer_waits_for_two_calls_at_most(fleet: Live, name: str) -> None:
    """A tenant that has used nothing goes before all who have, however many of those wait."""
    backlogs = [Backlog(Flow(tenant, weight), 30, 20) for tenant, weight in TENANTS.items()]
    arrivals = [Arrival(WARM_US + i * 517_001, Flow("newcomer")) for i in range(10)]
    record = fleet(shared(TPM, 1.0, name), plans(backlogs, arrivals, 2), 8 * SECOND_US)
    assert len(record.once()) == len(arrivals)
    assert max(grant.before for grant in record.once()) <= 2


def test_a_tenant_with_a_long_line_delays_another_by_one_call(fleet: Live, name: str) -> None:
    """A thousand waiting calls of one tenant are to another as one."""
    hog = Backlog(Flow("hog"), 520, 500)
    arrivals = [Arrival(WARM_US + i * 317_001, Flow("other")) for i in range(10)]
    record = fleet(shared(TPM, 1.0, name), plans([hog], arrivals, 2), 6 * SECOND_US)
    assert record.shortest["hog"] >= 1_000
    assert max(grant.before for grant in record.once()) <= 1


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_a_batch_delays_an_interactive_call_by_its_own_refill_at_most(
    fleet: Live, name: str, floor: float
) -> None:
    """However many of lower priority wait; where these leave a floor, it does not wait at all."""
    batch = Backlog(Flow(priority="batch"), 120, 100)
    at_us = [0, *(WARM_US + i * 517_001 for i in range(16))]
    arrivals = [Arrival(at, Flow(priority="interactive")) for at in at_us]
    priorities = Priority("batch", 0, floor), Priority("interactive", 10)
    quota = shared(TPM, 1.0, name, *priorities)
    record = fleet(quota, plans([batch], arrivals, 2), 11 * SECOND_US)
    calls = [grant for grant in record.once() if grant.at_us >= WARM_US]
    assert len(calls) == 16
    for grant in calls:
        assert grant.before == 0
        assert grant.waited_us <= (0 if floor else -(-grant.tokens * 60_000_000 // TPM))


def test_weights_decide_and_not_the_length_of_a_line(fleet: Live, name: str) -> None:
    """The same lines with other weights give other shares: what the law above can see."""
    backlogs = [Backlog(Flow(tenant, 1.0), 8, 5) for tenant in TENANTS]
    record = fleet(shared(TPM, 1.0, name), plans(backlogs, [], 2), 7 * SECOND_US)
    grants = [grant for grant in record.grants if grant.at_us >= WARM_US]
    assert jain(shares(grants, TENANTS).values()) < 0.9

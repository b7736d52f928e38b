"""What a queue promises: order, nothing lost, results once, bounds. On real servers."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import limiter
from limiter import ConfigError, Limiter, Priority, Quota
from limiter.queue import AsyncQueue, Queue, ops
from limiter.queue.ops import Want
from limiter.queue.submitting import calls_of
from tests.queue.conftest import ALL, body


def test_what_is_submitted_is_taken_in_order_and_has_its_results(bench):
    """Bodies, Batch lines and lines of bytes come out as Batch lines, their results as they ended."""
    line = {"custom_id": "b", "url": "/v1/embeddings", "body": {"model": "e", "input": "x"}}
    job = bench.queue.submit([body("a"), line, json.dumps(body("c")).encode(), b"\n"], name="work")
    taken = bench.take()
    assert [each.call.custom_id for each in taken] == ["a", "b", "c"]
    assert json.loads(taken[1].call.line) == {**line, "method": "POST"}
    for each in reversed(taken):
        assert bench.finish(each)
    assert [each["custom_id"] for each in bench.queue.stream(job)] == ["c", "b", "a"]
    status = bench.queue.status(job)
    assert (status.name, status.state, status.ok, status.left, status.tokens) == (
        "work",
        "ended",
        3,
        0,
        21,
    )
    assert bench.take() == []


def test_higher_levels_go_first_and_tenants_in_turn(bench):
    """Whoever came first, and however many calls one tenant has."""
    bench.submit("a1", "a2", "a3", tenant="a")
    bench.submit("b1", "b2", tenant="b")
    bench.submit("h1", "h2", level=10, priority="high")
    bench.submit("l1", level=-5)
    assert bench.ids(Want(3, 1000, None, {})) == ["h1", "h2", "a1"]
    assert bench.ids() == ["b1", "a2", "b2", "a3", "l1"]


def test_a_priority_says_the_level(any_url, bench):
    """As the quotas of the store declare it, for both kinds of queue; one that nobody declares is an error."""
    name = bench.queue.name
    with Limiter(any_url) as limiter:
        limiter.set_quota(Quota(name, rpm=5, priorities=[Priority(f"p{name[2:]}", level=7)]))
    bench.submit("low")
    bench.submit("high", priority=f"p{name[2:]}")

    async def later():
        async with AsyncQueue(any_url, name=name) as queue:
            await queue.submit([body("higher")], priority=f"p{name[2:]}")

    asyncio.run(later())
    assert bench.ids() == ["high", "higher", "low"]
    with pytest.raises(ConfigError, match="No quota declares the priority 'hihg'"):
        bench.submit("x", priority="hihg")


def test_a_worker_takes_no_more_of_a_level_than_it_wants(bench):
    """In all, of each level, and only what is above a level."""
    bench.submit("a", "b", "c")
    bench.submit("h", "i", "j", level=10)
    assert bench.ids(Want(10, 1, None, {})) == ["h", "a"]
    assert bench.ids(Want(10, 5, 0, {})) == ["i", "j"]
    assert bench.ids(Want(10, 5, None, {0: 0})) == []
    assert bench.ids(Want(10, 5, None, {0: 1})) == ["b"]


def test_a_result_is_stored_once(bench):
    """However often a call is made, and whoever was quicker."""
    job = bench.submit("a")
    (first,) = bench.take()
    bench.lapse()
    (second,) = bench.take()
    assert second.lost == 1
    assert bench.finish(second)
    assert not bench.finish(first)
    assert not bench.finish(first, ok=False)
    assert len(list(bench.queue.stream(job))) == 1
    assert bench.queue.status(job).state == "ended"


def test_a_result_that_came_late_ends_the_call_that_was_given_to_another(bench):
    """What is done is not made again, and not counted twice."""
    job = bench.submit("a", "b")
    (first,) = bench.take(Want(1, 1, None, {}))
    bench.lapse()
    bench.queue._do(
        ops.take_gen(Want(0, 0, None, {}), 1000, 9)
    )  # the lease has ended, nobody took it
    assert bench.finish(first)
    assert bench.ids() == ["b"]
    status = bench.queue.status(job)
    assert (status.ok, status.dropped, status.left) == (1, 0, 1)


def test_a_job_that_is_still_being_submitted_has_not_ended(bench):
    """Though all of its calls that are there have their results; it ends when its submitter says so."""
    fields = bench.queue._fields("", None, 0, None)
    bench.queue._do(ops.open_gen("job_slow", fields))
    calls = calls_of("job_slow", [body("a")], "", None)
    bench.queue._do(ops.put_gen(calls, bench.queue._line(0, ""), 0))
    bench.finish(*bench.take())
    assert bench.queue.status("job_slow").state == "open"
    assert bench.redis.pttl(f"{bench.queue.root}job:job_slow") == -1
    bench.queue._do(ops.change_gen("job_slow", "close"))
    assert bench.queue.status("job_slow").state == "ended"


def test_a_call_whose_workers_are_lost_comes_back_and_dies_in_the_end(bench):
    """At the head of its line; after so many it is dead, with the reason, and kept."""
    job = bench.submit("a", "b")
    for lost in range(3):
        (taken,) = bench.take(Want(1, 1, None, {}))
        assert (taken.call.custom_id, taken.lost) == ("a", lost)
        bench.lapse()
    assert bench.ids() == ["b"]
    (dead,) = bench.queue.failed(job)
    assert dead.call.custom_id == "a"
    assert json.loads(dead.why)["error"]["code"] == "worker_lost"
    assert bench.queue.status(job).failed == 1


def test_calls_that_are_given_back_go_first_again_in_their_order(bench):
    """As if they had not been taken; of one that the worker no longer has, nothing happens."""
    bench.submit("a", "b", "c", "d")
    taken = bench.take(Want(3, 3, None, {}))
    bench.back(*taken)
    bench.back(*taken)
    assert bench.ids() == ["a", "b", "c", "d"]


def test_a_call_that_is_put_off_comes_back_when_its_time_is_over(bench):
    """Not before; and it is said when that is."""
    bench.submit("a")
    bench.back(*bench.take(), how="later", ms=60_000)
    due_s, taken = bench.queue._do(ops.take_gen(ALL, 1000, 3))
    assert taken == []
    assert 50 < due_s <= 60
    bench.lapse("later")
    (again,) = bench.take()
    assert again.lost == 0


def test_a_lease_is_renewed(bench):
    """… of calls that the worker has, and of no others."""
    bench.submit("a")
    (taken,) = bench.take()
    bench.lapse()
    bench.back(taken, how="alive", ms=60_000)
    assert bench.take() == []
    bench.finish(taken)
    bench.back(taken, how="alive", ms=60_000)
    assert not bench.redis.exists(bench.queue.root + "leases")


def test_a_cancelled_job_s_calls_are_not_made(bench):
    """Those under way end, and keep their results; what waits is dropped; others are not touched."""
    job, other = bench.submit("a", "b", "c"), bench.submit("x")
    taken = bench.take(Want(1, 1, None, {}))
    assert bench.queue.cancel(job).state == "cancelled"
    assert bench.ids() == ["x"]
    bench.finish(taken[0])
    status = bench.queue.status(job)
    assert (status.ok, status.dropped, status.left, status.has_ended) == (1, 2, 0, True)
    assert [each["custom_id"] for each in bench.queue.stream(job)] == ["a"]
    assert bench.queue.status(other).left == 1


def test_a_long_job_that_is_cancelled_goes_in_parts(bench):
    """Its calls are dropped by those who take, a thousand at once: others come in between."""
    job = bench.queue.submit(body(f"{i}") for i in range(1_500))
    bench.submit("x")
    bench.queue.cancel(job)
    assert bench.ids() == []
    assert bench.queue.status(job).dropped == 1_000
    assert bench.ids() == ["x"]
    assert bench.queue.status(job).has_ended


def test_calls_that_failed_are_kept_and_tried_again(bench):
    """Their reasons are among the results; after retry they are calls like others."""
    job = bench.submit("a", "b", tenant="t", level=3)
    first, second = bench.take()
    bench.finish(first)
    bench.finish(second, ok=False)
    assert bench.queue.status(job).state == "ended"
    assert [each["error"] for each in bench.queue.stream(job)] == [
        None,
        {"code": "bad", "message": "no"},
    ]
    assert bench.queue.retry(job) == 1
    assert (bench.queue.status(job).state, bench.queue.status(job).failed) == ("closed", 0)
    (again,) = bench.take()
    assert (again.call, again.level, again.tenant) == (second.call, 3, "t")
    bench.finish(again)
    assert [each["error"] for each in bench.queue.stream(job)] == [None, None]
    assert bench.queue.retry(job) == 0


def test_a_queue_holds_no_more_than_it_may(any_url, bench):
    """Who would put in more waits, and gives up in time; what is in is dropped with its job."""
    with Queue(any_url, name=bench.queue.name, most=3) as small:
        with pytest.raises(limiter.errors.QueueFull, match="3 calls wait") as full:
            small.submit([body(f"{i}") for i in range(5)], timeout=0, job="job_x")
        assert (full.value.waiting, full.value.put) == (3, 3)
        assert small.status("job_x").state == "cancelled"
        assert bench.ids() == []
        assert small.status("job_x").has_ended


def test_a_submitter_goes_on_when_there_is_room(any_url, bench):
    """An input that is longer than the queue goes in as workers take from it."""
    with Queue(any_url, name=bench.queue.name, most=2) as small, ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(small.submit, [body(f"{i}") for i in range(7)], job="job_long")
        made = []
        while len(made) < 7:
            assert int(bench.redis.get(f"{bench.queue.root}waiting") or 0) <= 2
            made += bench.ids()
        assert submitting.result() == "job_long"
        assert made == [f"{i}" for i in range(7)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"model": "m"}, "Request 2 .*messages"),
        (b"{not json", "Request 2 is not JSON"),
        (7, "Request 2 is a int"),
        (body("a"), "Request 2 has the custom_id 'a'"),
        (
            {"model": "m", "messages": [{"role": "user", "content": {1}}]},
            "Request 2 is nothing that JSON",
        ),
    ],
)
def test_a_request_that_is_none_is_said(bench, wrong, says):
    """With its place; none of the job's calls is made."""
    with pytest.raises(limiter.ConfigError, match=says):
        bench.queue.submit([body("a"), wrong], job="job_y")
    assert bench.take() == []
    assert bench.queue.status("job_y").state == "cancelled"


def test_a_job_that_is_not_there_is_said(bench):
    """By every verb."""
    for verb in (bench.queue.status, bench.queue.cancel, lambda job: list(bench.queue.stream(job))):
        with pytest.raises(limiter.ConfigError, match="no job 'job_none'"):
            verb("job_none")
    bench.submit("a", job="job_z")
    with pytest.raises(limiter.ConfigError, match="already"):
        bench.submit("a", job="job_z")


def test_jobs_are_listed_and_their_keys_end(bench):
    """In the order of submission; what is left of a job that ended expires, and nothing else is left."""
    jobs = [bench.submit("a") for _ in range(8)]
    assert [each.job for each in bench.queue.jobs()] == jobs
    for each in bench.take():
        bench.finish(each, ok=each.call.job != jobs[0])
    keys = list(bench.redis.scan_iter(match=f"{bench.queue.root}*"))
    assert keys
    assert all(bench.redis.pttl(key) > 0 for key in keys), keys


def test_a_result_is_waited_for(bench):
    """All of a job's, or an error that says how many are left."""
    job = bench.submit("a", "b")
    with pytest.raises(limiter.WaitTimeout, match="2 of 2 calls left"):
        bench.queue.result(job, timeout=0)
    for each in bench.take():
        bench.finish(each)
    assert len(bench.queue.result(job, timeout=0)) == 2


def test_asyncio_has_the_same_verbs(any_url, bench):
    """… on the same queue."""

    async def story():
        async with AsyncQueue(any_url, name=bench.queue.name) as queue:
            job = await queue.submit([body("a"), body("b")], tenant="t")
            first, second = bench.take()
            bench.finish(first)
            bench.finish(second, ok=False)
            assert [each.job for each in await queue.jobs()] == [job]
            told = [each["custom_id"] async for each in queue.stream(job)]
            assert told == ["a", "b"]
            assert len(await queue.result(job)) == 2
            assert await queue.retry(job) == 1
            assert (await queue.cancel(job)).state == "cancelled"

    asyncio.run(story())


@pytest.mark.parametrize("name", ["", "a b", "a{b}", "a:b", "x" * 65, None, 7])
def test_a_queue_s_name_is_a_name(name):
    """It stands in keys."""
    with pytest.raises(limiter.ConfigError, match="queue's name"):
        Queue("redis://localhost", name=name)


def test_a_queue_outlives_its_processes(monkeypatch):
    """memory:// cannot be one."""
    with pytest.raises(limiter.ConfigError, match="memory://"):
        Queue("memory://x")

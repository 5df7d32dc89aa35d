"""Turns, places, bounds and cancelling, with a clock and steps of the test's own."""

import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codi_jax.config import ConfigError
from codi_jax.serve.queue import INTERNAL, Cancelled, FairQueue, QueueLimits, Standing, without_paths


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Bench:
    """A queue whose jobs take a second each, and what was done in which order."""

    def __init__(self, **limits):
        self.clock, self.done = Clock(), []
        self.queue = FairQueue(QueueLimits(**{"of_a_client": 10, "abandoned": 1e9, **limits}), self.clock, start=False)

    def submit(self, client, cost=1.0, work=None, **options):
        def take(job):
            self.clock.now += cost
            self.done.append(client)
            return f"of {client}"

        return self.queue.submit(client, work or take, cost, **options)

    def taking(self, seconds):
        """The work of a job that takes so long and then reports."""

        def work(job):
            self.clock.now += seconds
            job.report("sampling", 1, 2)

        return work

    def finish(self):
        while self.queue.step():
            pass
        return self.done


def test_clients_take_turns():
    bench = Bench()
    for client in "aaabbc":
        bench.submit(client)
    assert bench.finish() == list("abcaba")


def test_who_comes_later_does_not_wait_for_all_of_another():
    bench = Bench()
    for _ in range(8):
        bench.submit("a")
    bench.queue.step()
    bench.submit("b")
    bench.queue.step()
    bench.queue.step()
    assert bench.done == ["a", "a", "b"]


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=20))
def test_places_are_the_order_of_turns(clients):
    bench = Bench(of_a_client=100)
    jobs = [bench.submit(client) for client in clients]
    places = [bench.queue.standing(job).place for job in jobs]
    assert sorted(places) == list(range(1, len(jobs) + 1))
    expected = [client for _, client in sorted(zip(places, clients, strict=True))]
    assert bench.finish() == expected


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_nobody_is_more_than_one_turn_ahead_of_who_waits(clients):
    bench = Bench(of_a_client=100)
    for client in clients:
        bench.submit(client)
    done = bench.finish()
    for k in range(len(done)):
        left, had = done[k:], done[:k]
        counts = [had.count(client) for client in {*left}]
        assert max(counts) - min(counts) <= 1


def test_the_time_left_is_known_from_past_requests():
    bench = Bench()
    job = bench.submit("a", cost=10)
    assert bench.queue.standing(job) == Standing(1, None)
    bench.finish()
    jobs = [bench.submit("a", cost=4), bench.submit("b", cost=2)]
    assert [bench.queue.standing(job) for job in jobs] == [Standing(1, 4.0), Standing(2, 6.0)]
    left = []

    def work(job):
        job.report("sampling", 0, 8)
        bench.clock.now += 1
        left.append((bench.queue.standing(job), bench.queue.standing(jobs[1])))
        job.report("sampling", 2, 8)
        left.append(bench.queue.standing(job))

    bench.queue.cancel(jobs[0])
    running = bench.submit("c", cost=5, work=work)
    bench.finish()
    assert left == [(Standing(0, 4.0), Standing(0, None)), Standing(0, 3.0)]
    assert running.state == "done" and (running.activity, running.done, running.total) == ("sampling", 2, 8)


def test_a_queue_is_bounded():
    bench = Bench(waiting=3, of_a_client=2)
    bench.submit("a"), bench.submit("a")
    with pytest.raises(ConfigError, match="you have 2 requests in the queue; wait for one, or cancel it"):
        bench.submit("a")
    bench.submit("b")
    with pytest.raises(ConfigError, match=re.escape("the queue is full (3 requests)")):
        bench.submit("c")
    assert len(bench.queue) == 3 and len(bench.finish()) == 3 and len(bench.queue) == 0


def test_a_job_that_waits_is_cancelled_at_once_and_frees_its_place():
    bench = Bench(waiting=2)
    first, second = bench.submit("a"), bench.submit("b")
    bench.queue.cancel(first)
    assert first.state == "cancelled" and first.ended and bench.queue.standing(second).place == 1
    assert bench.queue.find(second.token) is second and bench.queue.find(first.token) is None
    bench.submit("c")
    assert bench.finish() == ["b", "c"]


def test_a_running_job_is_cancelled_at_its_next_report():
    bench, seen = Bench(), []

    def work(job):
        job.report("sampling", 0, 2)
        bench.queue.cancel(job)
        seen.append("before")
        job.report("sampling", 1, 2)
        seen.append("after")

    job = bench.submit("a", work=work)
    bench.submit("b")
    assert bench.finish() == ["b"] and seen == ["before"] and job.state == "cancelled" and job.result is None


def test_what_fails_says_why_in_one_line_without_paths(caplog):
    bench = Bench()

    def refuse(job):
        raise ConfigError("/home/somebody/out/model.npz: damaged\nsecond line")

    def crash(job):
        raise KeyError("/secret/place")

    refused, crashed = bench.submit("a", work=refuse), bench.submit("a", work=crash)
    with caplog.at_level("CRITICAL", logger="codi_jax.serve"):
        bench.finish()
    assert (refused.state, refused.error) == ("failed", "(a file here): damaged")
    assert (crashed.state, crashed.error) == ("failed", INTERNAL)
    assert bench.submit("a") and bench.finish() == ["a"]


@pytest.mark.parametrize("message", ["image: 3/4 of it", "expected 0-0.5s, got 1/2", "audio and/or video"])
def test_what_is_no_path_stays(message):
    assert without_paths(message) == message


def test_a_job_that_nobody_asks_about_is_dropped():
    bench = Bench(abandoned=30, of_a_client=1)
    gone, kept, own = bench.submit("a"), bench.submit("b"), bench.submit("c", watched=False)
    bench.clock.now = 29
    bench.queue.standing(kept)
    bench.clock.now = 31
    assert bench.finish() == ["b", "c"] and gone.state == "cancelled" and own.state == kept.state == "done"


def test_a_running_job_that_nobody_asks_about_ends():
    bench = Bench(abandoned=30)
    job = bench.submit("a", work=bench.taking(31))
    bench.finish()
    assert job.state == "cancelled"


def test_a_job_has_a_time_limit():
    bench = Bench(seconds=5)
    job = bench.submit("a", work=bench.taking(6))
    bench.finish()
    assert (job.state, job.error) == ("failed", "ended after 5 seconds; ask for fewer steps or samples")


def test_a_job_releases_what_it_held():
    bench, held = Bench(), object()
    job = bench.submit("a", work=lambda job, held=held: setattr(job, "preview", "html"))
    bench.finish()
    assert job._work is None and job.preview is None


def test_the_thread_does_what_is_submitted_and_ends():
    queue, ready = FairQueue(QueueLimits()), threading.Event()
    try:
        jobs = [queue.submit(client, lambda job: job.client, watched=False) for client in "ab"]
        queue.submit("c", lambda job: ready.set(), watched=False)
        assert ready.wait(10) and [job.result for job in jobs] == ["a", "b"]
        stuck = threading.Event()

        def work(job):
            while not stuck.wait(0.01):
                job.report("sampling")

        running, waiting = queue.submit("a", work, watched=False), queue.submit("a", work, watched=False)
    finally:
        queue.close()
    assert not queue._thread.is_alive() and running.state == waiting.state == "cancelled"


def test_tokens_cannot_be_guessed():
    bench = Bench(waiting=100, of_a_client=100)
    tokens = {bench.submit("a").token for _ in range(100)}
    assert len(tokens) == 100 and all(len(token) >= 24 for token in tokens)


def test_cancelled_is_no_error_of_a_config():
    assert not issubclass(Cancelled, ConfigError)

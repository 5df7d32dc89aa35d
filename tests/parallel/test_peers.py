"""What a process concludes from the heartbeats of the others; with real processes in test_distributed."""

import socket

import pytest

from codi_jax.exit_codes import EXIT_BAD_INPUT, EXIT_PREEMPTED, EXIT_UNAVAILABLE
from codi_jax.parallel.peers import Peers

HOST = socket.gethostname()


class Store:
    """A key-value store in this process."""

    def __init__(self):
        self.values, self.answers = {}, True

    def key_value_set(self, key, value, allow_overwrite=False):
        assert allow_overwrite
        if not self.answers:
            raise RuntimeError("UNAVAILABLE: socket closed")
        self.values[key] = value

    def key_value_dir_get(self, key):
        return [(name, value) for name, value in self.values.items() if name.startswith(key)]


class Pod:
    """Three processes whose clock the test sets."""

    def __init__(self, seconds=50):
        self.now, self.store = 0.0, Store()
        self.peers = [Peers(self.store, k, 3, seconds, lambda: self.now) for k in range(3)]

    def pass_time(self, seconds, *alive):
        """Everybody in `alive` beats once a second; returns what each found last."""
        found = {}
        for _ in range(seconds):
            self.now += 1
            found = {k: self.peers[k].beat() for k in alive}
        return found


def test_all_are_well():
    assert Pod().pass_time(200, 0, 1, 2) == {0: None, 1: None, 2: None}


def test_a_process_without_heartbeats_is_named_by_all_others():
    pod = Pod(seconds=50)
    pod.pass_time(10, 0, 1, 2)
    assert pod.pass_time(50, 0, 2) == {0: None, 2: None}
    pod.pass_time(1, 0, 2)  # process 0, which beats first, saw the last one of process 1 a second later
    for why, code in pod.pass_time(1, 0, 2).values():
        assert why.startswith(f"process 1 on {HOST} is gone: no heartbeat for 5") and code == EXIT_UNAVAILABLE
    assert pod.peers[0].gone(60) is None  # by a longer limit


def test_a_process_that_never_came_is_named():
    pod = Pod(seconds=20)
    assert pod.pass_time(21, 0, 1)[1] == (
        "process 2 on an unknown host is gone: no heartbeat for 21 seconds", EXIT_UNAVAILABLE
    )  # fmt: skip


def test_process_0_is_gone_if_its_store_does_not_answer():
    pod = Pod(seconds=20)
    pod.pass_time(10, 0, 1, 2)
    pod.store.answers = False
    assert pod.pass_time(20, 1) == {1: None}
    assert pod.pass_time(1, 1)[1] == (f"process 0 on {HOST} is gone: no answer for 21 seconds", EXIT_UNAVAILABLE)


def test_the_store_may_be_away_for_some_time():
    pod = Pod(seconds=20)
    pod.pass_time(10, 0, 1, 2)
    pod.store.answers = False
    pod.pass_time(19, 1)
    pod.store.answers = True
    assert pod.pass_time(1, 0, 1, 2)[1] is None


def test_an_error_of_one_process_ends_the_others_with_its_code():
    pod = Pod()
    pod.pass_time(5, 0, 1, 2)
    pod.peers[2].end(EXIT_BAD_INPUT)
    assert pod.pass_time(1, 0, 1)[0] == (f"process 2 on {HOST} ended with exit code 2", EXIT_BAD_INPUT)


def test_the_reason_of_the_first_process_is_repeated_by_the_others():
    """Process 0 ends since process 2 is gone, before process 1 has seen it."""
    pod = Pod()
    pod.pass_time(5, 0, 1, 2)
    pod.peers[0].end(EXIT_UNAVAILABLE, "process 2 on h is gone")
    assert pod.pass_time(1, 1)[1] == ("process 2 on h is gone", EXIT_UNAVAILABLE)


def test_processes_that_are_preempted_end_together():
    pod = Pod(seconds=20)
    pod.pass_time(5, 0, 1, 2)
    pod.peers[1].end(EXIT_PREEMPTED)
    assert pod.pass_time(100, 0, 2) == {0: None, 2: None}  # while it saves, it still waits for them


def test_a_store_that_is_gone_does_not_disturb_the_end():
    pod = Pod()
    pod.store.answers = False
    pod.peers[1].end(EXIT_BAD_INPUT)
    assert not pod.store.values


@pytest.mark.parametrize(("seconds", "interval"), [(50, 2), (4, 0.4)])
def test_ten_heartbeats_fit_into_the_limit(seconds, interval):
    assert Peers(Store(), 0, 2, seconds).interval == pytest.approx(interval)

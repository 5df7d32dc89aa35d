"""Hosts that hold up the others, with the clock and the heartbeats of the test."""

import pytest

from codi_jax.parallel import distributed
from codi_jax.train.stragglers import Stragglers, stragglers
from tests.parallel.test_peers import HOST, Pod


@pytest.mark.parametrize(
    ("seconds", "step", "slow"),
    [
        ({0: 0.1, 1: 0.1, 2: 0.6}, 1.0, {2}),
        ({0: 0.1, 1: 0.1, 2: 0.4}, 1.0, set()),  # four times the median
        ({0: 0.001, 1: 0.001, 2: 0.05}, 1.0, set()),  # a twentieth of the step
        ({0: 0.0, 1: 0.5}, 1.0, {1}),
        ({0: 0.5, 1: 0.5, 2: 0.5}, 0.6, set()),  # all are slow: their input is
        ({0: 9.0}, 10.0, set()),
    ],
)
def test_a_straggler_is_five_times_slower_than_the_median(seconds, step, slow):
    assert set(stragglers(seconds, step)) == slow


def test_each_is_named_once_by_process_0(capsys, monkeypatch):
    pod, current = Pod(), 0
    monkeypatch.setattr(distributed, "is_primary", lambda: current == 0)
    hosts = [Stragglers(2, lambda k=k: pod.peers[k], lambda: pod.now) for k in range(3)]

    def steps(first, own):
        """Two steps of one second each, in which host 2 takes its own time; returns what was printed."""
        nonlocal current
        for done in (first, first + 1):
            with hosts[2].own_time():
                pod.now += own
            pod.now += 1 - own
            for current in (2, 1, 0):
                hosts[current](done, {})
                for peers in pod.peers:
                    peers.beat()
        return capsys.readouterr().out.splitlines()

    line = f"process 2 on {HOST} holds up the others: 0.75 s a step for its input, 75% of the step"
    assert steps(1, 0.75) == [line]
    assert not steps(3, 0.75)
    assert not steps(5, 0.0)
    assert steps(7, 0.75) == [line]  # again, after it was well


def test_a_single_process_has_no_stragglers(capsys):
    host = Stragglers(1, lambda: None)
    with host.own_time():
        pass
    host(1, {})
    assert not capsys.readouterr().out

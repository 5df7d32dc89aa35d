import os
import signal

from jax.experimental import multihost_utils

from codi_jax.parallel import distributed
from codi_jax.train.stop import Stop


def test_one_process_stops_at_the_next_sync_point():
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as stop:
        assert not stop.here()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.here() and stop.here()
    assert signal.getsignal(signal.SIGTERM) is before


def test_several_processes_count_sync_points_over_the_run_and_let_jax_handle_the_signal(monkeypatch):
    passed = []

    def reached(point):
        passed.append(point)
        return len(passed) == 4

    monkeypatch.setattr(distributed, "is_multiprocess", lambda: True)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as first:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [first.here() for _ in range(2)] == [False] * 2
    with Stop().listening() as second:
        assert [second.here() for _ in range(4)] == [False, True, True, True]  # once True, jax is not called again
    assert passed == list(range(passed[0], passed[0] + 4))

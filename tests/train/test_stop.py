import os
import signal

from jax.experimental import multihost_utils

from codi_jax.parallel import distributed
from codi_jax.train.stop import Stop


def test_one_process_stops_where_it_is_next_asked():
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as stop:
        assert not stop.here()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.here() and stop.here()
    assert signal.getsignal(signal.SIGTERM) is before


def test_several_count_the_places_of_the_whole_run_and_leave_the_signal_to_jax(monkeypatch):
    passed = []

    def reached(place):
        passed.append(place)
        return len(passed) == 4

    monkeypatch.setattr(distributed, "is_multiprocess", lambda: True)
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", reached)
    before = signal.getsignal(signal.SIGTERM)
    with Stop().listening() as first:
        assert signal.getsignal(signal.SIGTERM) is before
        assert [first.here() for _ in range(2)] == [False] * 2
    with Stop().listening() as second:
        assert [second.here() for _ in range(4)] == [False, True, True, True]  # once agreed, it is not asked again
    assert passed == list(range(passed[0], passed[0] + 4))

import pytest

from tests.slow import kills


@pytest.mark.slow
def test_fifty_kills_at_random_moments_change_no_result(capsys):
    with capsys.disabled():
        counts = kills.main()
    assert sum(counts.values()) == 50
    assert all(counts.values()), "no kill in one of the phases"

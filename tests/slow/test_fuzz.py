import pytest

from tests.slow import fuzz


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_refused_by_name(capsys):
    with capsys.disabled():
        counts = fuzz.main()
    assert sum(sum(found.values()) for found in counts.values()) == 10_000
    outcomes = {outcome for found in counts.values() for outcome in found}
    assert outcomes <= {"read", "no source", *fuzz.REASONS}, "a decoder crashed or hung"
    assert all(found["read"] and len(found) > 1 for found in counts.values()), "damage that does nothing, or all"

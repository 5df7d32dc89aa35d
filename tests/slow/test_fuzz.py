import pytest

from tests.slow import fuzz


@pytest.mark.slow
def test_ten_thousand_damaged_files_are_read_or_refused_with_a_reason(capsys):
    with capsys.disabled():
        counts = fuzz.main()
    assert sum(sum(counter.values()) for counter in counts.values()) == 10_000
    outcomes = {outcome for counter in counts.values() for outcome in counter}
    assert outcomes <= {"read", "no source", *fuzz.REASONS}, "a decoder crashed or hung"
    assert all(c["read"] and len(c) > 1 for c in counts.values()), "damage without any effect, or always fatal"

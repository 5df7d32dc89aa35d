"""The benchmark of preprocessing: batches of a config's sizes are prepared; no claim about times."""

from benchmarks.prepare import BATCH, Host, to_table


def test_a_host_prepares_the_media_of_a_config():
    host = Host("digit_world:tiny")
    assert host.names() == list(BATCH)
    for name in host.names():
        host.prepare(name)


def test_scaling_is_over_the_fewest_cores():
    row = {"modality": "image", "core_ms": 2.0, "rates": {"1": 100.0, "2": 150.0, "16": 800.0}}
    assert to_table([row]).splitlines()[1].split() == ["image", "2.00", "100", "150", "800", "1.50", "8.00"]

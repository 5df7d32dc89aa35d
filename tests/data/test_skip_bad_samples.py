"""Bad samples: replacements, the log, and the limit on their number."""

import json
import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from codi_jax.config import ConfigError
from codi_jax.data.pipeline import Batches
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples, _stride
from codi_jax.media.files import MediaError


class PartlyBad:
    """A source of numbers, some of which are bad; records which were tried."""

    def __init__(self, length, bad=()):
        self.length, self.bad, self.tried = length, set(bad), []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.tried.append(index)
        if index in self.bad:
            raise MediaError("empty" if index % 2 else "unreadable", f"file {index}: bad")
        return {"x": np.int64(index)}


ANY = FaultsConfig(max_bad_fraction=1.0)


@hypothesis.given(st.integers(1, 2000), st.integers(0, 2**31))
def test_the_stride_is_coprime_to_the_length(length, seed):
    assert math.gcd(_stride(length, seed), length) == 1


@hypothesis.given(st.integers(1, 60), st.data())
def test_a_replacement_depends_only_on_the_data(length, data):
    bad = data.draw(st.sets(st.integers(0, length - 1), max_size=length - 1))
    order = data.draw(st.permutations(range(length)))
    one, other = SkipBadSamples(PartlyBad(length, bad), ANY), SkipBadSamples(PartlyBad(length, bad), ANY)
    forwards = {i: int(one[i]["x"]) for i in range(length)}
    assert {i: int(other[i]["x"]) for i in order} == forwards
    for i, got in forwards.items():
        assert got not in bad and (got == i or i in bad)


def test_batches_are_the_same_for_any_split_of_the_rows():
    def batch(rows):
        source = SkipBadSamples(PartlyBad(40, {3, 4, 5, 30}), ANY)
        return next(Batches(source, 16, seed=1, rows=rows, threads=0))["x"]

    whole = batch(None)
    np.testing.assert_array_equal(np.concatenate([batch(np.arange(k, k + 4)) for k in range(0, 16, 4)]), whole)


def test_bad_samples_are_logged_and_not_tried_again(tmp_path):
    config = FaultsConfig(1.0, str(tmp_path / "log" / "refused"))
    first = PartlyBad(20, {2, 7})
    one = SkipBadSamples(first, config, process=1)
    seen = [int(one[i]["x"]) for i in range(20)]
    assert one.counts() in ("empty 1, unreadable 1", "unreadable 1, empty 1")
    lines = [json.loads(line) for line in (tmp_path / "log" / "refused.1").read_text().splitlines()]
    assert lines == [
        {"index": 2, "reason": "unreadable", "said": "file 2: bad"},
        {"index": 7, "reason": "empty", "said": "file 7: bad"},
    ]
    with (tmp_path / "log" / "refused.1").open("a") as log:
        log.write('{"index": 3, "rea')  # cut by a kill
    again = PartlyBad(20, {2, 7})
    other = SkipBadSamples(again, config, process=0)
    assert [int(other[i]["x"]) for i in range(20)] == seen
    assert not {2, 7} & set(again.tried)
    assert not (tmp_path / "log" / "refused.0").exists()  # nothing is logged twice
    SkipBadSamples(PartlyBad(20, {2, 7, 9}), config, process=1)[9]  # appends after the last complete line
    assert [json.loads(line)["index"] for line in (tmp_path / "log" / "refused.1").read_text().splitlines()] == [
        2,
        7,
        9,
    ]


def test_the_log_of_another_source_is_an_error(tmp_path):
    for line in ('{"index": 99, "reason": "empty"}', '{"index": 1}', "[]", "not JSON"):
        (tmp_path / "refused.0").write_text(line + "\n")
        with pytest.raises(ConfigError, match="line 1: not a log entry of this source"):
            SkipBadSamples(PartlyBad(20), FaultsConfig(log=str(tmp_path / "refused")))


def test_too_many_bad_samples_end_the_run_with_one_line():
    source = SkipBadSamples(PartlyBad(1000, range(0, 1000, 25)), FaultsConfig(max_bad_fraction=0.03))
    with pytest.raises(
        ConfigError, match=r"^data: \d+ of 2\d\d samples cannot be used \(.*\), more than .*; the last:"
    ) as e:
        for i in range(1000):
            source[i]
    assert "\n" not in str(e.value)
    tolerant = SkipBadSamples(PartlyBad(1000, range(0, 1000, 25)), FaultsConfig(max_bad_fraction=0.05))
    assert all(tolerant[i] for i in range(1000))


def test_all_samples_are_bad():
    with pytest.raises(ConfigError, match=r"none of the 3 samples can be used \(unreadable 2, empty 1\)"):
        SkipBadSamples(PartlyBad(3, range(3)), ANY)[0]

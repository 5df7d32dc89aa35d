"""Bad samples: replacements, the log, and the limit on their number."""

import json
import math
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import stats

from codi_jax.config import ConfigError
from codi_jax.data.pipeline import Batches
from codi_jax.data.skip_bad_samples import FaultsConfig, SkipBadSamples, _chance, _stride
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
            raise MediaError("empty" if index % 2 else "damaged", f"file {index}: bad")
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
    assert one.counts() in ("empty 1, damaged 1", "damaged 1, empty 1")
    lines = [json.loads(line) for line in (tmp_path / "log" / "refused.1").read_text().splitlines()]
    assert lines == [
        {"index": 2, "reason": "damaged", "said": "file 2: bad", "tried": 3},
        {"index": 7, "reason": "empty", "said": "file 7: bad", "tried": 9},
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


@pytest.mark.parametrize("length, allowed", [(1, 0), (40, 0), (200, 2), (1000, 10), (5000, 50)])
def test_the_chance_is_the_tail_of_the_hypergeometric_distribution(length, allowed):
    rng = np.random.default_rng(0)
    for tried in rng.integers(1, length + 1, 20):
        for bad in rng.integers(0, min(tried, 3 * allowed + 2) + 1, 5):
            want = stats.hypergeom.sf(bad - 1, length, allowed, tried)
            got = _chance(length, allowed, int(tried), int(bad))
            assert got == 1 if bad * length <= allowed * tried else got == pytest.approx(want, rel=1e-6, abs=1e-250)


def run(source, order):
    """Reads samples in this order; the number read before the run ends, or None if it does not."""
    for count, index in enumerate(order):
        try:
            source[int(index)]
        except ConfigError as error:
            assert "\n" not in str(error)
            return count, str(error)
    return None


def test_too_many_bad_samples_end_the_run_with_one_line():
    some = PartlyBad(1000, range(0, 1000, 25))
    _, said = run(SkipBadSamples(some, FaultsConfig(max_bad_fraction=0.03)), range(1000))
    assert re.fullmatch(
        r"data: 31 of 7\d\d samples cannot be used \(.*\), more than max_bad_fraction=0.03; the last: file \d+: bad",
        said,
    )
    assert run(SkipBadSamples(some, FaultsConfig(max_bad_fraction=0.04)), range(1000)) is None


def test_a_small_source_is_no_exception():
    """60 of 200 files are bad, and one more than may be is enough."""
    rng = np.random.default_rng(0)
    bad = rng.permutation(200)[:60]
    count, said = run(SkipBadSamples(PartlyBad(200, bad), FaultsConfig()), rng.permutation(200))
    assert count < 40 and said.startswith("data: 3 of ")


def test_a_run_does_not_end_by_chance_and_ends_soon_if_there_is_reason():
    """Up to the limit, none of 40 orders ends the run; at twice the limit all do, at 20 % soon."""
    length, ended = 20_000, {}
    for share in (0.005, 0.01, 0.02, 0.2):
        ended[share] = []
        for seed in range(40):
            rng = np.random.default_rng([seed, int(1000 * share)])
            source = SkipBadSamples(PartlyBad(length, rng.permutation(length)[: int(share * length)]), FaultsConfig())
            result = run(source, rng.permutation(length)[: length if share == 0.02 else 3000])
            ended[share].append(result and result[0])
    assert not any(ended[0.005]) and not any(ended[0.01])
    assert all(ended[0.02]) and max(ended[0.2]) < 60


@pytest.mark.parametrize("processes", [1, 2])
def test_a_resumed_run_goes_on_counting(tmp_path, processes):
    """A tenth of the limit does not end a run that is resumed seven times, and more than the limit does."""
    order = np.random.default_rng(1).permutation(100_000)

    def resumed(share, log):
        bad = np.random.default_rng(2).permutation(100_000)[: round(share * 100_000)]
        config = FaultsConfig(log=str(tmp_path / log))
        for part in np.split(order[:40_000], 8):
            for process, rows in enumerate(np.split(part, processes)):
                if said := run(SkipBadSamples(PartlyBad(100_000, bad), config, process), rows):
                    return said[1]
        return None

    assert resumed(0.001, "few") is None
    said = resumed(0.015, "many")
    bad, tried = map(int, re.match(r"data: (\d+) of (\d+) samples", said).groups())
    assert tried > 5_000 and bad / tried == pytest.approx(0.015, rel=0.2)


def test_all_samples_are_bad():
    with pytest.raises(ConfigError, match=r"none of the 3 samples can be used \(damaged 2, empty 1\)"):
        SkipBadSamples(PartlyBad(3, range(3)), ANY)[0]

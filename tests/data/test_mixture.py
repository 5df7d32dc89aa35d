import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.mixture import Mixture
from codi_jax.data.pipeline import Batches, in_order
from codi_jax.data.source import make_source, read_batch

SIZES = {"a": 23, "b": 7, "c": 11}
WEIGHTS = {"a": 3.0, "b": 1.0, "c": 2.0}
FIRST = {"a": 0, "b": 100, "c": 200}


def mixture(whole_batches=False, weights=WEIGHTS):
    parts = {name: Arrays({"x": FIRST[name] + np.arange(SIZES[name])}) for name in weights}
    return Mixture({name: (weights[name], part) for name, part in parts.items()}, whole_batches)


def take(iterator, steps):
    return [next(iterator)["x"].tolist() for _ in range(steps)]


def of(part, samples):
    return [x for x in samples if FIRST[part] <= x < FIRST[part] + 100]


@given(st.lists(st.integers(0, 40), min_size=1))
def test_a_mixture_indexes_the_concatenation_of_its_parts(indices):
    concatenated = [FIRST[name] + i for name in SIZES for i in range(SIZES[name])]
    source = mixture()
    assert len(source) == 41
    assert [int(source[i]["x"]) for i in indices] == [concatenated[i] for i in indices]
    assert read_batch(source, indices)["x"].tolist() == [concatenated[i] for i in indices]


@pytest.mark.parametrize("whole_batches", [False, True])
def test_proportions_are_exact_and_each_part_has_its_own_epochs(whole_batches):
    batches = take(Batches(mixture(whole_batches), 4, seed=0), 120)
    samples = [x for batch in batches for x in batch]
    for part, size in SIZES.items():
        from_part = of(part, samples)
        assert len(from_part) == 480 * WEIGHTS[part] / 6
        epochs = [sorted(from_part[i : i + size]) for i in range(0, len(from_part) - size + 1, size)]
        assert len(epochs) >= 10
        assert all(epoch == list(range(FIRST[part], FIRST[part] + size)) for epoch in epochs)
    kinds = {len({x // 100 for x in batch}) for batch in batches}
    assert kinds == {1} if whole_batches else max(kinds) > 1


@pytest.mark.parametrize("whole_batches", [False, True])
def test_a_mixture_resumes_at_any_step_on_any_number_of_hosts(whole_batches):
    reference = take(Batches(mixture(whole_batches), 4, seed=5), 20)
    for hosts in (1, 2, 4):
        for stop in (0, 1, 7):
            rows = np.split(np.arange(4), hosts)
            parts = [take(Batches(mixture(whole_batches), 4, seed=5, start_step=stop, rows=r), 6) for r in rows]
            assert [[x for part in parts for x in part[s]] for s in range(6)] == reference[stop : stop + 6]


def test_the_seed_changes_the_order_but_not_the_part_of_each_step():
    one, other = (take(Batches(mixture(True), 4, seed=seed), 12) for seed in (0, 1))
    assert one != other
    assert [batch[0] // 100 for batch in one] == [batch[0] // 100 for batch in other]


def test_epochs_are_counted_per_part():
    batches = Batches(mixture(), 6, seed=0)
    take(batches, 23)
    assert batches.epochs() == pytest.approx({"epoch/a": 69 / 23, "epoch/b": 23 / 7, "epoch/c": 46 / 11})
    plain = Batches(Arrays({"x": np.arange(8)}), 4, seed=0)
    take(plain, 3)
    assert plain.epochs() == {"epoch": 1.5}


def test_in_order_reads_each_sample_once_round_robin_over_the_parts():
    chunks = [batch["x"].tolist() for batch in in_order(mixture(), 10)]
    assert [x for part in SIZES for chunk in chunks for x in of(part, chunk)] == [
        FIRST[name] + i for name in SIZES for i in range(SIZES[name])
    ]
    assert [len(chunk) for chunk in chunks] == [10, 7, 10, 10, 1, 3]
    split = [[b["x"].tolist() for b in in_order(mixture(), 10, numbers=range(k, 6, 2))] for k in range(2)]
    assert split == [chunks[::2], chunks[1::2]]


def test_parts_with_different_structures_need_whole_batches():
    parts = {"a": (1, Arrays({"x": np.zeros(4)})), "b": (1, Arrays({"y": np.zeros((4, 2))}))}
    with pytest.raises(ConfigError, match="a and b have different structures; whole_batches takes"):
        next(Batches(Mixture(parts), 4, seed=0, threads=0))
    kinds = [set(batch) for batch, _ in zip(Batches(Mixture(parts, True), 4, seed=0), range(4), strict=False)]
    assert kinds == [{"x"}, {"y"}] * 2


def test_a_mixture_from_a_config():
    world = {"name": "digit_world", "split": "train", "modalities": ("text",)}
    config = {"name": "mixture", "parts": {"few": {**world, "size": 4, "weight": 3}, "many": {**world, "size": 8}}}
    source = make_source(config)
    assert len(source) == 12
    assert source.epochs(16) == {"epoch/few": 3.0, "epoch/many": 0.5}
    assert source[5] == make_source({**world, "size": 8})[1]


@pytest.mark.parametrize(
    "config, says",
    [
        ({"parts": {}}, "mixture: no parts"),
        ({"parts": {"a": {"name": "nothing"}}}, r"mixture\.parts\.a\.name: no source 'nothing'"),
        (
            {"parts": {"a": {"name": "digit_world", "split": "train", "size": 4, "weight": 0}}},
            "'a': weight must be a positive",
        ),
        ({"parts": {"a": {"name": "digit_world", "split": "train", "size": 4, "weight": "3"}}}, "'a': weight must be"),
        ({"parts": {"a": 3}}, r"parts\.a: expected the config of a source"),
    ],
)
def test_bad_mixture_configs(config, says):
    with pytest.raises(ConfigError, match=says):
        make_source({"name": "mixture", **config})

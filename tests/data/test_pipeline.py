import threading

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.pipeline import Batches, in_order
from codi_jax.digit_world import DigitWorld, WorldConfig


def numbers(n=23):
    return Arrays({"x": np.arange(n)})


def take(iterator, steps):
    return [next(iterator)["x"].tolist() for _ in range(steps)]


def test_every_epoch_is_a_new_permutation_and_batches_may_span_two():
    seen = [x for batch in take(Batches(numbers(), 4, seed=0), 23) for x in batch]
    epochs = [tuple(seen[i : i + 23]) for i in range(0, 92, 23)]
    assert all(sorted(epoch) == list(range(23)) for epoch in epochs)
    assert len(set(epochs)) == 4


def test_the_seed_determines_the_order():
    orders = [take(Batches(numbers(), 23, seed=s), 2) for s in (0, 0, 1, 2**32 - 1)]
    assert orders[0] == orders[1]
    assert orders[0][1] != orders[2][0]  # the second epoch of seed 0 is not the first of seed 1
    assert len({tuple(o[0]) for o in orders}) == 3


@pytest.mark.parametrize("threads", [0, 3])
def test_resume_is_exact(threads):
    reference = take(Batches(numbers(), 4, seed=1, threads=0), 20)
    for stop in (0, 1, 7):
        first = Batches(numbers(), 4, seed=1, threads=threads)
        assert take(first, stop) == reference[:stop]
        state = first.get_state()
        assert state == {"next_index": 4 * stop}
        second = Batches(numbers(), 4, seed=1, threads=threads)
        next(second)
        second.set_state(state)
        assert take(second, 20 - stop) == reference[stop:]
        assert take(first, 20 - stop) == reference[stop:]
        assert take(Batches(numbers(), 4, seed=1, start_step=stop), 3) == reference[stop : stop + 3]


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_the_global_batch_has_the_same_rows_on_any_number_of_hosts(hosts):
    reference = take(Batches(numbers(), 8, seed=3), 9)
    parts = [take(Batches(numbers(), 8, seed=3, rows=rows), 9) for rows in np.split(np.arange(8), hosts)]
    assert [[x for part in parts for x in part[s]] for s in range(9)] == reference


def test_rows_of_a_host_need_not_be_contiguous_and_hosts_may_share_rows():
    reference = take(Batches(numbers(), 8, seed=3), 9)
    for rows in ([0, 1, 4, 5], [6], list(range(8))):
        assert take(Batches(numbers(), 8, seed=3, rows=np.array(rows)), 9) == [[b[r] for r in rows] for b in reference]


def test_a_run_resumes_on_another_number_of_hosts():
    reference = take(Batches(numbers(), 8, seed=3), 9)
    before = [Batches(numbers(), 8, seed=3, rows=rows) for rows in np.split(np.arange(8), 4)]
    for iterator in before:
        take(iterator, 5)
    states = [iterator.get_state() for iterator in before]
    assert all(state == states[0] for state in states)
    after = [Batches(numbers(), 8, seed=3, rows=rows) for rows in np.split(np.arange(8), 2)]
    for iterator in after:
        iterator.set_state(states[0])
    rows = [take(iterator, 4) for iterator in after]
    assert [a + b for a, b in zip(*rows, strict=True)] == reference[5:]


def test_transform_on_digit_world():
    world = DigitWorld(WorldConfig(size=50))
    iterator = Batches(
        world, 16, 0, transform=lambda batch: {"image": batch["image"], "n": np.char.str_len(batch["text"]["prompt"])}
    )
    batch = next(iterator)
    assert batch["image"].shape == (16, 32, 32, 3) and batch["n"].shape == (16,)
    other = next(Batches(world, 16, 0, threads=0))
    np.testing.assert_array_equal(batch["image"], other["image"])


def test_a_batch_that_failed_is_read_again():
    broken = [True]

    def transform(batch):
        if broken[0] and 3 in batch["x"]:
            raise OSError("disk")
        return batch

    reference = take(Batches(numbers(), 4, seed=0), 12)
    iterator = Batches(numbers(), 4, seed=0, transform=transform)
    out = []
    with pytest.raises(OSError, match="disk"):
        out.extend(next(iterator)["x"].tolist() for _ in range(12))
    done = iterator.get_state()["next_index"] // 4
    assert 3 in reference[done]
    broken[0] = False
    assert take(iterator, 12 - done) == reference[done:]


@pytest.mark.parametrize("close", [True, False], ids=["closed", "dropped"])
def test_the_data_threads_stop(close):
    before = set(threading.enumerate())
    iterator = Batches(numbers(), 4, seed=0, threads=2)
    next(iterator)
    readers = set(threading.enumerate()) - before
    assert readers
    if close:
        iterator.close()
        iterator.close()  # closing twice is allowed
    else:
        del iterator
    for thread in readers:
        thread.join(10)
        assert not thread.is_alive()


def test_a_source_smaller_than_the_batch():
    assert sorted(take(Batches(numbers(3), 6, seed=0), 1)[0]) == [0, 0, 1, 1, 2, 2]


def test_in_order():
    parts = list(in_order(numbers(5), 2, transform=lambda b: {"y": 2 * b["x"]}))
    assert [part["y"].tolist() for part in parts] == [[0, 2], [4, 6], [8]]
    split = [[b["x"].tolist() for b in in_order(numbers(5), 2, numbers=range(k, 3, 4))] for k in range(4)]
    assert split == [[[0, 1]], [[2, 3]], [[4]], []]
    assert jax.tree.map(np.shape, next(iter(in_order(numbers(5), 5)))) == {"x": (5,)}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": []}, "no samples"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_arguments_of_batches(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Batches(**{"source": numbers(), "batch_size": 4, "seed": 0, **arguments})

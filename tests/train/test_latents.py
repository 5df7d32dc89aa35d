"""Arrays of several `encode` stages, concatenated."""

import numpy as np

from codi_jax.data.arrays import Arrays
from codi_jax.train.latents import concat_with_presence


def part(size, start, *names):
    """Moments and prompts that count up from `start`."""
    return {
        name: {
            "mean": np.arange(start, start + size, dtype=np.float32)[:, None] + np.zeros((1, width), np.float32),
            "prompt": np.full((size, 2), start, np.float32),
        }
        for width, name in enumerate(names, 1)
    }


def test_concat_with_presence_by_hand():
    a, b = part(2, 10, "text", "image"), part(3, 20, "text", "audio", "video")
    got = concat_with_presence([a, b])
    assert list(got) == ["text", "image", "audio", "video"]
    assert got["text"]["mean"].ravel().tolist() == [10, 11, 20, 21, 22]
    assert got["text"]["present"].tolist() == [1, 1, 1, 1, 1]
    assert got["image"]["mean"].tolist() == [[10, 10], [11, 11], [0, 0], [0, 0], [0, 0]]
    assert got["image"]["present"].tolist() == [1, 1, 0, 0, 0]
    assert got["audio"]["mean"].tolist() == [[0, 0], [0, 0], [20, 20], [21, 21], [22, 22]]
    assert got["video"]["prompt"].tolist() == [[0, 0], [0, 0], [20, 20], [20, 20], [20, 20]]
    assert got["video"]["present"].tolist() == [0, 0, 1, 1, 1]
    assert all(leaf.dtype == np.float32 for tree in got.values() for leaf in tree.values())
    sample = Arrays(got)[3]
    assert sample["text"]["mean"] == [21] and sample["image"]["present"] == 0


def test_a_single_part_is_unchanged_and_everything_is_present():
    a = part(4, 0, "text", "image")
    got = concat_with_presence([a])
    for name, tree in got.items():
        assert tree.pop("present").tolist() == [1] * 4
        assert tree.keys() == a[name].keys()
        for key, leaf in tree.items():
            np.testing.assert_array_equal(leaf, a[name][key])


def test_the_parts_are_not_modified():
    a, b = part(2, 10, "text"), part(2, 20, "text")
    concat_with_presence([a, b])
    assert all("present" not in tree for tree in (*a.values(), *b.values()))

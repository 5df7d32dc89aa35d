import dataclasses

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data import source
from codi_jax.data.source import SOURCES, make_source, read_batch, transform_rows


class Plain:
    """A minimal source."""

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"x": np.full(3, index), "text": {"caption": "word " * index}}


def test_read_batch_stacks_the_samples_of_any_source():
    batch = read_batch(Plain(), [4, 0])
    np.testing.assert_array_equal(batch["x"], [[4, 4, 4], [0, 0, 0]])
    assert batch["text"]["caption"].tolist() == ["word " * 4, ""]


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_rows_are_transformed_in_parts_one_for_each_core(monkeypatch, rows):
    monkeypatch.setattr(source, "available_cores", lambda: 3)
    parts = []

    def transform(batch):
        parts.append(len(batch["x"]))
        return {"y": 2 * batch["x"], "n": np.char.str_len(batch["text"])}

    batch = {"x": np.arange(3 * rows).reshape(rows, 3), "text": np.array([n * "a" for n in range(rows)])}
    out = transform_rows(transform, batch)
    np.testing.assert_array_equal(out["y"], 2 * batch["x"])
    np.testing.assert_array_equal(out["n"], np.arange(rows))
    assert len(parts) == min(rows, 3) and sum(parts) == rows


def test_make_source_by_name():
    assert set(SOURCES) == {"digit_world", "arrays", "tfds", "manifest", "webdataset", "arrayrecord", "mixture"}
    assert len(make_source({"name": "digit_world", "size": 7})) == 7
    with pytest.raises(
        ConfigError,
        match=r"config\.data\.name: no source 'digit_wrold' \(did you mean digit_world\?\); there are digit_world",
    ):
        make_source({"name": "digit_wrold"})
    with pytest.raises(ConfigError, match=r"config\.data\.sise: unknown key"):
        make_source({"name": "digit_world", "sise": 7})


@pytest.mark.usefixtures("restored_registries")
def test_a_source_from_outside_is_made_from_its_config():
    @dataclasses.dataclass(frozen=True)
    class CountConfig:
        size: int = 3

    @source.register("count", CountConfig)
    def count(config):
        return range(config.size)

    assert list(make_source({"name": "count", "size": 5})) == [0, 1, 2, 3, 4]
    with pytest.raises(ConfigError, match=r"config\.data\.sise: unknown key"):
        make_source({"name": "count", "sise": 7})

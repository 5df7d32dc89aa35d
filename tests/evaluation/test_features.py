"""Features in files: a stopped computation goes on, shares of processes are those of one, changes are noticed."""

import jax
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.evaluation import features
from codi_jax.evaluation.features import Contents, FeatureRows, compute_features
from tests.evaluation.made import silent

N = 7


class Squares:
    """i and i², and as many rows as i is long; stops at one sample."""

    modalities, features, joint, identity, options = ("text",), ("number", "square"), False, "squares", {}

    def __init__(self, stop=None):
        self.reads, self.sizes, self.stop = [], [], stop

    def read(self, modality, content):
        self.reads.append(content)
        if content == self.stop:
            raise ConfigError(f"{content}: damaged")
        return float(content)

    def __call__(self, modality, inputs):
        self.sizes.append(len(inputs))
        return {
            "number": [np.full((1 + int(x) % 2, 1), x, np.float32) for x in inputs],
            "square": [np.full((1 + int(x) % 2, 2), x * x, np.float32) for x in inputs],
        }


def compute(folder, network=None, size=2, progress=silent, **made_of):
    contents = Contents([str(i) for i in range(N)], lambda key: key)
    return compute_features(folder, network or Squares(), "text", contents, made_of, size, progress, "squares")


def check(rows):
    assert rows.counts.tolist() == [1, 2, 1, 2, 1, 2, 1]
    assert rows.samples.tolist() == [0, 1, 1, 2, 3, 3, 4, 5, 5, 6]
    np.testing.assert_array_equal(rows.values["number"][:, 0], rows.samples)
    np.testing.assert_array_equal(rows.values["square"], np.square(rows.samples)[:, None].repeat(2, 1))
    np.testing.assert_array_equal(rows.means("square")[:, 0], np.square(np.arange(N)))


def test_all_batches_have_one_size_and_rows_are_memory_maps(tmp_path):
    network, calls = Squares(), []
    rows = compute(tmp_path, network, progress=lambda *call: calls.append(call))
    check(rows)
    assert network.sizes == [2, 2, 2, 2] and network.reads == sorted(network.reads)
    assert all(isinstance(x, np.memmap) and x.dtype == np.float32 for x in rows.values.values())
    assert calls == [("squares", done, 7) for done in (0, 2, 4, 6, 7)]
    assert sorted(x.name for x in tmp_path.iterdir()) == ["counts.npy", "made_of.json", "number.npy", "square.npy"]
    again = Squares()
    check(compute(tmp_path, again))
    assert not again.reads


def test_a_stopped_computation_goes_on_and_equals_one_that_was_not(tmp_path):
    with pytest.raises(ConfigError, match="5: damaged"):
        compute(tmp_path / "a", Squares(stop="5"))
    assert sorted(x.name for x in (tmp_path / "a").glob("part-*")) == ["part-00000.npz", "part-00001.npz"]
    network = Squares()
    check(compute(tmp_path / "a", network))
    assert set(network.reads) == {"4", "5", "6"}
    compute(tmp_path / "b")
    for path in (tmp_path / "b").iterdir():
        assert path.read_bytes() == (tmp_path / "a" / path.name).read_bytes()


def test_shares_of_processes_are_the_batches_of_one(tmp_path, monkeypatch):
    contents = Contents([str(i) for i in range(N)], lambda key: key)
    monkeypatch.setattr(features.distributed, "is_multiprocess", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    read = []
    folder = tmp_path / "two"
    folder.mkdir()
    for process in (1, 0):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        network = Squares()
        features._compute_parts(folder, network, "text", contents, 2, silent, "")
        read.append(network.reads)
    assert read == [["2", "3", "6"], ["0", "1", "4", "5"]]
    features._join(folder, ("number", "square"), 4)
    monkeypatch.undo()
    compute(tmp_path / "one")
    for name in ("number.npy", "square.npy", "counts.npy"):
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


@pytest.mark.parametrize("change", [{"size": 3}, {"files": "others"}])
def test_what_changed_is_computed_again(tmp_path, change):
    compute(tmp_path, files="these")
    network = Squares()
    check(compute(tmp_path, network, **{"files": "these", **change}))
    assert len(network.reads) == N
    with pytest.raises(ConfigError):
        compute(tmp_path, Squares(stop="3"), files="third")
    assert not (tmp_path / "counts.npy").exists()  # those of other files are gone


def test_damaged_batches_and_features_that_are_not_finite_are_named(tmp_path):
    with pytest.raises(ConfigError):
        compute(tmp_path / "a", Squares(stop="5"))
    (tmp_path / "a" / "part-00001.npz").write_bytes(b"PK")
    with pytest.raises(ConfigError, match=r"part-00001\.npz: damaged .*; delete it"):
        compute(tmp_path / "a")

    class Infinite(Squares):
        def __call__(self, modality, inputs):
            return {"number": [np.array([np.inf if x == 3 else x]) for x in inputs], "square": [np.ones(1)] * 2}

    with pytest.raises(ConfigError, match=r"^b: number of sample number 3 is not finite"):
        compute(tmp_path / "b", Infinite())


def test_the_mean_of_single_rows_is_the_rows():
    rows = np.ones((3, 2), np.float32)
    assert FeatureRows({"x": rows}, np.ones(3, np.int64)).means("x") is rows

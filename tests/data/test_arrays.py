import zipfile

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.data.arrays import Arrays
from codi_jax.data.source import make_source, read_batch


def test_arrays():
    source = Arrays({"z": np.arange(12).reshape(6, 2), "deep": {"t": np.arange(6.0)}})
    assert len(source) == 6
    assert source[2]["z"].tolist() == [4, 5] and source[2]["deep"]["t"] == 2
    batch = read_batch(source, [5, 1])
    assert batch["z"].tolist() == [[10, 11], [2, 3]] and batch["deep"]["t"].tolist() == [5, 1]
    for wrong in ({"a": np.zeros(3), "b": np.zeros(4)}, {"a": np.zeros(())}, {}):
        with pytest.raises(ConfigError, match="one length"):
            Arrays(wrong)


def test_arrays_from_a_file(tmp_path):
    path = tmp_path / "latents.npz"
    np.savez(path, z=np.arange(4))
    assert make_source({"name": "arrays", "path": str(path)})[3] == {"z": 3}
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 but no more")
    for name in ("bad.npz", "none.npz"):
        with pytest.raises(ConfigError, match="not a readable"):
            make_source({"name": "arrays", "path": str(tmp_path / name)})


def test_an_npz_with_a_damaged_header_is_one_line(tmp_path):
    """numpy raises tokenize.TokenError, which is no ValueError."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("z.npy", b"\x93NUMPY\x01\x00\x0a\x00\x00(((((((((")
    with pytest.raises(ConfigError, match=r"x\.npz: not a readable \.npz file of arrays"):
        make_source({"name": "arrays", "path": str(tmp_path / "x.npz")})

"""Files of torch before 1.6: read as views; what is damaged is one line."""

import base64
import pickle
import struct
import zlib

import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.interop.tensors import open_state
from tests.interop.pth_files import GOOD, LEGACY_BY_TORCH, PROTO2, STORAGE, VALUES, WEIGHT, same, text

MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2)
MACHINE = pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}, 2)
ELEMENTS = struct.pack("<q", 6) + WEIGHT.tobytes()


def legacy(program, keys=("0",), elements=ELEMENTS, begins=MAGIC + MACHINE):
    return begins + PROTO2 + program + b"." + pickle.dumps(list(keys), 2) + elements


@pytest.fixture
def opened(tmp_path):
    def open_bytes(data):
        (tmp_path / "a.pth").write_bytes(data)
        return open_state(tmp_path / "a.pth")

    return open_bytes


def test_a_file_written_by_torch_is_read(opened):
    state = opened(zlib.decompress(base64.b64decode(LEGACY_BY_TORCH)))
    expected = {**VALUES, "param": np.array([0.5, -1], np.float32)}
    assert list(state) == [f"generator.{key}" for key in expected]
    for key, value in expected.items():
        assert same(state[f"generator.{key}"], value), key
    assert np.shares_memory(state["generator.tied"], state["generator.weight"])


def test_dicts_and_strings_of_python_2_are_read(opened):
    """OrderedDict([["w", tensor]]), with strings of bytes."""
    ordered = b"ccollections\nOrderedDict\n](](U\x01w" + GOOD + b"ee\x85R"
    assert same(opened(legacy(ordered))["w"], WEIGHT)


def test_extras_are_skipped_and_code_is_refused(opened):
    weight = text("w") + GOOD + b"s"
    extra = text("x") + b"cmine\nConfig\n)R" + b"s"
    assert list(opened(legacy(b"}" + extra + weight))) == ["w"]
    with pytest.raises(ConfigError, match=r"refused: it refers to os\.system, but .*; save its tensors alone"):
        opened(legacy(b"}" + text("x") + b"cos\nsystem\n" + text("true") + b"\x85Rs" + weight))


WEIGHTS = b"}" + text("w") + GOOD + b"s"
PART = STORAGE.removesuffix(b"tQ") + b"(" + text("1") + b"K\x00K\x02ttQ"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (legacy(WEIGHTS, elements=ELEMENTS[:-1]), "reaches beyond the end of the file"),
        (legacy(WEIGHTS, elements=b""), "reaches beyond the end|the storage of w is"),
        (legacy(WEIGHTS, elements=ELEMENTS + b"x"), "bytes at its end belong to no tensor"),
        (
            legacy(WEIGHTS, elements=struct.pack("<q", 5) + WEIGHT.tobytes()[:20]),
            "the storage of w is 6 float32 in 20 bytes",
        ),
        (legacy(WEIGHTS, elements=b"\xff" * 32), "reaches beyond the end of the file"),
        (legacy(WEIGHTS, keys=()), "bytes at its end|the storage 0 of w is missing"),
        (legacy(WEIGHTS, keys=("1",)), "it has the storage 1 for no tensor"),
        (legacy(WEIGHTS, keys=("0", "0")), "for no tensor, or twice"),
        (legacy(WEIGHTS, keys=(0,)), "it has no list of its storages"),
        (legacy(WEIGHTS.replace(STORAGE, PART)), "a storage in its pickle is not of the form"),
        (legacy(WEIGHTS, begins=MAGIC + pickle.dumps({"little_endian": False}, 2)), "not little-endian"),
        (legacy(WEIGHTS, begins=MAGIC[:-4] + b"K\x07." + MACHINE), "its version 7 of the legacy PyTorch format"),
        (legacy(WEIGHTS)[: len(MAGIC + MACHINE) + 6], "its pickle is truncated"),
        (legacy(b"}"), "it has the storage 0 for no tensor"),
    ],
)
def test_a_damaged_file_is_one_line(opened, data, message):
    with pytest.raises(ConfigError, match=message) as error:
        opened(data)
    assert "\n" not in str(error.value)


def test_any_damage_gives_arrays_or_one_line(opened):
    whole = zlib.decompress(base64.b64decode(LEGACY_BY_TORCH))
    rng = np.random.default_rng(0)
    damaged = [whole[:end] for end in range(0, len(whole), 7)]
    for _ in range(300):
        data = bytearray(whole)
        for at in rng.integers(0, len(whole), rng.integers(1, 4)):
            data[at] = rng.integers(0, 256)
        damaged.append(bytes(data))
    read = 0
    for data in damaged:
        try:
            state = opened(data)
        except ConfigError as error:
            assert "\n" not in str(error)
        else:
            read += all(value.nbytes <= len(whole) for value in state.values())
    assert 0 < read < len(damaged)

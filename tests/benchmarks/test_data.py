"""The benchmark of readers on few files: every reader yields the decoded files; no claim about times."""

import json
import sys

import numpy as np
import pytest

from benchmarks import data
from benchmarks.data_files import decode, make
from benchmarks.data_ours import Readers


@pytest.mark.skipif(sys.platform != "linux", reason="CPU affinity")
def test_rows_of_two_readers(tmp_path, capsys):
    file = tmp_path / "data.json"
    main = ["--readers=manifest,arrays", "--modalities=image", "--samples=.05", "--batch=4", "--batches=1"]
    data.main([*main, "--repeats=1", "--stages=", f"--json={file}"])
    rows = json.loads(file.read_text())["rows"]
    assert [(row["reader"], row["modality"]) for row in rows] == [("manifest", "image"), ("arrays", "latents")]
    assert all(row["ratios"]["bare"] > 0 for row in rows)
    assert "lowest ratio to webdataset with PyTorch not measured" in capsys.readouterr().out


@pytest.mark.parametrize("modality", ["text", "image", "audio", "video"])
def test_readers_and_the_bare_loop_read_the_same(tmp_path, modality):
    make(tmp_path / modality, modality, 2, shards=2)
    readers = Readers(tmp_path, 2, 0)
    first = sorted((tmp_path / modality).glob("000000.*"))[0]
    expected = decode(modality, first.read_bytes())
    for reader in ("manifest", "webdataset", "arrayrecord"):
        sample = readers.source(reader, modality)[0][modality]
        np.testing.assert_array_equal(sample["caption"] if modality == "text" else sample, expected)

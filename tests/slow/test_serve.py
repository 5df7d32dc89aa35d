import json

import pytest

from benchmarks import serve


@pytest.mark.slow
def test_a_hundred_clients_and_hostile_files_at_once(tmp_path, capsys):
    pytest.importorskip("gradio", reason="needs gradio: the extra `serve`")
    path = tmp_path / "serve.json"
    with capsys.disabled():
        assert serve.main(["--clients", "100", "--steps=2", "--hostile=24", f"--json={path}"]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert row["answered"] == 100 and row["hostile_refused"] == 24

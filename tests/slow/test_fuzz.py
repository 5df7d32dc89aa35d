import json

import pytest

from benchmarks import fuzz


@pytest.mark.slow
def test_damaged_files_of_every_kind_are_read_or_refused_in_one_line(tmp_path, capsys):
    path = tmp_path / "fuzz.json"
    with capsys.disabled():
        assert fuzz.main(["--mutants=250", f"--json={path}"]) == 0
    states = json.loads(path.read_text())["readers"]
    assert states.keys() == fuzz.readers().keys()
    assert all(sum(state["outcomes"].values()) == 250 for state in states.values())
    assert all(state["outcomes"]["read"] < 250 for state in states.values())

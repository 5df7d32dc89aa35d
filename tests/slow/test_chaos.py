import pytest

from codi_jax import cli


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "kills"), [(1, 12), (2, 3)])
def test_random_faults_change_no_result(processes, kills, tmp_path, capsys):
    with capsys.disabled():
        cli.main(["chaos", f"--workdir={tmp_path}", f"--kills={kills}", f"--processes={processes}"])

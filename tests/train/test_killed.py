"""Promise 1 from the command line: SIGKILL in every stage, the same command again, the same numbers.

Slow: trains the whole recipe twice, in separate processes.
"""

import random
import signal
import time

import pytest

from codi_jax.checkpoint import load_params
from codi_jax.train.recipe import load_run
from tests import toy
from tests.command import finish, start

CONFIG = "--config=digit_world:tiny,modalities="


def killed_after(workdir, cache, sign, *arguments) -> bool:
    """Runs the command and kills it when the file `sign` exists; False if it ended before."""
    process = start(workdir, cache, *arguments)
    while process.poll() is None:
        if sign.exists() and sign.stat().st_size:
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.002)
    return False


def assert_same_parameters(reference, killed):
    run = load_run(reference)
    for name in run.order:
        if run.stage(name).objective == "encode":
            continue
        a, b = (load_params(str(d / "stages" / name / "params")) for d in (reference, killed))
        assert toy.same(a, b), name


@pytest.mark.slow
@pytest.mark.parametrize("modalities, jobs", [("text+image", 1), ("text+image+audio+video", 2)])
def test_a_recipe_killed_in_every_stage_ends_bit_identical(modalities, jobs, tmp_path):
    train = ("train", CONFIG + modalities, "--quiet", f"--jobs={jobs}")
    reference, killed, cache = tmp_path / "reference", tmp_path / "killed", tmp_path / "compiled"
    finish(reference, cache, *train)
    finish(reference, cache, "evaluate")
    run = load_run(reference)
    for name in run.order:
        if run.stage(name).objective == "encode":
            signs = [killed / "stages" / name]
        else:  # the first numbers; the first checkpoint
            directory = killed / "stages" / name
            signs = [directory / "metrics.jsonl", directory / "checkpoints" / "00000002" / "checkpoint.json"]
        assert any([killed_after(killed, cache, sign, *train) for sign in signs]), name
    finish(killed, cache, *train)
    finish(killed, cache, "evaluate")
    assert_same_parameters(reference, killed)
    assert (reference / "metrics.json").read_bytes() == (killed / "metrics.json").read_bytes()


KILLS = 10


@pytest.mark.slow
def test_ten_kills_at_random_times_of_two_jobs_end_bit_identical(tmp_path):
    """The kills are spread over the run: each comes a random time after a process has resumed training."""
    train = ("train", "--config=digit_world:tiny", "--quiet", "--jobs=2")
    reference, killed, cache = tmp_path / "reference", tmp_path / "killed", tmp_path / "compiled"
    finish(reference, cache, *train)
    begun = time.monotonic()
    finish(tmp_path / "again", cache, *train)  # everything is compiled, so this takes as long as the killed run
    share = (time.monotonic() - begun) / (KILLS + 3)
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(killed, cache, *train)
        before = {path: path.stat().st_mtime_ns for path in killed.glob("stages/*/*")}
        while process.poll() is None and before == {p: p.stat().st_mtime_ns for p in killed.glob("stages/*/*")}:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2 * share))
        assert process.poll() is None, f"the run ended after {kills} kills"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    finish(killed, cache, *train)
    assert_same_parameters(reference, killed)

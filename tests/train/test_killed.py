"""Promise 1, as a user meets it: SIGKILL in every stage, the same command again, the same numbers.

Slow: the whole recipe is run twice in processes of its own.
"""

import random
import signal
import time

import pytest

from codi_jax.checkpoint import load_params
from codi_jax.train.recipe import load_run
from tests import toy
from tests.command import finish, start

CONFIG = "--config=configs/four.py:tiny,modalities="


def killed_after(workdir, cache, sign, *arguments) -> bool:
    """Runs until the file `sign` is there, and kills; False if it was done before."""
    process = start(workdir, cache, *arguments)
    while process.poll() is None:
        if sign.exists() and sign.stat().st_size:
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.002)
    return False


def assert_same_parameters(whole, broken):
    run = load_run(whole)
    for name in run.order:
        if run.stage(name).objective == "encode":
            continue
        a, b = (load_params(str(d / "stages" / name / "params")) for d in (whole, broken))
        assert toy.same(a, b), name


@pytest.mark.slow
@pytest.mark.parametrize("modalities, jobs", [("text+image", 1), ("text+image+audio+video", 2)])
def test_killed_in_every_stage_the_recipe_ends_in_the_same_bits(modalities, jobs, tmp_path):
    train = ("train", CONFIG + modalities, "--quiet", f"--jobs={jobs}")
    whole, broken, cache = tmp_path / "whole", tmp_path / "broken", tmp_path / "compiled"
    finish(whole, cache, *train)
    finish(whole, cache, "evaluate")
    run = load_run(whole)
    for name in run.order:
        if run.stage(name).objective == "encode":
            signs = [broken / "stages" / name]
        else:  # the first numbers; the first checkpoint
            at = broken / "stages" / name
            signs = [at / "metrics.jsonl", at / "checkpoints" / "00000002" / "checkpoint.json"]
        assert any([killed_after(broken, cache, sign, *train) for sign in signs]), name
    finish(broken, cache, *train)
    finish(broken, cache, "evaluate")
    assert_same_parameters(whole, broken)
    assert (whole / "metrics.json").read_bytes() == (broken / "metrics.json").read_bytes()


KILLS = 10


@pytest.mark.slow
def test_ten_kills_at_random_moments_of_two_jobs_leave_the_same_bits(tmp_path):
    """The moments are spread over the run: each kill comes a random time after a process begins to train again."""
    train = ("train", "--config=configs/four.py:tiny", "--quiet", "--jobs=2")
    whole, broken, cache = tmp_path / "whole", tmp_path / "broken", tmp_path / "compiled"
    finish(whole, cache, *train)
    begun = time.monotonic()
    finish(tmp_path / "again", cache, *train)  # everything is compiled: as long as the run that is killed takes
    share = (time.monotonic() - begun) / (KILLS + 3)
    rng, kills = random.Random(0), 0
    while kills < KILLS:
        process = start(broken, cache, *train)
        before = {path: path.stat().st_mtime_ns for path in broken.glob("stages/*/*")}
        while process.poll() is None and before == {p: p.stat().st_mtime_ns for p in broken.glob("stages/*/*")}:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 2 * share))
        assert process.poll() is None, f"the run ended after {kills} kills"
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    finish(broken, cache, *train)
    assert_same_parameters(whole, broken)

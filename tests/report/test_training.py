"""Training times of the report: wall time counts parallel stages once, core time is separate."""

import re
from types import SimpleNamespace

from codi_jax.report.training import costs, trained_in

RUN = SimpleNamespace(order=("a", "b", "c"), stage=lambda name: SimpleNamespace(objective="ldm"))


def spent(begin, end, cores):
    total = end - begin
    sessions = [[1e9 + begin, 1e9 + end]]
    return {"start": 1.0, "step": total - 1.0, "total": total, "core_seconds": cores, "sessions": sessions}


# a and b in parallel, c a minute after them.
STAGES = {"a": spent(0, 600, 590), "b": spent(10, 610, 580), "c": spent(670, 730, 50)}


def table(stages):
    evaluate = {"total": 60.0, "core_seconds": 110.0, "peak_memory_bytes": 1 << 30}
    html = costs(RUN, {"stages": stages, "evaluate": evaluate})
    lines = [re.findall(r"<t[hd][^>]*>([^<]*)<", line) for line in html.split("<tr>")[1:]]
    return {line[0]: line[1:] for line in lines}


def test_wall_time_counts_parallel_stages_once():
    assert trained_in(STAGES) == "trained in 11m10s (20m20s of core time)"
    cells = table(STAGES)
    assert cells["stage"] == [
        "objective",
        "one step, ms",
        "step",
        "start",
        "wall time",
        "core time",
    ]  # in decreasing order of time
    assert cells["a"][-2:] == ["600.0", "590.0"]
    assert cells["training"][-2:] == ["670.0", "1220.0"]
    assert cells["evaluation"][-2:] == ["60.0", "110.0"]
    assert cells["total"][-2:] == ["12m10s", "22m10s"]


def test_stages_without_recorded_sessions_have_no_wall_time():
    old = {**STAGES, "b": {"step": 600.0, "total": 600.0}}
    assert trained_in(old) == "trained"
    cells = table(old)
    assert cells["b"][-2:] == ["600.0", "–"]
    assert cells["training"][-2:] == cells["total"][-2:] == ["–", "–"]


def test_costs_of_a_run_without_an_evaluation():
    html = costs(RUN, {"stages": STAGES})
    assert ">training<" in html and "670.0" in html
    assert ">evaluation<" not in html and ">total<" not in html and "Peak memory" not in html


def test_a_step_takes_the_time_of_all_steps_over_their_number():
    stages = {
        "a": {**STAGES["a"], "reached": 90, "lost_steps": 10, "step": 5.0},  # ten steps were taken twice
        "b": {"encode": 3.0, "total": 3.0, "reached": 0},  # an encode stage takes none
    }
    cells = table(stages)
    assert cells["a"][1] == "50.0" and cells["b"][1] == "–"

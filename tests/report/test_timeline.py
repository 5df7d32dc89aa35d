"""The time line: bars at their share of the training, a process for each of the stages that ran at the same time."""

import re
from types import SimpleNamespace

import pytest

from codi_jax.report.timeline import lanes, timeline
from codi_jax.train.events import EventWriter

T = 1_750_000_000.0  # 2025-06-15 15:06:40 UTC


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(order=("a", "b", "c", "<d>"), directory=lambda name: tmp_path / name.strip("<>"))


def cells(html):
    """Stage -> the texts of its cells, and the [left, width] of its bars in percent."""
    out = {}
    for line in html.split("<tr>")[2:]:
        name = re.search(r'<th scope="row">(.*?)</th>', line)[1]
        texts = re.findall(r"<td>([^<]*)</td>", line)
        bars = re.findall(r"left:([\d.]+)%;width:([\d.]+)%", line)
        out[name] = texts, [[float(x) for x in bar] for bar in bars]
    return out


def test_stages_have_bars_on_the_time_of_the_training(run):
    costs = {
        "a": {"sessions": [[T, T + 25]]},
        "b": {"sessions": [[T + 10, T + 50], [T + 75, T + 100]]},  # interrupted once
        "<d>": {"sessions": [[T + 25, T + 60]]},
    }
    html = timeline(run, costs)
    found = cells(html)
    assert list(found) == ["a", "b", "&lt;d&gt;"]  # in the order of their start; c did not run
    assert found["a"] == (["0s to 25s", "process 1", "–"], [[0, 25]])
    assert found["b"] == (["10s to 1m40s", "process 2", "–"], [[10, 40], [75, 25]])
    assert found["&lt;d&gt;"] == (["25s to 1m00s", "process 1", "–"], [[25, 35]])
    assert "2025-06-15 15:06 UTC" in html and "0 to 1m40s" in html and "Not recorded" not in html


def test_machines_are_those_of_the_event_files(run, monkeypatch):
    for host in ("pod-0.example.org", "pod-1"):
        monkeypatch.setattr("socket.gethostname", lambda host=host: host)
        run.directory("a").mkdir(exist_ok=True)
        EventWriter(run.directory("a")).close()
    html = timeline(run, {"a": {"sessions": [[T, T + 1]]}, "b": {"sessions": [[T, T + 1]]}})
    assert sorted(cells(html)["a"][0][-1].split(", ")) == ["pod-0.example.org", "pod-1"]
    assert cells(html)["b"][0][-1] == "–"


def test_stages_of_earlier_versions_are_named(run):
    html = timeline(run, {"a": {"sessions": [[T, T + 1]]}, "b": {"total": 3.0}})
    assert "Not recorded: b." in html and list(cells(html)) == ["a"]
    assert "is not recorded" in timeline(run, {"b": {"total": 3.0}}) and "is not recorded" in timeline(run, {})


def test_a_session_without_length_has_a_place(run):
    assert cells(timeline(run, {"a": {"sessions": [[T, T]]}}))["a"][1] == [[0, 0]]


def test_lanes_are_reused_when_free():
    sessions = {"a": [[0, 4]], "b": [[1, 2]], "c": [[2, 3]], "d": [[2.5, 6]], "e": [[4, 5]]}
    assert lanes(sessions) == {"a": 1, "b": 2, "c": 2, "d": 3, "e": 1}

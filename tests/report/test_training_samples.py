"""Samples of a stage while it trained: the first and the last step are shown, and nothing is invented."""

from pathlib import Path
from types import SimpleNamespace

from codi_jax.report.training_samples import spaced_out, training_samples

STEPS = (100, 200, 300, 400, 500, 600, 700)


def make_run(folder, steps):
    modality = SimpleNamespace(suffix=".txt", html=lambda value: f"<i>{value}</i>")
    for step in steps:
        made = folder / "ldm.text" / "samples" / f"{step:08d}"
        made.mkdir(parents=True)
        for i in range(3):
            (made / f"prompt_{i}.txt").write_text(f"p{i}")
            (made / f"text_{i}.txt").write_text(f"step{step} sample{i}")
    return SimpleNamespace(
        order=("ldm.text", "joint.text"),
        directory=lambda name: folder / name,
        stage=lambda name: SimpleNamespace(samples=SimpleNamespace(prompt="text", n=3) if name == "ldm.text" else None),
        codi=type("Codi", (), {"modalities": {"text": modality}, "__getitem__": lambda self, name: modality})(),
    )


def test_first_and_last_and_some_between():
    folders = [Path(str(step)) for step in STEPS]
    assert [int(path.name) for path in spaced_out(folders, 4)] == [100, 300, 500, 700]
    assert spaced_out(folders[:3], 4) == folders[:3] and spaced_out([], 4) == []
    assert [int(path.name) for path in spaced_out(folders, 2)] == [100, 700]


def test_a_stage_has_a_line_for_each_of_these_steps(tmp_path):
    html = training_samples(make_run(tmp_path, STEPS), 2)
    for step in (100, 300, 500, 700):
        assert f"text, step {step}<" in html and f"step{step} sample1" in html
    assert "step200" not in html and "sample2" not in html and html.count("p0") == 1
    assert "After 700 steps at last" in html and 'id="samples"' in html


def test_without_samples_the_page_says_how_to_get_them(tmp_path):
    html = training_samples(make_run(tmp_path, ()), 8)
    assert "This run has stored none" in html and "--config.stages.ldm.image.samples=" in html and "<figure" not in html


def test_without_room_the_page_says_where_they_are(tmp_path):
    html = training_samples(make_run(tmp_path, STEPS), 0)
    assert "left out" in html and "stages/NAME/samples/" in html and "<figure" not in html

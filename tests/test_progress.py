"""Progress of long work on stderr."""

from codi_jax import progress as lines


def test_steps_and_what_is_left_of_them(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 12.0, 12.5, 16.0])
    monkeypatch.setattr(lines.time, "perf_counter", lambda: next(clock))
    progress = lines.ProgressLines()
    progress("reading text_unet")
    for done in range(4):
        progress("sampling", done, 4)
    assert capsys.readouterr().err.splitlines() == [
        "    1s  reading text_unet",
        "    2s  sampling 0/4",
        "   12s  sampling 1/4",  # which compiled; the next comes within a second
        "   16s  sampling 3/4, 2s left",
    ]


def test_a_second_generation_has_a_rate_of_its_own(capsys, monkeypatch):
    clock = iter([0.0, 1.0, 2.0, 12.0, 13.0, 50.0, 60.0, 62.0])
    monkeypatch.setattr(lines.time, "perf_counter", lambda: next(clock))
    progress = lines.ProgressLines()
    for done in range(4):
        progress("sampling", done, 8)
    for done in range(3):
        progress("sampling", done, 8)
    assert capsys.readouterr().err.splitlines()[4:] == [
        "   50s  sampling 0/8",
        " 1m00s  sampling 1/8",
        " 1m02s  sampling 2/8, 12s left",
    ]


def test_the_same_step_twice_or_an_earlier_one_has_no_rate(capsys, monkeypatch):
    clock = iter([0.0, 2.0, 4.0, 6.0, 8.0, 10.0])
    monkeypatch.setattr(lines.time, "perf_counter", lambda: next(clock))
    progress = lines.ProgressLines()
    for activity, done in (("a", 3), ("a", 3), ("b", 1), ("b", 1), ("b", 2)):
        progress(activity, done, 4)
    assert capsys.readouterr().err.splitlines() == [
        "    2s  a 3/4",
        "    4s  a 3/4",
        "    6s  b 1/4",
        "    8s  b 1/4",
        "   10s  b 2/4, 8s left",
    ]

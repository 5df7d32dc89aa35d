"""The best and worst numbers: those farthest from chance, with what they have to be read with, in whatever order."""

import json

import pytest

from codi_jax.digit_world.report.findings import best_and_worst, candidates


def row(accuracy, chance=0.1, **more):
    interval = [max(accuracy - 0.05, 0), min(accuracy + 0.05, 1)]
    return {"accuracy": accuracy, "chance": chance, "interval": interval, "ceiling": 0.95, "shuffled": 0.11, **more}


def agree(joint, chance=0.1, independent=0.12):
    return {"joint": joint, "chance": chance, "independent": independent, "shuffled": 0.09, "interval": [0.3, 0.7]}


def cell(paired=True, **factors):
    return {"n": 64, "paired": paired, "factors": factors}


def sync(share):
    return {"n": 32, "same_frame": share, "same_frame_interval": [0.1, 0.4]}


METRICS = {
    "n": 64,
    "matrix": {
        "text->image": cell(digit=row(0.9), colour=row(1.0, 0.2)),
        "image->text": cell(paired=False, digit=row(0.8), colour=row(0.99, 0.2)),
        "text->audio": cell(digit=row(0.7), voice=row(0.47, 0.5)),
    },
    "held_out": {"text->image": cell(digit=row(0.6), colour=row(0.95, 0.2))},
    "joint": {
        "text+image": {"n": 64, "trained": True, "digit": agree(0.85), "colour": agree(0.97, 0.2)},
        "text+audio+image": {"n": 64, "trained": False, "digit": agree(0.3, 0.01), "voice": agree(0.49, 0.5)},
    },
    "sync": {
        "real": sync(0.99),
        "sets": {"audio+video": {"joint": sync(0.2), "independent": sync(0.05), "chance": {"same_frame": 0.1}}},
    },
}


def lines(found):
    return [
        f"{of.before}{of.value}{of.after} {of.beside} #{of.section}".replace("\N{NO-BREAK SPACE}", " ") for of in found
    ]


def test_the_best_and_the_worst_are_the_farthest_from_chance_of_different_factors():
    best, worst = (lines(found) for found in best_and_worst(METRICS))
    assert best == [
        "Image prompted by text shows the colour of the prompt in 1.0 of 64 samples (judge: packaged). "
        "95 % interval 95 % to 100 %; chance 20 %; prompts of other samples 11 %; real samples 95 %. #matrix",
        "Image prompted by text shows the digit of the prompt in 0.9 of 64 samples (judge: packaged). "
        "95 % interval 85 % to 95 %; chance 10 %; prompts of other samples 11 %; real samples 95 %. #matrix",
        "In audio and video generated together, the audio clicks in the frame of the bounce in 0.2 of 32 samples "
        "(measured without a network). 95 % interval 10 % to 40 %; chance 10 %; each alone 5 %; real samples 99 %. "
        "#in-step",
    ]
    assert [line.split(" in 0.")[1][:2] for line in worst] == ["47", "3 ", "95"]
    assert worst[1] == (
        "Without a prompt, text, audio and image generated together agree on the digit in 0.3 of 64 samples (judges: "
        "packaged; never trained as a set). 95 % interval 30 % to 70 %; chance 1 %; each alone 12 %; of "
        "different samples 9 %. #together"
    )
    assert worst[2].endswith("#held-out") and "combinations held out of training" in worst[2]


def test_no_number_is_in_both_lists():
    for few in (
        {"matrix": {"text->image": cell(digit=row(0.9))}},
        {"matrix": {"text->image": METRICS["matrix"]["text->image"]}},
    ):
        best, worst = best_and_worst({"n": 64, **few})
        assert best and len(best) + len(worst) == len(candidates({"n": 64, **few})) and not set(best) & set(worst)
    assert best_and_worst({"n": 64, "matrix": {}, "joint": {}}) == ([], [])


def test_the_order_of_the_file_does_not_matter():
    again = json.loads(json.dumps(METRICS, sort_keys=True))
    assert best_and_worst(again) == best_and_worst(METRICS)


def test_outside_judges_are_believed_first():
    read = {
        "n": 16,
        "judges": {"image": "a <recogniser>"},
        "matrix": {"text->image": {"n": 16, "factors": {"digit": row(0.55)}, "all": None}},
        "joint": {"text+image": {"n": 16, "digit": agree(0.4)}},
    }
    every = lines(of.finding for of in candidates({**METRICS, "pretrained": read}))
    assert any("digit of the prompt in 0.55 of 16 samples (judge: a <recogniser>)" in line for line in every)
    assert any("on the digit in 0.4 of 16 samples (judges: outside)" in line for line in every)
    assert not any("prompted by text shows the digit of the prompt in 0.9" in line for line in every)
    old = {"n": 16, "judges": {"image": "network"}, "matrix": {"text->image": {"accuracy": 0.5, "ceiling": 0.9}}}
    every = lines(of.finding for of in candidates({**METRICS, "pretrained": old}))  # has no chance to compare with
    assert any("digit of the prompt in 0.9 of 64 samples (judge: packaged)" in line for line in every)


def test_a_number_whose_chance_is_1_is_not_ranked():
    assert candidates({"n": 4, "matrix": {"text->image": cell(digit=row(1.0, 1.0))}}) == []


@pytest.mark.parametrize("missing", ["interval", "shuffled"])
def test_files_of_earlier_versions_lack_intervals_and_controls(missing):
    old = row(0.9)
    del old[missing]
    (found,) = candidates({"n": 4, "matrix": {"text->image": cell(digit=old)}})
    assert ("no interval recorded" in found.finding.beside) == (missing == "interval")
    assert ("prompts of other samples" in found.finding.beside) == (missing != "shuffled")

"""The data sets of the suite: captions of one file together, the right split, clear refusals."""

import pytest

from codi_jax.config import ConfigError
from codi_jax.evaluation.suite.datasets import modalities_of, open_dataset, parse_datasets, words
from tests.evaluation.suite import sets

N = 3


def refused(name, path):
    with pytest.raises(ConfigError) as error:
        open_dataset(name, str(path))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_image_of_coco_has_all_its_captions(tmp_path):
    found = open_dataset("coco", str(sets.coco(tmp_path, N)))
    assert found.modalities == modalities_of(found) == ("text", "image") and len(found) == N
    assert found.captions(found.keys[0]) == [sets.captions(N)[0] + more for more in ("", " now", " again")]


def test_rows_of_one_clip_of_audiocaps_are_captions_of_one_sample(tmp_path):
    found = open_dataset("audiocaps", str(sets.audiocaps(tmp_path, N)))
    assert len(found) == N and found.modalities == ("text", "audio")
    assert found.captions(found.keys[1]) == [sets.captions(N)[1], sets.captions(N)[1] + " again"]
    assert found.content("audio", found.keys[1]).name.endswith("rqfQRErjf01_30.wav")


def test_msrvtt_is_its_test_split_with_middle_frames_and_soundtracks(tmp_path):
    found = open_dataset("msrvtt", str(sets.msrvtt(tmp_path, N)))
    assert [key.split("/")[-1] for key in found.keys] == ["video0", "video1"]
    assert modalities_of(found) == ("text", "video", "image", "audio")
    assert len(found.captions(found.keys[0])) == 2


def test_ucf101_is_a_folder_of_classes_or_a_list_of_videos_in_it(tmp_path):
    folder = sets.ucf101(tmp_path, N)
    every = open_dataset("ucf101", str(folder))
    listed = open_dataset("ucf101", str(tmp_path / "ucfTrainTestlist" / "testlist01.txt"))
    assert len(every) == N and listed.keys == tuple(key for key in every.keys if not key.endswith("c02"))
    assert listed.captions(listed.keys[0]) == ["a video of apply eye makeup"]
    assert listed.content("text", listed.keys[1]) == "a video of red seven"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("YoYo", "yo yo"),
        ("TaiChi", "tai chi"),
        ("HandstandPushups", "handstand pushups"),
        ("BMXRiding", "bmx riding"),
        ("Shot2Goals", "shot2 goals"),
    ],
)
def test_a_class_is_written_as_words(name, expected):
    assert words(name) == expected


def test_another_layout_is_refused_in_one_line(tmp_path):
    assert refused("coco", tmp_path / "none.json").endswith("none.json: no such file or folder")
    (tmp_path / "empty").mkdir()
    assert "expected videos in folders of classes" in refused("ucf101", tmp_path / "empty")
    (tmp_path / "list.txt").write_text("../../etc/passwd 1\n")
    assert "expected lines CLASS/NAME.avi, got '../../etc/passwd'" in refused("ucf101", tmp_path / "list.txt")
    (tmp_path / "list.txt").write_text("YoYo/v_YoYo_g01_c01.avi 1\n")
    assert "no folder around it has YoYo/v_YoYo" in refused("ucf101", tmp_path / "list.txt")
    sets.coco(tmp_path / "coco", 1)
    assert "a table that names media files" in refused("coco", tmp_path / "coco" / "val2014")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "expected NAME=PATH of some of coco, audiocaps"),
        ("coco", "expected NAME=PATH, such as"),
        ("mnist=x", "no data set 'mnist'; there are coco"),
        ("coco=a,coco=b", "coco is given twice"),
    ],
)
def test_what_names_no_data_set_is_refused(text, why):
    with pytest.raises(ConfigError, match=why):
        parse_datasets(text)
    assert parse_datasets(" coco = a/b.json ,ucf101=c") == {"coco": "a/b.json", "ucf101": "c"}

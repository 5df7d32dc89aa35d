"""Folders of samples: their layouts, the order of their keys, and folders that are wrong."""

import json

import av
import numpy as np
import pytest

from codi_jax.config import ConfigError
from codi_jax.evaluation.samples import open_samples
from codi_jax.media import files
from codi_jax.media.files import MediaError, MediaFile
from tests.evaluation import made


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a caption\n" if name.endswith(".txt") else "")
    return str(folder)


def refused(folder):
    with pytest.raises(ConfigError) as error:
        open_samples(str(folder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_files_of_generate_are_samples_by_number_in_natural_order(tmp_path):
    names = [f"{stem}_{i}.{suffix}" for i in (10, 2, 1) for stem, suffix in (("image", "png"), ("audio", "wav"))]
    found = open_samples(touch(tmp_path, *names, "metrics.json", ".hidden.png", ".cache/a.png"))
    assert found.keys == ("1", "2", "10") and found.modalities == ("image", "audio") and len(found) == 3
    assert found.content("image", "10") == str(tmp_path / "image_10.png")
    assert found.content("audio", "1") == str(tmp_path / "audio_1.wav")


def test_a_subfolder_of_each_modality(tmp_path):
    found = open_samples(touch(tmp_path, "images/x/b.png", "images/a.JPG", "text/x/b.txt", "text/a.txt"))
    assert found.keys == ("a", "x/b") and found.modalities == ("text", "image")
    assert found.content("image", "a") == str(tmp_path / "images/a.JPG")
    assert found.content("text", "x/b") == "a caption"


def test_files_of_one_stem_are_one_sample(tmp_path):
    found = open_samples(touch(tmp_path, "cats/1.png", "cats/1.txt", "dogs/1.png", "dogs/1.txt"))
    assert found.keys == ("cats/1", "dogs/1") and found.modalities == ("text", "image")
    assert open_samples(touch(tmp_path / "cats")).keys == ("1",)
    flat = open_samples(touch(tmp_path / "flat", "image_a.png", "b.png"))  # one is no file of generate
    assert flat.keys == ("b", "image_a")


def test_a_table_names_files_and_captions(tmp_path):
    touch(tmp_path, "a/2.png", "a/10.png")
    rows = [{"image": "a/10.png", "text": ["ten", "also ten"]}, {"image": "a/2.png", "text": ["two"]}]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = open_samples(str(tmp_path / "captions.jsonl"))
    assert found.keys == ("a/2", "a/10") and found.modalities == ("text", "image")
    assert found.caption("a/10") == "ten" and found.captions("a/10") == ["ten", "also ten"]
    file = found.content("image", "a/2")
    assert isinstance(file, MediaFile) and file.name == str(tmp_path / "a/2.png")
    more = [*rows, {"image": "a/10.png", "text": "ten again"}]
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert open_samples(str(tmp_path / "captions.jsonl")).captions("a/10") == ["ten", "also ten", "ten again"]
    more[2]["image"] = "a/10.jpg"
    (tmp_path / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in more))
    assert refused(tmp_path / "captions.jsonl").endswith("rows 0 and 2 are both of sample a/10; expected one")


def test_lines_of_a_text_are_references(tmp_path):
    (tmp_path / "1.txt").write_text("one  caption\n\nanother\n")
    found = open_samples(str(tmp_path))
    assert found.captions("1") == ["one caption", "another"] and found.caption("1") == "one caption another"


def test_what_is_wrong_is_named(tmp_path):
    assert refused(tmp_path / "none").endswith("none: no such folder")
    touch(tmp_path / "other", "a.doc", "b.doc")
    assert refused(tmp_path / "other").endswith("no texts (.txt), images, audio or videos in this folder (doc 2)")
    touch(tmp_path / "twice", "a.png", "a.jpg")
    assert refused(tmp_path / "twice").endswith("a.png: both are the image of sample a; leave one")
    touch(tmp_path / "lacking", "a.png", "a.txt", "b.png", "c.png")
    assert "sample b and 1 more have no text, but 1 of 3 samples do" in refused(tmp_path / "lacking")
    touch(tmp_path / "mixed", "image/a.png", "text/a.txt", "b.png")
    assert refused(tmp_path / "mixed").endswith(
        "b.png is not in the folder of its modality, as files in image, text are"
    )


def test_texts_are_bounded_and_damaged_ones_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "b.txt").write_text("x" * (2 << 20))
    (tmp_path / "c.txt").write_text(" \n")
    found = open_samples(str(tmp_path))
    for key, message in (("a", "a.txt: not UTF-8"), ("b", "larger than 1 MiB"), ("c", "c.txt: a caption is empty")):
        with pytest.raises(MediaError, match=message):
            found.caption(key)


def test_the_identity_is_that_of_the_files(tmp_path):
    touch(tmp_path, "1.txt", "2.txt")
    before = open_samples(str(tmp_path))
    assert before.identity("text", before.keys) == open_samples(str(tmp_path)).identity("text", before.keys)
    assert before.identity("text", ("1",)) != before.identity("text", ("2",))
    was = before.identity("text", before.keys)
    (tmp_path / "2.txt").write_text("another caption")
    assert before.identity("text", before.keys) != was


def test_videos_without_audio_have_their_soundtracks(tmp_path):
    with av.open(tmp_path / "1.mp4", "w") as container:
        video, audio = container.add_stream("libx264", rate=4), container.add_stream("aac", rate=16_000, layout="mono")
        video.width = video.height = 64
        frames = [av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8)) for _ in range(4)]
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
        tone.sample_rate = 16_000
        for stream, given in ((video, frames), (audio, [tone])):
            for frame in (*given, None):
                container.mux(stream.encode(frame))
    found = open_samples(str(tmp_path))
    assert found.modalities == ("audio", "video")
    assert found.content("audio", "1") == found.content("video", "1") == str(tmp_path / "1.mp4")
    files.write_video(tmp_path / "0.mp4", np.zeros((2, 16, 16, 3), np.uint8), 4)
    assert open_samples(str(tmp_path)).modalities == ("video",)  # the first one is silent
    made.tone(tmp_path / "0.wav", 440)
    with pytest.raises(ConfigError, match=r"sample 1 has no audio, but 1 of 2 samples do"):
        open_samples(str(tmp_path))

"""Small data sets in the layouts that COCO, AudioCaps, MSR-VTT and UCF-101 are distributed in, of digit_world."""

import csv
import functools
import json

import av
import numpy as np
from PIL import Image

from codi_jax.digit_world import speech
from codi_jax.digit_world.world import DigitWorld, WorldConfig
from codi_jax.media import files

RATE = 8


@functools.lru_cache
def world(n):
    every = ("text", "image", "audio", "video")
    config = WorldConfig(split="test", size=n, truncate=0.0, wordings="trained", modalities=every)
    return DigitWorld(config).read(np.arange(n))


def captions(n):
    return [str(caption) for caption in world(n)["text"]["caption"]]


def pixels(values):
    return np.round((values + 1) * 127.5).astype(np.uint8)


def write_video(path, frames, sound=None):
    """An mp4, with a soundtrack if there is a sound, int16 [N]."""
    if sound is None:
        return files.write_video(path, frames, RATE)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=RATE)
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        big = frames.repeat(4, 1).repeat(4, 2)
        video.height, video.width = big.shape[1:3]
        video.options = {"crf": "10"}
        tone = av.AudioFrame.from_ndarray(sound.repeat(2)[None], format="s16", layout="mono")
        tone.sample_rate = 16_000
        for stream, given in (
            (video, [av.VideoFrame.from_ndarray(np.ascontiguousarray(x)) for x in big]),
            (audio, [tone]),
        ):
            for frame in (*given, None):
                container.mux(stream.encode(frame))


def coco(root, n):
    """captions_val2014.json and val2014/; each image has three captions."""
    (root / "annotations").mkdir(parents=True)
    (root / "val2014").mkdir()
    images = [{"file_name": f"COCO_val2014_{i:012d}.jpg", "id": i} for i in range(n)]
    for i, image in enumerate(images):
        Image.fromarray(pixels(world(n)["image"][i])).save(root / "val2014" / image["file_name"], quality=95)
    rows = [
        {"image_id": i, "id": 3 * i + k, "caption": captions(n)[i] + more}
        for i in range(n)
        for k, more in enumerate(("", " now", " again"))
    ]
    file = root / "annotations" / "captions_val2014.json"
    file.write_text(json.dumps({"info": {}, "images": images, "annotations": rows}))
    return file


def audiocaps(root, n, missing=0):
    """test.csv and audio/YTID_START.wav; each clip has two rows; the last files are missing."""
    (root / "audio").mkdir(parents=True)
    with (root / "test.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, ("audiocap_id", "youtube_id", "start_time", "caption"))
        table.writeheader()
        for k in range(2):
            for i in range(n):
                caption = captions(n)[i] + (" again" if k else "")
                table.writerow(
                    {"audiocap_id": 2 * i + k, "youtube_id": f"rqfQRErjf{i:02d}", "start_time": 30, "caption": caption}
                )
    for i in range(n - missing):
        sound = files.to_int16(world(n)["audio"][i])
        files.write_wav(root / "audio" / f"rqfQRErjf{i:02d}_30.wav", sound, speech.RATE)
    return root / "test.csv"


def msrvtt(root, n, silent=0):
    """train_val_videodatainfo.json with a split "test", and TrainValVideo/; the first videos are silent."""
    (root / "TrainValVideo").mkdir(parents=True)
    videos = [{"video_id": f"video{i}", "id": i, "split": "test" if i < n - 1 else "train"} for i in range(n)]
    rows = [
        {"caption": captions(n)[i] + more, "video_id": f"video{i}", "sen_id": i}
        for more in ("", " now")
        for i in range(n)
    ]
    for i in range(n):
        sound = files.to_int16(world(n)["audio"][i]) if i >= silent else None
        write_video(root / "TrainValVideo" / f"video{i}.mp4", pixels(world(n)["video"][i]), sound)
    file = root / "train_val_videodatainfo.json"
    file.write_text(json.dumps({"info": {}, "videos": videos, "sentences": rows}))
    return file


def ucf101(root, n):
    """UCF-101/CLASS/v_CLASS_g01_c01.avi, and a list of some of them."""
    names = []
    for i in range(n):
        of = "RedSeven" if i % 2 else "ApplyEyeMakeup"
        (root / "UCF-101" / of).mkdir(parents=True, exist_ok=True)
        names.append(f"{of}/v_{of}_g01_c{i:02d}.avi")
        write_video(root / "UCF-101" / names[-1], pixels(world(n)["video"][i]))
    (root / "ucfTrainTestlist").mkdir()
    (root / "ucfTrainTestlist" / "testlist01.txt").write_text("".join(f"{name}\n" for name in names[: n - 1]))
    return root / "UCF-101"

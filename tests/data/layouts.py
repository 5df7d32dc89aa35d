"""Small data sets in the layouts in which they are distributed: names of files and columns are theirs."""

import csv
import functools
import io
import json
import tarfile
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

from codi_jax.media import files

RATE = 16_000
YOUTUBE = ("--PJHxphWEs", "0RWZT-miFs8", "_a5lk2e_WQQ", "7fmOlUlwoNg")


def jpeg(i):
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (50 * i + 20,) * 3).save(file, "jpeg")
    return file.getvalue()


def sound(i, format="wav"):
    """A second of the constant 1000 (i + 1), which flac and wav keep."""
    samples = np.full((1, RATE), 1000 * (i + 1), np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream("flac" if format == "flac" else "pcm_s16le", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = RATE
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


@functools.cache
def video():
    with tempfile.TemporaryDirectory() as folder:
        files.write_video(Path(folder, "x.mp4"), np.full((4, 32, 32, 3), 90, np.uint8), 4.0)
        return Path(folder, "x.mp4").read_bytes()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(content), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.DictWriter(file, list(content[0]))
            rows.writeheader()
            rows.writerows(content)


def tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))


def audiocaps(root):
    rows = [
        {"audiocap_id": 91139 + i, "youtube_id": name, "start_time": 30 * i, "caption": f"A woman talks {i}, loudly"}
        for i, name in enumerate(YOUTUBE)
    ]
    write(root / "train.csv", rows)
    for i, row in enumerate(rows):
        write(root / "audio" / f"{row['youtube_id']}_{row['start_time']}.wav", sound(i))
    return [[row["caption"]] for row in rows]


def clotho(root):
    rows = [
        {"file_name": f"Rain {i}.wav", **{f"caption_{k}": f"Rain falls {i} {k}" for k in range(1, 6)}} for i in range(4)
    ]
    write(root / "clotho_captions_development.csv", rows)
    for i in range(4):
        write(root / "development" / f"Rain {i}.wav", sound(i))
    return [[row[f"caption_{k}"] for k in range(1, 6)] for row in rows]


def audioset(root):
    head = "# Segments csv created Sun Mar  5 10:54:31 2017\n# num_ytids=4, num_segs=4\n"
    head += "# YTID, start_seconds, end_seconds, positive_labels\n"
    labels = ("/m/09x0r,/t/dd00088", "/m/09x0r", "/m/04rlf,/m/09x0r", "/t/dd00088")
    rows = [f'{name}, {30 * i}.000, {30 * i + 10}.000, "{labels[i]}"\n' for i, name in enumerate(YOUTUBE)]
    write(root / "balanced_train_segments.csv", head + "".join(rows))
    names = 'index,mid,display_name\n0,/m/09x0r,Speech\n137,/m/04rlf,Music\n16,/t/dd00088,"Gurgling, bubbling"\n'
    write(root / "class_labels_indices.csv", names)
    for i, name in enumerate(YOUTUBE):
        write(root / "train" / f"{name}_{30000 * i}_{30000 * i + 10000}.flac", sound(i, "flac"))
    return [["Speech, Gurgling, bubbling"], ["Speech"], ["Music, Speech"], ["Gurgling, bubbling"]]


def vggsound(root):
    rows = [f"{name},{i},people marching {i},{'test' if i == 1 else 'train'}\n" for i, name in enumerate(YOUTUBE)]
    write(root / "vggsound.csv", "".join(rows))
    for i, name in enumerate(YOUTUBE):
        write(root / "video" / f"{name}_{i:06d}.mp4", video())
    return [[f"people marching {i}"] for i in (0, 2, 3)]


def webvid(root):
    rows = [
        {
            "videoid": 1066674784 + i, "contentUrl": f"https://ak.picdn.net/shutterstock/{i}/preview.mp4",
            "duration": "PT00H00M11S", "page_dir": f"00600{i}_00605{i}", "name": f"Aerial view {i}, sea",
        }
        for i in range(4)
    ]  # fmt: skip
    write(root / "results_2M_train.csv", rows)
    for row in rows:
        write(root / "videos" / row["page_dir"] / f"{row['videoid']}.mp4", video())
    return [[row["name"]] for row in rows]


def msrvtt(root):
    videos = [
        {
            "category": 9, "url": "https://www.youtube.com/watch?v=9lZi22qLlEo", "video_id": f"video{i}", "id": i,
            "start time": 137.72, "end time": 149.44, "split": "validate" if i == 3 else "train",
        }
        for i in range(4)
    ]  # fmt: skip
    sentences = [
        {"caption": f"a car {i} {k}", "video_id": f"video{i}", "sen_id": i} for k in range(3) for i in range(4)
    ]
    info = {"year": "2016", "contributor": "Microsoft MSM group"}
    write(root / "train_val_videodatainfo.json", {"info": info, "videos": videos, "sentences": sentences})
    for i in range(4):
        write(root / "TrainValVideo" / f"video{i}.mp4", video())
    return [[f"a car {i} {k}" for k in range(3)] for i in range(3)]


def coco(root):
    ids = (391895, 522418, 184613, 318219)
    images = [
        {"license": 3, "file_name": f"{i:012d}.jpg", "coco_url": f"http://images.cocodataset.org/{i:012d}.jpg", "id": i}
        for i in ids
    ]
    annotations = [
        {"image_id": i, "id": 770337 + 4 * k + n, "caption": f"A man {i} {k}"}
        for k in range(5)
        for n, i in enumerate(ids)
    ]
    licenses = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]
    tree = {"info": {"year": 2017}, "licenses": licenses, "images": images, "annotations": annotations}
    write(root / "annotations" / "captions_train2017.json", tree)
    for n, i in enumerate(ids):
        write(root / "train2017" / f"{i:012d}.jpg", jpeg(n))
    return [[f"A man {i} {k}" for k in range(5)] for i in ids]


def karpathy(root):
    rows = [
        {
            "filepath": "val2014" if i % 2 else "train2014", "filename": f"COCO_{i:012d}.jpg", "imgid": i,
            "sentences": [{"tokens": ["a"], "raw": f"A woman {i} {k}", "imgid": i} for k in range(5)],
            "split": "test" if i == 2 else "train",
        }
        for i in range(4)
    ]  # fmt: skip
    write(root / "dataset_coco.json", {"images": rows, "dataset": "coco"})
    for i, row in enumerate(rows):
        write(root / row["filepath"] / row["filename"], jpeg(i))
    return [[f"A woman {i} {k}" for k in range(5)] for i in (0, 1, 3)]


def huggingface(root):
    """As `datasets` writes them: {"bytes", "path"}, in row groups of few rows, in several files of a split."""
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    schema = pyarrow.schema(
        [("image", kind), ("audio", kind), ("caption", pyarrow.string()), ("label", pyarrow.int64())]
    )
    (root / "data").mkdir(parents=True)
    for split, ids in (
        ("train-00000-of-00002", (0, 1, 2)),
        ("train-00001-of-00002", (3,)),
        ("test-00000-of-00001", (0,)),
    ):
        rows = [
            {
                "image": {"bytes": jpeg(i), "path": f"{i}.jpg"}, "audio": {"bytes": sound(i, "flac"), "path": None},
                "caption": f"a shade {i}", "label": i,
            }
            for i in ids
        ]  # fmt: skip
        table = pyarrow.Table.from_pylist(rows, schema)
        parquet.write_table(table, root / "data" / f"{split}.parquet", row_group_size=2)
    return [[f"a shade {i}"] for i in range(4)]


def imagefolder(root):
    write(root / "metadata.csv", [{"file_name": f"{i:04d}.jpg", "text": f"This is {i}, a red pot"} for i in range(4)])
    for i in range(4):
        write(root / f"{i:04d}.jpg", jpeg(i))
    return [[f"This is {i}, a red pot"] for i in range(4)]


def img2dataset(root):
    for k in range(2):
        members = {}
        for i in (2 * k, 2 * k + 1):
            key = f"{k:05d}{i:04d}"
            status = {"caption": f"a cat {i}", "url": "https://a.b/c.jpg", "key": key, "status": "success", "width": 40}
            members |= {f"{key}.jpg": jpeg(i), f"{key}.txt": f"a cat {i}".encode()}
            members[f"{key}.json"] = json.dumps(status).encode()
        tar(root / f"{k:05d}.tar", members)
        write(root / f"{k:05d}_stats.json", {"count": 2, "successes": 2})
        write(root / f"{k:05d}.parquet", b"PAR1 of the metadata")
    return [[f"a cat {i}"] for i in range(4)]


def img2dataset_parquet(root):
    """Of --output_format=parquet: bytes in a column that is named as the suffix."""
    import pyarrow
    from pyarrow import parquet

    root.mkdir(parents=True)
    rows = [
        {"url": "https://a.b/c.jpg", "key": f"{i:09d}", "status": "success", "caption": f"a dog {i}", "jpg": jpeg(i)}
        for i in range(4)
    ]
    for k in range(2):
        parquet.write_table(pyarrow.Table.from_pylist(rows[2 * k : 2 * k + 2]), root / f"{k:05d}.parquet")
    return [[f"a dog {i}"] for i in range(4)]


def video2dataset(root):
    members = {}
    for i in range(4):
        status = {"videoid": i, "url": "https://a.b/c.mp4", "caption": f"a boat {i}", "status": "success"}
        members |= {f"{i:09d}.mp4": video(), f"{i:09d}.txt": f"a boat {i}".encode()}
        members[f"{i:09d}.json"] = json.dumps(status).encode()
    tar(root / "00000.tar", members)
    write(root / "00000_stats.json", {"count": 4, "successes": 4})
    return [[f"a boat {i}"] for i in range(4)]


def sidecars(root):
    for i in range(4):
        write(root / "a" / f"photo.{i}.jpg", jpeg(i))
        write(root / "a" / f"photo.{i}.txt", f"a garden {i}\n")
    write(root / "readme.txt", "not a sample")
    return [[f"a garden {i}"] for i in range(4)]


def classes(root):
    names = ("cat", "cat", "dog", "owl")
    for i, name in enumerate(names):
        write(root / name / f"{i}.jpg", jpeg(i))
    return [[f"a photo of a {name}"] for name in names]


# Name in the documentation -> what makes the data set, its folder, and the path to inspect.
LAYOUTS = {
    "AudioCaps": (audiocaps, "audiocaps", "train.csv"),
    "Clotho": (clotho, "clotho", "clotho_captions_development.csv"),
    "AudioSet": (audioset, "audioset", "balanced_train_segments.csv"),
    "VGGSound": (vggsound, "vggsound", "vggsound.csv"),
    "WebVid": (webvid, "webvid", "results_2M_train.csv"),
    "MSR-VTT": (msrvtt, "msrvtt", "train_val_videodatainfo.json"),
    "COCO captions": (coco, "coco", "annotations/captions_train2017.json"),
    "Karpathy's splits": (karpathy, "coco2014", "dataset_coco.json"),
    "Hugging Face, parquet": (huggingface, "hf", ""),
    "Hugging Face, imagefolder": (imagefolder, "folder", ""),
    "img2dataset, webdataset": (img2dataset, "laion", ""),
    "img2dataset, parquet": (img2dataset_parquet, "laion_parquet", ""),
    "video2dataset": (video2dataset, "webvid_shards", ""),
    "captions beside the files": (sidecars, "mine", ""),
    "folders as classes": (classes, "classes", ""),
}

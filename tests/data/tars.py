"""Shards of a few samples, and their records."""

import io
import json
import tarfile

from PIL import Image

from codi_jax.data.decoded_source import MediaConfig
from codi_jax.data.webdataset import WebDataset, WebDatasetConfig

MEDIA = {"modalities": ("text", "image"), "size": 8}


def png(shade):
    file = io.BytesIO()
    Image.new("RGB", (12, 10), (shade, shade, shade)).save(file, "png")
    return file.getvalue()


def sample(i, caption=None):
    """The files that img2dataset writes for one sample."""
    return {
        f"{i:09d}.png": png(i),
        f"{i:09d}.txt": (caption or f"caption {i}").encode(),
        f"{i:09d}.json": json.dumps({"caption": f"other {i}", "status": "success"}).encode(),
    }


def shard(path, members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def records(path, **changes):
    media = MediaConfig(**{**MEDIA, **changes.pop("media", {})})
    return WebDataset(WebDatasetConfig(str(path), media, **changes))

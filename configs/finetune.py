"""Fine-tuning the packaged model, or a finished run, on your own media files: minutes on two cores.

    codi-jax data inspect mine/                                         what it is, and the fields of config.data for it
    codi-jax train --config=finetune --config.data.manifest=mine.csv --workdir=out/mine
    codi-jax generate --workdir=out/mine --text "…" --to image,audio,video --out d/
    codi-jax report --workdir=out/mine                                  losses and samples

Each row of the table names a caption, an image, an audio and a video file (see `codi_jax.data.manifest`); a folder of
files with captions beside them is a table, too. Other names of columns are set by --config.data.columns.text=caption
and the like, WebDataset shards by --config=finetune:source=webdataset --config.data.shards=…, a run by
--config=finetune:run=out/demo. Codecs and prompt encoders stay frozen; each denoiser is trained further with captions
as prompts. --config=finetune:lora=4 trains adapters of rank 4 of its attention and its residual blocks instead:

    codi-jax train --config=finetune:lora=4 --config.data.manifest=mine.csv --workdir=out/adapted
    codi-jax export --workdir=out/adapted --lora --out=adapters
    codi-jax generate --lora=adapters/pytorch_lora_weights.safetensors:0.8 --text "…" --to image --out d/
"""

import json
from typing import Any

from ml_collections import ConfigDict

from codi_jax import packaged, storage
from codi_jax.config import ConfigError, to_dict
from codi_jax.config_utils import parse_argument
from codi_jax.presets.stages import adamw, stage

# The layers that `lora` adapts, of those of a stage.
ADAPTED = "/(query|key|value|key_value|out|project_in|project_out|layer_in|layer_out)/kernel"
PART = ("start", "duration", "end")  # columns that select a part of audio and video


def get_config(argument: str = "") -> ConfigDict:
    """`run`: the workdir, or packaged model, to fine-tune; `modalities=text+image` for a subset; `steps` of a stage;
    `source`: manifest or webdataset; `lora`: rank of adapters to train instead of denoisers, 0 for none."""
    options = parse_argument(argument, run=packaged.DEFAULT, modalities="", steps=200, source="manifest", lora=0)
    base = _config_of(options.run)
    model = base["model"]["modalities"]
    modalities = tuple(filter(None, options.modalities.split("+"))) or tuple(
        name for name in ("text", "image", "audio", "video") if name in model
    )
    if missing := [name for name in modalities if name not in model]:
        raise ConfigError(f"config argument modalities: {options.run} has no {', '.join(missing)}")
    media = {}
    if "image" in model:
        media |= {"size": model["image"]["size"]}
    if "audio" in model:
        mel = model["audio"]["mel"]
        media |= {"samples": model["audio"]["frames"] * mel["hop"], "sample_rate": mel["sample_rate"]}
    if "video" in model:
        video = model["video"]
        media |= {"size": video["size"], "frames": video["frames"], "rate": video["rate"]}
    config = ConfigDict({"data": _data(options.source, modalities)})
    others = [name for name in modalities if name != "text"]
    pairs = {name: (name, "text") for name in others} | ({"text": ("text", others[0])} if others else {})
    if "text" not in modalities or not others:
        raise ConfigError("config argument modalities: expected text and at least one other modality")
    finetune = {
        name: stage(
            "ldm", pair, "+".join(sorted(pair)), steps=options.steps, batch_size=32, num_stats_samples=0,
            **_trained(_denoiser(base["stages"], name), options.lora),
            optimizer=adamw(2e-3 if options.lora else 2e-4, warmup=min(20, options.steps // 10)),
            settings={"prompts": {"sources": ("text",), "drop": 0.15, "noise": 0.7}},
            samples={"source": "+".join(sorted(pair)), "every": options.steps, "prompt": "text"},
        ) for name, pair in pairs.items()
    }  # fmt: skip
    config.update(
        seed=0,
        weights=options.run,
        model=base["model"],
        generate=base["generate"],
        sources={
            name: _source(options.source, name, {**media, "modalities": pair}, config.data)
            for name, pair in {"+".join(sorted(pair)): pair for pair in pairs.values()}.items()
        },
        stages=to_dict({"finetune": finetune}),
    )
    return config


def _trained(pattern: str, rank: int) -> dict[str, Any]:
    """The fields of a stage that say what it trains: parameters of this pattern, or adapters of them."""
    return {"lora": {"rules": (pattern + ADAPTED,), "rank": rank}} if rank else {"trainable": (pattern,)}


def _data(source: str, modalities: tuple[str, ...]) -> dict[str, Any]:
    """The fields of `config.data`: those of the source that a user sets, see `ManifestConfig` and `WebDatasetConfig`.

    `start`, `duration` and `end` are columns; `max_bad_fraction` and `log` are those of `FaultsConfig`, where `log` is
    a folder of one log per source; `window` is that of `MediaConfig`.
    """
    common = {"max_bad_fraction": 0.01, "log": "", "window": "beginning"}
    if source == "webdataset":
        return {"shards": "", "caption": "caption", "index": "", **common}
    if source != "manifest":
        raise ConfigError(f"config argument source: expected manifest or webdataset, got {source!r}")
    join = {"column": "", "key": "", "path": "", "rows": "", "header": (), "separator": ""}
    return {
        **{"manifest": "", "root": "", "columns": {name: name for name in modalities}},
        **dict.fromkeys(PART, ""),
        **{"rows": "", "header": (), "join": join, "where": "", **common},
    }


def _source(kind: str, name: str, media: dict[str, Any], data: Any) -> dict[str, Any]:
    """A source whose fields are those of `config.data`, with samples of `media`."""
    # One log per source: sources of other modalities have other bad samples.
    log = data.get_oneway_ref("log")._apply_op(lambda folder: folder and f"{folder}/{name}")
    fields = {
        "name": kind,
        "media": {**media, "window": data.get_oneway_ref("window")},
        "faults": {"max_bad_fraction": data.get_oneway_ref("max_bad_fraction"), "log": log},
    }
    if kind == "webdataset":
        return fields | {key: data.get_oneway_ref(key) for key in ("shards", "caption", "index")}
    columns = {column: data.columns.get_oneway_ref(column) for column in data.columns}
    fields |= {
        "path": data.get_oneway_ref("manifest"),
        "columns": columns | {part: data.get_oneway_ref(part) for part in PART},
    }
    return fields | {key: data.get_oneway_ref(key) for key in ("root", "rows", "header", "join", "where")}


def _config_of(run: str) -> dict[str, Any]:
    """The config of a packaged model or of a workdir."""
    if packaged.is_package(run):
        return packaged.open_package(run).run
    try:
        return json.loads((storage.as_path(run) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"config argument run: {run} is neither a packaged model nor a workdir") from error


def _denoiser(stages: dict, name: str) -> str:
    """The trainable pattern of the run's `ldm` stage of this modality ("train" is the former key)."""
    trained = [(s.get("trainable") or s["train"])[0] for s in stages["ldm"].values() if s["modalities"][0] == name]
    if not trained:
        raise ConfigError(f"config argument run: it has no ldm stage of {name}")
    return trained[0]

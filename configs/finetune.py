"""Fine-tuning of a finished run, that of `make four` for one, on a table of your own.

    codi-jax train --config=configs/finetune.py --config.data.manifest=mine.csv --workdir=out/mine
    codi-jax generate --workdir=out/mine --text "…" --to image,audio,video --out d/

The table names a caption, a picture, a sound and a clip a row (see `codi_jax.data.manifest`); a column that is called
otherwise is given by --config.data.columns.text=caption and the like, another run by configs/finetune.py:run=out/two.
Codecs and prompt encoders stay as they are; each denoiser goes on from where it was, prompted by captions.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict

from codi_jax.config import ConfigError
from codi_jax.config_utils import adamw, parse_argument, stage


def get_config(argument: str = "") -> ConfigDict:
    """`run`: workdir of what is fine-tuned; `modalities=text+image` if the table has no more; `steps` of each stage."""
    options = parse_argument(argument, run="out/four", modalities="", steps=200)
    try:
        base = json.loads((Path(options.run) / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"config argument run: {options.run} is no workdir; `make four` makes out/four") from error
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
        clip = model["video"]
        media |= {"size": clip["size"], "frames": clip["frames"], "rate": clip["rate"]}
    config = ConfigDict({"data": {"manifest": "", "columns": {name: name for name in modalities}}})
    table = {"path": config.data.get_ref("manifest"), "columns": config.data.get_ref("columns")}
    others = [name for name in modalities if name != "text"]
    pairs = {name: (name, "text") for name in others} | ({"text": ("text", others[0])} if others else {})
    if "text" not in modalities or not others:
        raise ConfigError("config argument modalities: text and something beside it")
    finetune = {
        name: stage(
            "ldm", pair, "+".join(sorted(pair)), trainable=(_denoiser(base["stages"], name),), steps=options.steps,
            batch_size=32, num_stats_samples=0, optimizer=adamw(2e-4, warmup=min(20, options.steps // 10)),
            settings={"prompts": {"sources": ("text",), "drop": 0.15, "noise": 0.7}},
        ) for name, pair in pairs.items()
    }  # fmt: skip
    config.update(
        seed=0,
        weights=options.run,
        model=base["model"],
        generate=base["generate"],
        sources={
            s["source"]: {"name": "manifest", **table, "media": {**media, "modalities": s["modalities"]}}
            for s in finetune.values()
        },
        stages={"finetune": finetune},
    )
    return config


def _denoiser(stages: dict, name: str) -> str:
    """The parameters that the run's own `ldm` stage of this modality trained; "train" is the key's former name."""
    trained = [(s.get("trainable") or s["train"])[0] for s in stages["ldm"].values() if s["modalities"][0] == name]
    if not trained:
        raise ConfigError(f"config argument run: no stage of it has trained a denoiser of {name}")
    return trained[0]

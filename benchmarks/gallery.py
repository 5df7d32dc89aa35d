"""Generates the samples of docs/gallery.md with the packaged model, and writes the page.

    python -m benchmarks.gallery --out=docs
    python -m benchmarks.gallery --out=docs --check

Every section is one call of a pipeline; its samples have the seeds 0, 1, …, and none is left out. OUT/gallery gets a
sheet of each output: images in a row, videos as an animated WebP, spectrograms, and the audio, one sample after the
other, as mp3. --check generates nothing; it exits with 1 if the gallery is not of the packaged model and of these
calls, or if the page is not what would be written.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import codi_jax
from benchmarks import made
from codi_jax.media import files
from codi_jax.media.sheet import spectrogram
from codi_jax.packaged import DEFAULT, open_package
from codi_jax.pipeline import Pipeline

N = 6
SIDE = 96  # pixels of an image, a frame, a spectrogram
CAPTIONS = (
    "a red seven moving left", "a green two moving up", "a blue nine moving right", "a yellow four moving down",
    "a purple zero moving left", "a white five moving up",
)  # fmt: skip


class Section(NamedTuple):
    """One call.

    Attributes:
      title: its heading.
      text: what it shows.
      to: the outputs.
      prompts: modality -> captions, or the section whose output is the prompt.
    """

    title: str
    text: str
    to: tuple[str, ...]
    prompts: dict[str, Any] = {}


SECTIONS = {
    "text": Section(
        "From a caption",
        "Image, audio and video are generated together from a caption, and so show the same digit.",
        ("image", "audio", "video"),
        {"text": list(CAPTIONS)},
    ),
    "together": Section(
        "Without a prompt",
        "Four outputs that attend to each other, from noise alone. What they agree on, no prompt has said.",
        ("text", "image", "audio", "video"),
    ),
    "image": Section(
        "From an image",
        "The images of the first section are prompts. No training sample held an image and audio, or image and video.",
        ("text", "audio", "video"),
        {"image": "text"},
    ),
}


def settings(n: int = N) -> dict[str, Any]:
    """What the samples depend on, beside the weights."""
    calls = {name: section._asdict() for name, section in SECTIONS.items()}
    return {"n": n, "side": SIDE, "calls": calls, "generate": open_package(DEFAULT).run["generate"]}


def generate(pipe: Pipeline, n: int) -> dict[str, Any]:
    """The outputs of all sections."""
    out: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        prompts = {m: (out[of][m] if isinstance(of, str) else of)[:n] for m, of in section.prompts.items()}
        out[name] = pipe(prompts or None, section.to, n=1 if prompts else n, seed=list(range(n)))
        print(f"{name}: {out[name]}", flush=True)
    return out


def _enlarged(image: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] in the size of a sheet."""
    how = Image.Resampling.NEAREST if max(image.shape[:2]) < SIDE else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), how))


def _row(images: Sequence[np.ndarray]) -> Image.Image:
    return Image.fromarray(np.concatenate([_enlarged(image) for image in images], axis=1))


def sheet(pipe: Pipeline, output: str, values: Sequence[Any], path: Path) -> list[Path]:
    """Writes the sheet of one output, and a file to listen to; returns the paths."""
    raw = [pipe.codi[output].raw_from_user(value) for value in values]
    if raw[0].ndim == 1:
        rate = int(pipe.codi[output].value_format["rate"])
        spectrograms, sound = path.with_suffix(".png"), path.with_suffix(".mp3")
        _row([spectrogram(wave, rate) for wave in raw]).convert("P", palette=Image.Palette.ADAPTIVE).save(spectrograms)
        write_mp3(sound, np.concatenate(raw), rate)
        return [spectrograms, sound]
    if raw[0].ndim == 3:
        _row(raw).save(path.with_suffix(".png"), optimize=True)
        return [path.with_suffix(".png")]
    first, *rest = (_row(frames) for frames in zip(*raw, strict=True))
    duration = round(1000 / pipe.codi[output].value_format["rate"])
    path = path.with_suffix(".webp")
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0, quality=60, method=6)
    return [path]


def write_mp3(path: Path, samples: np.ndarray, rate: int) -> None:
    """Writes int16 [N] as mp3 of 24 kbit/s."""
    av = files.pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mp3", rate=rate, layout="mono")
        stream.bit_rate = 24_000
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = rate
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)


def _call(section: Section) -> str:
    """The call in Python, as the page shows it."""
    first = f"to={section.to}"
    if section.prompts:
        given = ((m, f"first.{m}" if isinstance(of, str) else "captions") for m, of in section.prompts.items())
        arguments = ["{" + ", ".join(f"{m!r}: {value}" for m, value in given) + "}", first]
    else:
        arguments = [first, "n=n"]
    return "pipe(" + ", ".join([*arguments, "seed=[*range(n)]"]).replace("'", '"') + ")"


def page(captions: Mapping[str, Sequence[str]]) -> str:
    """The page; `captions` are those of each section, prompts or outputs."""
    parts = [
        "# Gallery",
        "Samples of the model inside the package, with the seeds 0, 1, … and none left out. This page is written by\n"
        "`python -m benchmarks.gallery --out=docs`; a test checks that it is of the present model. How often\n"
        "samples are right is measured: [results](results.md).",
    ]
    for name, section in SECTIONS.items():
        lines = [f"## {section.title}", section.text, f"```python\n{_call(section)}\n```"]
        rows = []
        if name in captions:
            kind = "prompts" if "text" in section.prompts else "text"
            rows.append(f"| {kind} | {' · '.join(captions[name])} |")
        for output in (m for m in section.to if m != "text"):
            picture = f"![{section.title}, {output}](gallery/{name}_{output}.{'webp' if output == 'video' else 'png'})"
            if output == "audio":
                sound = f"gallery/{name}_{output}.mp3"
                picture += f'<br><audio controls preload="none" src="{sound}"></audio> [mp3]({sound})'
            rows.append(f"| {output} | {picture} |")
        parts += [*lines, "\n".join(["| | |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def check(out: Path, n: int = N) -> list[str]:
    """Why the gallery in a folder is not current; nothing if it is."""
    folder = out / "gallery"
    if not (folder / made.MADE).exists():
        return [f"{folder / made.MADE} is missing"]
    captions = json.loads((folder / made.MADE).read_text(encoding="utf-8"))["captions"]
    written = (out / "gallery.md").read_text(encoding="utf-8") if (out / "gallery.md").exists() else ""
    reasons = made.stale(folder, settings(n))
    return reasons + ([] if written == page(captions) else ["gallery.md is not what would be written"])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of gallery.md; the files go to its gallery/")
    parser.add_argument("--n", type=int, default=N, help=f"samples of a section ({N}, at most as many as captions)")
    parser.add_argument("--check", action="store_true", help="only say whether it is current")
    args = parser.parse_args(arguments)
    if args.check:
        made.report(check(args.out, args.n), args.out / "gallery.md")
    pipe, folder = codi_jax.load(DEFAULT), args.out / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    outputs, paths, captions = generate(pipe, args.n), [], {}
    for name, section in SECTIONS.items():
        for output, values in outputs[name].items():
            if output == "text":
                captions[name] = list(values)
            else:
                paths += sheet(pipe, output, values, folder / f"{name}_{output}")
        if "text" in section.prompts:
            captions[name] = section.prompts["text"][: args.n]
    made.write(folder, settings(args.n), paths, captions=captions)
    (args.out / "gallery.md").write_text(page(captions), encoding="utf-8")
    total = sum(path.stat().st_size for path in paths)
    print(f"{args.out / 'gallery.md'}: {len(paths)} files, {total / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""Samples that the stages of a run generated while they trained (`train.sampling`): the same prompts and noise at every
step, so that they differ by the weights alone."""

from collections.abc import Sequence
from pathlib import Path

from codi_jax.report.markup import Html, el, figure, gallery, section
from codi_jax.report.media import media
from codi_jax.train.recipe import Run, SamplesConfig

TITLE = "Samples as it trained"
TIMES = 4  # steps of a stage that are shown

_NONE = (
    "This run has stored none: no stage has the field samples. A stage that is trained with it, such as ",
    "--config.stages.ldm.image.samples=\"{'source': 'text+image', 'every': 500, 'prompt': 'text'}\"",
    ", generates samples of the same prompts and noise every 500 steps, which are then shown here.",
)


def spaced_out(folders: Sequence[Path], most: int = TIMES) -> list[Path]:
    """The first and the last folder, and some between them at even distances."""
    if len(folders) <= most:
        return list(folders)
    return [folders[round(i * (len(folders) - 1) / (most - 1))] for i in range(most)]


def training_samples(run: Run, columns: int) -> Html:
    """The section: for each stage its prompts, and what it made of them after some of its steps.

    Args:
      run: the run.
      columns: samples to show; 0 for a page that has no room for any.
    """
    figures = []
    for name in run.order:
        config = run.stage(name).samples
        folders = sorted((run.directory(name) / "samples").glob("[0-9]*"))
        if folders and config is not None:
            figures.append(_stage(run, name, config, spaced_out(folders), columns))
    if not figures:
        first, option, last = _NONE
        return section("samples", TITLE, el("p", first, el("code", option), last))
    lead = "The first prompts, without selection; the same noise at every step, so that only the weights differ."
    if not columns:
        lead = "They are left out, since they are larger than a page may be: stages/NAME/samples/ in the workdir."
        figures = []
    return section("samples", TITLE, el("p", lead), figures)


def _stage(run: Run, name: str, config: SamplesConfig, folders: Sequence[Path], columns: int) -> Html:
    def cells(folder: Path, file: str, modality: str, words: str) -> list[Html]:
        of = run.codi[modality]
        paths = [folder / f"{file}_{i}{of.suffix}" for i in range(min(config.n, columns))]
        return [media(of, path, f"{words}, sample {i + 1}") for i, path in enumerate(paths) if path.exists()]

    lines = [("prompt", cells(folders[-1], "prompt", config.prompt, f"{config.prompt} as the prompt"))]
    for output in run.codi.modalities:
        for folder in folders:
            step = int(folder.name)
            if made := cells(folder, output, output, f"{output} generated after {step} steps"):
                lines.append((f"{output}, step {step}", made))
    return figure(gallery(lines), [el("b", f"{name}. "), f"After {int(folders[-1].name)} steps at last."])

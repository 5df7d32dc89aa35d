"""Files of samples as HTML."""

from pathlib import Path

from codi_jax.modalities import Modality
from codi_jax.report.markup import Html


def media(modality: Modality, path: Path) -> Html:
    """A file that `Modality.write` wrote."""
    if path.suffix == ".txt":
        return Html(modality.html(path.read_text(encoding="utf-8").strip()))
    return Html(modality.html(modality.raw_from_user(str(path))))

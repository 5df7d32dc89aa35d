"""Which pairs and sets of modalities a recipe trains together, from its stages.

A direction is paired if training samples contain both modalities; a direction from a modality to itself, if its
denoiser is prompted with it. A set of outputs is trained if a latent alignment stage trains on exactly this set.
Wordings are unseen if no source of the train split has them (`digit_world.captions`).
"""

from collections.abc import Iterable, Sequence
from typing import Any

JUDGE_OBJECTIVES = ("judge", "similarity")  # their networks evaluate only


def is_paired(stages: Iterable[Any], source: str, target: str) -> bool:
    """Whether any stage trains on samples that contain both modalities."""
    if source != target:
        # No sample of a mixture contains all modalities of the stage; the sources of a mixture are stages, too.
        of_model = [s for s in stages if isinstance(s.source, str) and s.objective not in JUDGE_OBJECTIVES]
        return any({source, target} <= set(s.modalities) for s in of_model)
    ldm = [s for s in stages if s.objective == "ldm" and s.modalities[0] == target]
    return any(source in s.settings.get("prompts", {}).get("sources", ()) for s in ldm)


def wordings(sources: Iterable[Any]) -> str | None:
    """The wordings of the captions and prompts of test sources: "unseen", or "trained" if any source has those.

    None if a source does not know, as of a user's class.
    """
    known = {getattr(source, "wordings", None) for source in sources}
    return None if None in known else "trained" if "trained" in known else "unseen"


def trained_together(stages: Iterable[Any], outputs: Sequence[str]) -> bool:
    """Whether a stage trains exactly these outputs to attend to one another."""
    joint = [s for s in stages if s.objective == "latent_alignment" and s.settings.get("losses")]
    return any(set(s.modalities) == set(outputs) for s in joint)

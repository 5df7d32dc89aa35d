"""The tasks of the CoDi paper (arXiv 2305.11846), and the numbers that it reports.

Its numbers stand beside ours where the metric is the same. Those of single outputs were read in the tables of the
NExT-GPT paper (arXiv 2309.05519), which quotes them; those of several prompts, and of joint generation, in no source
that repeats them, so that they are left out. CIDEr-D and BLEU are fractions here: the paper's 149.9 is 1.499.

What differs, whatever the model: CLIPSIM and SIM depend on the tower; the paper's captions are, in all likelihood, of
models that were fine-tuned on each data set; its Inception score of videos is that of C3D, and its FVD of I3D, which a
plugin may add as a network.
"""

from codi_jax.evaluation.suite.tasks import Published, Task

_QUOTED = "NExT-GPT paper, table {}"
_FID = ("fid", "fid_infinity", "kid", "precision_recall", "inception_score", "cosine")
_CAPTIONS = ("bleu", "rouge", "cider", "meteor", "spice", "cosine")
_TOGETHER = ("cosine", "sim")

_SINGLE, _CAPTION = "One output", "Captions"
_SEVERAL = "Several prompts"
_JOINT = "Outputs generated together"


def _of(table: int, value: float, network: str = "") -> Published:
    return Published(value, _QUOTED.format(table), network)


def _captioned(table: int, bleu: float, meteor: float, cider: float, other: int = 0) -> dict[str, Published]:
    """Scores of captions, that of CIDEr from another table."""
    return {"bleu": _of(table, bleu), "meteor": _of(table, meteor), "cider": _of(other or table, cider)}


def _task(
    table: str, dataset: str, prompts: str, outputs: str, metrics: tuple[str, ...], **published: Published
) -> Task:
    """A task whose modalities are separated by "+"."""
    together = table == _JOINT
    name = f"{prompts}_to_{outputs}.{dataset}"
    return Task(
        name,
        table,
        dataset,
        tuple(prompts.split("+")),
        tuple(outputs.split("+")),
        metrics,
        together,
        {key.replace("__", "/"): value for key, value in published.items()},
    )


TASKS: tuple[Task, ...] = (
    _task(_SINGLE, "coco", "text", "image", _FID, fid=_of(8, 11.26, "inception")),
    _task(_SINGLE, "msrvtt", "text", "video", ("cosine", "frechet"), cosine=_of(9, 0.2890, "tower")),
    _task(_SINGLE, "ucf101", "text", "video", ("frechet", "cosine")),
    _task(_SINGLE, "audiocaps", "text", "audio", ("fad", "cosine"), fad=_of(4, 1.80, "vggish")),
    _task(_SINGLE, "msrvtt", "image", "video", ("frechet", "cosine")),
    _task(_SINGLE, "msrvtt", "image", "audio", ("fad", "cosine")),
    _task(
        _CAPTION, "coco", "image", "text", _CAPTIONS, bleu=_of(12, 0.402), meteor=_of(12, 0.310), cider=_of(12, 1.499)
    ),
    _task(_CAPTION, "audiocaps", "audio", "text", _CAPTIONS, cider=_of(11, 0.789)),
    _task(
        _CAPTION, "msrvtt", "video", "text", _CAPTIONS, bleu=_of(13, 0.521), meteor=_of(13, 0.325), cider=_of(3, 0.744)
    ),
    _task(_SEVERAL, "msrvtt", "audio", "image", _FID),
    _task(_SEVERAL, "msrvtt", "text+audio", "image", _FID),
    _task(_SEVERAL, "msrvtt", "text+image", "video", ("cosine", "frechet")),
    _task(_SEVERAL, "msrvtt", "text+audio", "video", ("cosine", "frechet")),
    _task(_SEVERAL, "msrvtt", "text+image+audio", "video", ("cosine", "frechet")),
    _task(_JOINT, "coco", "text", "text+image", _TOGETHER),
    _task(_JOINT, "audiocaps", "text", "text+audio", _TOGETHER),
    _task(_JOINT, "msrvtt", "text", "audio+video", (*_TOGETHER, "av_align", "lag_curve")),
    _task(_JOINT, "msrvtt", "image", "audio+video", (*_TOGETHER, "av_align", "lag_curve")),
    _task(_JOINT, "msrvtt", "image", "text+audio", _TOGETHER),
    _task(_JOINT, "msrvtt", "text+audio", "text+image", _TOGETHER),
    _task(_JOINT, "msrvtt", "image+audio", "text+image", _TOGETHER),
    _task(_JOINT, "msrvtt", "text", "image+audio+video", (*_TOGETHER, "av_align", "lag_curve")),
)

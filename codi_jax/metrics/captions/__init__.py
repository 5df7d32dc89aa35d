"""Caption scores of hypotheses against references: BLEU, ROUGE-L and CIDEr-D, and METEOR and SPICE by their programs.

    from codi_jax.metrics.base import compute
    from codi_jax.metrics.captions import Bleu, Captions, tokenize

    samples = Captions([tokenize(h) for h in hypotheses], [[tokenize(r) for r in rs] for rs in references])
    compute(Bleu(), [samples])        # {"bleu_1": …, "bleu_2": …, "bleu_3": …, "bleu_4": …, "n": …}

The scores equal those of pycocoevalcap, the code of the COCO captions task, on the same tokens.
"""

from codi_jax.metrics.captions.bleu import Bleu
from codi_jax.metrics.captions.cider import CiderD
from codi_jax.metrics.captions.rouge import RougeL
from codi_jax.metrics.captions.samples import Captions
from codi_jax.metrics.captions.tokenizer import tokenize

__all__ = ["Bleu", "Captions", "CiderD", "RougeL", "tokenize"]

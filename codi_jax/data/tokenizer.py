"""Strings to rows of ids and back, by a small word vocabulary made in code or by any tokenizer of `transformers`.

A row is [BOS] words [EOS] [PAD] ..., always with its EOS. In our own vocabulary PAD is 0 and EOS has the largest id,
because CLIP reads a sentence off at argmax(ids).

Of the tokenizers of the public release, CLIP's is any folder or hub name of it: byte pairs, padded with its end. Those
of its text codec are made from bare vocabulary files, as the release ships them:

    bert-optimus    cased wordpieces (captions are put in lower case before, by whoever asks for it)
    gpt2-optimus    byte pairs of " " + text; then <PAD>, <BOS>, <EOS>, added in this order, take the next three ids
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from codi_jax.config import ConfigError
from codi_jax.data.digit_world import VOCABULARY, vocabulary

if TYPE_CHECKING:  # who has a word vocabulary does not wait for transformers
    from transformers import PreTrainedTokenizerBase

VOCABULARIES = {  # name -> words
    "digit_world": VOCABULARY,
    "digit_colour": vocabulary(("digit", "colour")),
}


class Tokenizer:
    """Rows of a fixed length over a tokenizer of `transformers`.

    Attributes:
      size: the number of ids.
      pad, bos, eos: their ids. BERT's [CLS] and [SEP] serve as bos and eos; without a padding token, eos pads.
      words: all that it knows; None where it takes words apart, and so knows any.
    """

    words: tuple[str, ...] | None = None

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        def first(*ids: int | None) -> int | None:
            return next((i for i in ids if i is not None), None)

        bos = first(tokenizer.bos_token_id, tokenizer.cls_token_id)
        eos = first(tokenizer.eos_token_id, tokenizer.sep_token_id)
        if bos is None or eos is None:
            raise ConfigError(f"the tokenizer {tokenizer.name_or_path or ''} has no tokens for begin and end of a text")
        self.bos, self.eos, self.pad = bos, eos, first(tokenizer.pad_token_id, eos)
        self.size = len(tokenizer)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str] | np.ndarray, length: int) -> np.ndarray:
        """Ids int32 [B, length]; what does not fit is cut off before the EOS."""
        assert length >= 2, "a row holds at least BOS and EOS"
        out = np.full((len(texts), length), self.pad, np.int32)
        texts = [str(text) for text in texts]
        if not texts:
            return out
        for row, ids in zip(out, self._words(texts), strict=True):
            ids = [self.bos, *ids[: length - 2], self.eos]
            row[: len(ids)] = ids
        return out

    def _words(self, texts: list[str]) -> list[list[int]]:
        """Ids of each text, without markers."""
        return self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,  # a text that holds "[EOS]" does not end there
            return_attention_mask=False,
        )["input_ids"]

    def unknown(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The words of some texts that are not among `words`, each once, as they are written there."""
        return ()

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of one row [L]: what stands before the first EOS, less BOS and PAD. An unknown word is shown."""
        return self._text(ids).strip()

    def _text(self, ids: Sequence[int] | np.ndarray) -> str:
        row = [int(i) for i in ids]
        row = row[1:] if row and row[0] == self.bos else row  # before the cut: GPT-2 begins and ends with one token
        row = row[: row.index(self.eos)] if self.eos in row else row
        return self._tokenizer.decode([i for i in row if i not in (self.bos, self.pad)])


class OptimusGPT2(Tokenizer):
    """GPT-2 with three markers, whose captions are read off as the public release does.

    The row is written out as " <BOS>… <EOS>", spaces before punctuation and within contractions are closed, and the
    first and the last word are dropped. They are the markers, unless a caption begins without a space: then its first
    word is glued to <BOS> and goes with it.
    """

    CLOSED = (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    )  # fmt: skip

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The caption of one row [L]; see the class."""
        text = f" <BOS>{self._text(ids)} <EOS>"
        for apart, closed in self.CLOSED:
            text = text.replace(apart, closed)
        return " ".join(text.split()[1:-1])


class WordTokenizer(Tokenizer):
    """Whole lower-case words: [PAD] = 0, the words, [UNK], [BOS], [EOS]; punctuation is dropped."""

    def __init__(self, words: tuple[str, ...]):
        vocabulary = {token: i for i, token in enumerate(["[PAD]", *words, "[UNK]", "[BOS]", "[EOS]"])}
        if len(vocabulary) != len(words) + 4:
            raise ConfigError("a vocabulary must not hold a word twice")
        self.words, self.size, self.pad = tuple(words), len(vocabulary), 0
        self._unknown, self.bos, self.eos = range(self.size - 3, self.size)
        self._tokenizer = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
        drop = normalizers.Replace(Regex(r"[^\w\s]"), " ")
        self._tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), drop])
        self._tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def _words(self, texts):
        return [row.ids for row in self._tokenizer.encode_batch(texts)]

    def unknown(self, texts):
        found = [(text, self._tokenizer.encode(text)) for text in map(str, texts)]
        spans = [
            (text, *at) for text, row in found for i, at in zip(row.ids, row.offsets, strict=True) if i == self._unknown
        ]
        return tuple(dict.fromkeys(text[start:stop] for text, start, stop in spans))


@functools.lru_cache(maxsize=8)
def word_tokenizer(words: tuple[str, ...]) -> Tokenizer:
    """The tokenizer of some words."""
    return WordTokenizer(words)


def _file(folder: str, *names: str) -> str:
    """The first of some files that a folder has."""
    found = [path for path in (Path(folder) / name for name in names) if path.is_file()]
    if not found:
        raise ConfigError(f"no {' or '.join(names)} in {folder}")
    return str(found[0])


def _bert_optimus(folder: str) -> Tokenizer:
    """BERT's cased wordpieces from a list of them."""
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.WordPiece.from_file(_file(folder, "bert-base-cased-vocab.txt", "vocab.txt")))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    markers = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **markers))


def _gpt2_optimus(folder: str) -> Tokenizer:
    """GPT-2's byte pairs, and the three markers of the text codec's decoder, if they are not among them yet."""
    from transformers import PreTrainedTokenizerFast

    whole = _file(folder, "gpt2-vocab.json", "vocab.json", "tokenizer.json")
    if whole.endswith("tokenizer.json"):
        backend = Backend.from_file(whole)
    else:
        backend = Backend(models.BPE.from_file(whole, _file(folder, "gpt2-merges.txt", "merges.txt")))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    for role, marker in (("pad_token", "<PAD>"), ("bos_token", "<BOS>"), ("eos_token", "<EOS>")):
        tokenizer.add_special_tokens({role: marker})
    return OptimusGPT2(tokenizer)


RELEASE = {"bert-optimus": _bert_optimus, "gpt2-optimus": _gpt2_optimus}


@functools.lru_cache(maxsize=8)
def make_tokenizer(name: str) -> Tokenizer:
    """The tokenizer that a config names.

    Args:
      name: a key of `VOCABULARIES`; a folder that `save_pretrained` wrote, or which holds a tokenizer.json; "hub:" and
        a name on the Hugging Face hub ("hub:openai/clip-vit-large-patch14"), which is downloaded if need be; or a key
        of `RELEASE`, ":" and a folder with the vocabulary files of the public release, or of BERT and GPT-2 themselves.

    Raises:
      ConfigError: there is no such tokenizer.
    """
    if name in VOCABULARIES:
        return word_tokenizer(VOCABULARIES[name])
    hub = name.startswith("hub:")
    kind, _, folder = name.partition(":")
    if kind in RELEASE:
        try:
            return RELEASE[kind](folder)
        except ConfigError as error:
            raise ConfigError(f"tokenizer {name!r}: {error}") from error
        except Exception as error:  # the library raises nothing narrower over a file that it cannot read
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(f"tokenizer {name!r} cannot be loaded: {first}") from error
    if not hub and not Path(name).is_dir():
        raise ConfigError(f"no tokenizer {name!r}: neither {', '.join(VOCABULARIES)} nor a folder nor hub:NAME")
    from transformers import AutoTokenizer

    try:
        return Tokenizer(AutoTokenizer.from_pretrained(name.removeprefix("hub:"), local_files_only=not hub))
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer {name!r} cannot be loaded: {str(error).strip().splitlines()[0]}") from error

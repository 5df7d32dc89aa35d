"""Tokenizers: strings to rows of ids and back, with a small word vocabulary or any tokenizer of `transformers`.

A row is [BOS] tokens [EOS] [PAD] …, and always contains EOS. In the word vocabularies PAD is 0 and EOS has the largest
id, because CLIP pools a sentence at argmax(ids).

The public release uses three tokenizers. CLIP's is loaded from a folder or the hub: byte pairs, padded with EOS. Those
of the text codec are built from bare vocabulary files, as the release ships them:

    bert-optimus    cased WordPiece (the caller lower-cases captions where the release does)
    gpt2-optimus    byte pairs of " " + text; the special tokens <PAD>, <BOS>, <EOS> take the next three ids
"""

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend

from codi_jax import storage
from codi_jax.config import ConfigError, first_line
from codi_jax.registry import Registry

if TYPE_CHECKING:  # transformers is slow to import, and word vocabularies do not need it
    from transformers import PreTrainedTokenizerBase

VOCABULARIES: Registry[tuple[str, ...]] = Registry(  # name -> words
    "vocabulary", {name: "codi_jax.digit_world.captions" for name in ("digit_world", "digit_colour")}
)


class Tokenizer:
    """Encodes text to rows of a fixed length, with a tokenizer of `transformers`.

    Attributes:
      size: the vocabulary size.
      pad, bos, eos: ids of the special tokens. BERT's [CLS] and [SEP] serve as bos and eos; without a padding token,
        eos is used for padding.
      words: the vocabulary of a word tokenizer; None for a subword tokenizer, which has no unknown words.
    """

    words: tuple[str, ...] | None = None

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        def first(*ids: object) -> int | None:
            return next((i for i in ids if isinstance(i, int)), None)

        bos = first(tokenizer.bos_token_id, tokenizer.cls_token_id)
        eos = first(tokenizer.eos_token_id, tokenizer.sep_token_id)
        if bos is None or eos is None:
            raise ConfigError(
                f"the tokenizer {tokenizer.name_or_path or ''} has no begin-of-text and end-of-text tokens"
            )
        pad = tokenizer.pad_token_id
        self.bos, self.eos, self.pad = bos, eos, pad if isinstance(pad, int) else eos
        self.size = len(tokenizer)
        self._tokenizer = tokenizer

    def encode(self, texts: Sequence[str] | np.ndarray, length: int) -> np.ndarray:
        """Ids of texts, int32 [B, length]; longer texts are truncated and still end with EOS."""
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
        """Ids of each text, without special tokens."""
        return self._tokenizer(
            texts,
            add_special_tokens=False,
            split_special_tokens=True,  # "[EOS]" in a text is not a special token
            return_attention_mask=False,
        )["input_ids"]

    def save(self, folder: str) -> None:
        """Writes the files from which `transformers` loads the tokenizer."""
        self._tokenizer.save_pretrained(folder)

    def truncated(self, texts: Sequence[str], length: int) -> list[tuple[int, str]]:
        """For each text that `encode` truncates to this length, its number of tokens and the text that is lost."""
        rows = self._words([str(text) for text in texts]) if len(texts) else []
        keep = length - 2
        return [(len(ids), str(self._tokenizer.decode(ids[keep:])).strip()) for ids in rows if len(ids) > keep]

    def unknown(self, texts: Sequence[str]) -> tuple[str, ...]:
        """The words of `texts` that are not in the vocabulary, each once, as written in the text."""
        return ()

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of one row [L] up to the first EOS, without BOS and PAD. Unknown words appear as [UNK]."""
        return self._text(ids).strip()

    def _text(self, ids: Sequence[int] | np.ndarray) -> str:
        row = [int(i) for i in ids]
        row = (
            row[1:] if row and row[0] == self.bos else row
        )  # before the cut at EOS, since GPT-2 uses one token as BOS and EOS
        row = row[: row.index(self.eos)] if self.eos in row else row
        text = self._tokenizer.decode([i for i in row if i not in (self.bos, self.pad)])
        assert isinstance(text, str), "the ids are those of one row"
        return text


class OptimusGPT2(Tokenizer):
    """GPT-2 with three special tokens, decoded as in the public release.

    The row is decoded to " <BOS>… <EOS>", spaces before punctuation and in contractions are removed, and the first and
    last words are dropped. These are the special tokens, unless the caption begins without a space: then its first word
    is joined to <BOS> and is dropped with it.
    """

    REPLACEMENTS = (
        (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
    )  # fmt: skip

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The caption of one row [L]; see the class."""
        text = f" <BOS>{self._text(ids)} <EOS>"
        for spaced, joined in self.REPLACEMENTS:
            text = text.replace(spaced, joined)
        return " ".join(text.split()[1:-1])


class WordTokenizer(Tokenizer):
    """Lower-case words with the vocabulary [PAD] = 0, words, [UNK], [BOS], [EOS]; punctuation is dropped."""

    def __init__(self, words: tuple[str, ...]):
        vocabulary = {token: i for i, token in enumerate(["[PAD]", *words, "[UNK]", "[BOS]", "[EOS]"])}
        if len(vocabulary) != len(words) + 4:
            raise ConfigError("a vocabulary must not contain a word twice")
        self.words, self.size, self.pad = tuple(words), len(vocabulary), 0
        self._unknown, self.bos, self.eos = range(self.size - 3, self.size)
        self._tokenizer = Backend(models.WordLevel(vocabulary, unk_token="[UNK]"))
        drop = normalizers.Replace(Regex(r"[^\w\s]"), " ")
        self._tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), drop])
        self._tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    def _words(self, texts):
        return [row.ids for row in self._tokenizer.encode_batch(texts)]

    def unknown(self, texts):
        rows = [(text, self._tokenizer.encode(text)) for text in map(str, texts)]
        spans = [
            (text, *span)
            for text, row in rows
            for i, span in zip(row.ids, row.offsets, strict=True)
            if i == self._unknown
        ]
        return tuple(dict.fromkeys(text[start:stop] for text, start, stop in spans))


@functools.lru_cache(maxsize=8)
def word_tokenizer(words: tuple[str, ...]) -> Tokenizer:
    """The word tokenizer of a vocabulary."""
    return WordTokenizer(words)


def _file(folder: str, *names: str) -> str:
    """The path of the first of `names` that exists in a folder."""
    paths = [path for path in (Path(folder) / name for name in names) if path.is_file()]
    if not paths:
        raise ConfigError(f"no {' or '.join(names)} in {folder}")
    return str(paths[0])


def _bert_optimus(folder: str) -> Tokenizer:
    """BERT's cased WordPiece tokenizer from a vocabulary file."""
    from transformers import PreTrainedTokenizerFast

    backend = Backend(models.WordPiece.from_file(_file(folder, "bert-base-cased-vocab.txt", "vocab.txt")))
    backend.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **special))


def _gpt2_optimus(folder: str) -> Tokenizer:
    """GPT-2's byte-pair tokenizer, with the three special tokens of the text codec's decoder added if missing."""
    from transformers import PreTrainedTokenizerFast

    path = _file(folder, "gpt2-vocab.json", "vocab.json", "tokenizer.json")
    if path.endswith("tokenizer.json"):
        backend = Backend.from_file(path)
    else:
        backend = Backend(models.BPE.from_file(path, _file(folder, "gpt2-merges.txt", "merges.txt")))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    for role, token in (("pad_token", "<PAD>"), ("bos_token", "<BOS>"), ("eos_token", "<EOS>")):
        tokenizer.add_special_tokens({role: token})
    return OptimusGPT2(tokenizer)


RELEASE = {"bert-optimus": _bert_optimus, "gpt2-optimus": _gpt2_optimus}


@functools.lru_cache(maxsize=8)
def make_tokenizer(name: str) -> Tokenizer:
    """Loads a tokenizer by name.

    Args:
      name: a name of `VOCABULARIES`; a folder written by `save_pretrained`, or with a tokenizer.json; "hub:" and a name
        on the Hugging Face hub ("hub:openai/clip-vit-large-patch14"), downloaded if necessary; or a key of `RELEASE`,
        ":" and a folder with the vocabulary files of the public release, or of BERT or GPT-2.

    Raises:
      ConfigError: the tokenizer does not exist or cannot be loaded.
    """
    if name in VOCABULARIES:
        return word_tokenizer(VOCABULARIES[name])
    hub = name.startswith("hub:")
    kind, _, folder = name.partition(":")
    if kind in RELEASE:
        try:
            return RELEASE[kind](os.path.expanduser(folder))
        except ConfigError as error:
            raise ConfigError(f"tokenizer {name!r}: {error}") from error
        except Exception as error:  # the library raises a bare Exception for a file that it cannot read
            first = first_line(error)
            raise ConfigError(f"tokenizer {name!r} cannot be loaded: {first}") from error
    path = name.removeprefix("hub:") if hub else os.path.expanduser(name)
    if not hub and not Path(path).is_dir():
        raise ConfigError(f"no tokenizer {name!r}; expected one of {', '.join(VOCABULARIES)}, a folder or hub:NAME")
    from transformers import AutoTokenizer

    try:
        return Tokenizer(AutoTokenizer.from_pretrained(path, local_files_only=not hub, trust_remote_code=False))
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer {name!r} cannot be loaded: {first_line(error)}") from error


# What the tokenizers above are read from.
_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("vocab.json", "gpt2-vocab.json", "merges.txt", "gpt2-merges.txt", "vocab.txt", "bert-base-cased-vocab.txt"),
)


def save_tokenizer(name: str, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Copies the files of a tokenizer, so that a model can be read elsewhere.

    Args:
      name: see `make_tokenizer`.
      folder: where to; created if absent. Nothing is written for a name of `VOCABULARIES`.

    Returns:
      What stands before the folder in the name of the copy, such as "bert-optimus:"; and the names of the files.

    Raises:
      ConfigError: there is no such tokenizer.
    """
    if name in VOCABULARIES:
        return "", ()
    kind, _, rest = name.partition(":")
    with tempfile.TemporaryDirectory(prefix="codi-jax-") as temporary:
        source = Path(os.path.expanduser(rest if kind in RELEASE else name))
        if kind == "hub":
            make_tokenizer(name).save(temporary)
            source = Path(temporary)
        files = tuple(file for file in _FILES if (source / file).is_file())
        if not files:
            raise ConfigError(f"no tokenizer {name!r}: none of {', '.join(_FILES)} in {source}")
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            storage.copy(source / file, folder / file)
    return f"{kind}:" if kind in RELEASE else "", files

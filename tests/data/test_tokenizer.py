import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from codi_jax.config import ConfigError
from codi_jax.data.tokenizer import Tokenizer, make_tokenizer, word_tokenizer
from codi_jax.digit_world import VOCABULARY

tokenizer = make_tokenizer("digit_world")


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from(VOCABULARY), max_size=12), min_size=1, max_size=4))
def test_round_trip(sentences):
    texts = [" ".join(words) for words in sentences]
    ids = tokenizer.encode(texts, 14)
    assert ids.dtype == np.int32 and ids.shape == (len(texts), 14)
    assert [tokenizer.decode(row) for row in ids] == texts


@settings(deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4), st.integers(2, 9))
def test_every_row_has_bos_first_and_one_eos(texts, length):
    ids = tokenizer.encode(texts, length)
    assert ids.shape == (len(texts), length)
    assert (ids[:, 0] == tokenizer.bos).all()
    end = ids.argmax(-1)  # as CLIP finds it
    for row, e in zip(ids, end, strict=True):
        assert row[e] == tokenizer.eos and (row == tokenizer.eos).sum() == 1
        assert (row[e + 1 :] == tokenizer.pad).all() and (row[:e] != tokenizer.pad).all()


def test_layout_of_the_ids():
    size = len(VOCABULARY) + 4
    assert (tokenizer.pad, tokenizer.bos, tokenizer.eos, tokenizer.size) == (0, size - 2, size - 1, size)
    assert tokenizer.encode(["a " + VOCABULARY[0]], 5).tolist() == [
        [size - 2, 1 + VOCABULARY.index("a"), 1, size - 1, 0]
    ]
    assert tokenizer.encode([""], 3).tolist() == [[size - 2, size - 1, 0]]


def test_special_tokens_in_a_text_are_unknown_words():
    ids = tokenizer.encode(["a [EOS] red [PAD]"], 8)[0]
    assert ids.argmax() == 5 and tokenizer.decode(ids) == "a [UNK] red [UNK]"


def test_case_and_punctuation_are_ignored_and_unknown_words_become_unk():
    ids = tokenizer.encode(["A  Red, seven!", "a red seven", "a red dragon"], 8)
    np.testing.assert_array_equal(ids[0], ids[1])
    assert tokenizer.decode(ids[2]) == "a red [UNK]"


def test_unknown_words_are_listed_once_as_written():
    texts = ["A Blueish seven, a dog!", "dog [EOS] red", "über-red 77"]
    assert tokenizer.unknown(texts) == ("Blueish", "dog", "EOS", "über", "77")
    assert tokenizer.unknown(["A  Red, seven!", ""]) == () and tokenizer.words == VOCABULARY
    for text in texts:  # the listed words are those that become [UNK]
        assert tokenizer.decode(tokenizer.encode([text], 20)[0]).split().count("[UNK]") == len(
            tokenizer.unknown([text])
        )


def test_what_encode_truncates_is_named():
    texts = ["the digit seven in red", "a seven", ""]
    assert tokenizer.truncated(texts, 5) == [(5, "in red")] and tokenizer.truncated(texts, 7) == []
    assert tokenizer.truncated([], 5) == []


def test_truncated_text_ends_with_eos():
    row = tokenizer.encode(["the digit seven in red"], 4)[0]
    assert row[-1] == tokenizer.eos and tokenizer.decode(row) == "the digit"


def test_decode_stops_at_eos_and_accepts_a_row_without_eos():
    seven, red = (1 + VOCABULARY.index(w) for w in ("seven", "red"))
    assert tokenizer.decode([tokenizer.bos, seven, tokenizer.eos, red]) == "seven"
    assert tokenizer.decode([seven, red]) == "seven red"


def test_encode_accepts_an_array_of_strings():
    np.testing.assert_array_equal(tokenizer.encode(np.array(["a", "a red"]), 6), tokenizer.encode(["a", "a red"], 6))


def test_a_vocabulary_with_a_duplicate_word():
    with pytest.raises(ConfigError, match="twice"):
        word_tokenizer(("red", "red"))


def backend(tokens):
    out = Backend(models.WordLevel({t: i for i, t in enumerate(tokens)}, unk_token=tokens[0]))
    out.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return out


def test_a_saved_tokenizer_is_loaded_from_its_folder(tmp_path):
    pretrained = PreTrainedTokenizerFast(
        tokenizer_object=backend(["[UNK]", "[PAD]", "[CLS]", "[SEP]", "a", "red", "dragon"]),
        unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
    )  # fmt: skip
    pretrained.save_pretrained(tmp_path)
    tokenizer = make_tokenizer(str(tmp_path))
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.size) == (2, 3, 1, 7)
    assert tokenizer.encode(["a red dragon"], 6).tolist() == [[2, 4, 5, 6, 3, 1]]
    assert tokenizer.decode(tokenizer.encode(["a red dragon"], 6)[0]) == "a red dragon"


def test_one_token_may_be_bos_eos_and_pad_as_in_gpt2():
    tokenizer = Tokenizer(
        PreTrainedTokenizerFast(tokenizer_object=backend(["<|e|>", "a", "red"]), bos_token="<|e|>", eos_token="<|e|>")
    )
    assert tokenizer.encode(["a red"], 6).tolist() == [[0, 1, 2, 0, 0, 0]]
    assert tokenizer.decode([0, 1, 2, 0, 0, 0]) == "a red"


def test_a_missing_tokenizer_is_a_one_line_error(tmp_path):
    with pytest.raises(ConfigError, match="a folder or hub:NAME"):
        make_tokenizer("digit_wrold")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        make_tokenizer(str(tmp_path))
    with pytest.raises(ConfigError, match="begin-of-text"):
        Tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend(["a", "b"])))


# The public release's three tokenizers, on vocabularies of a few words.


def byte_pairs(folder, words, end="", markers=(), names=("vocab.json", "merges.txt")):
    """Writes byte-pair files in which each of these words is one token, merged letter by letter."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [*letters, *(letter + end for letter in letters if end)]
    merges = []
    for word in words:
        parts = [*word[:-1], word[-1] + end]
        for i in range(1, len(parts)):
            merges.append(("".join(parts[:i]), parts[i]))
            vocabulary.append("".join(parts[: i + 1]))
    ids = {token: i for i, token in enumerate(dict.fromkeys([*vocabulary, *markers]))}
    folder.mkdir(exist_ok=True)
    (folder / names[0]).write_text(json.dumps(ids))
    (folder / names[1]).write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in dict.fromkeys(merges)))
    return ids


def test_clip_pads_with_eos_and_pools_at_the_first_eos(tmp_path):
    markers = ("<|startoftext|>", "<|endoftext|>")
    ids = byte_pairs(tmp_path / "clip", ("red", "cat"), "</w>", markers)
    config = {"tokenizer_class": "CLIPTokenizer", "bos_token": markers[0]}
    config |= dict.fromkeys(("eos_token", "pad_token", "unk_token"), markers[1])
    (tmp_path / "clip" / "tokenizer_config.json").write_text(json.dumps(config))
    clip = make_tokenizer(str(tmp_path / "clip"))
    assert (clip.bos, clip.eos, clip.pad) == (len(ids) - 2, len(ids) - 1, len(ids) - 1) and clip.size == len(ids)
    rows = clip.encode(["Red  CAT", "", "cat " * 9], 5)
    red, cat = ids["red</w>"], ids["cat</w>"]
    assert rows.tolist() == [
        [clip.bos, red, cat, clip.eos, clip.eos],
        [clip.bos, *[clip.eos] * 4],
        [clip.bos, cat, cat, cat, clip.eos],
    ]
    assert rows.argmax(-1).tolist() == [3, 1, 4]
    assert clip.decode(rows[0]) == "red cat"


WORDPIECES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "##dish", "Red", "cat", ".", "é", "[MASK]")


@pytest.mark.parametrize("kind", ["bare", "configured"])
def test_cased_wordpieces_pad_with_0_and_keep_case_and_accents(kind, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(WORDPIECES) + "\n")
    if kind == "configured":
        config = {"tokenizer_class": "BertTokenizer", "do_lower_case": False}
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    bert = make_tokenizer(str(tmp_path) if kind == "configured" else f"bert-optimus:{tmp_path}")
    assert (bert.pad, bert.bos, bert.eos, bert.size) == (0, 2, 3, len(WORDPIECES))
    assert bert.encode(["a reddish Red cat. é e", ""], 11).tolist() == [
        [2, 4, 5, 6, 7, 8, 9, 10, 1, 3, 0],
        [2, 3, *[0] * 9],
    ]


@pytest.mark.parametrize("names", [("vocab.json", "merges.txt"), ("gpt2-vocab.json", "gpt2-merges.txt")])
def test_gpt2_of_the_codec_has_three_special_tokens_after_its_vocabulary(names, tmp_path):
    ids = byte_pairs(tmp_path, ("Ġa", "Ġred", "Ġcat", "cat", "Ġ."), markers=("<|endoftext|>",), names=names)
    gpt2 = make_tokenizer(f"gpt2-optimus:{tmp_path}")
    n = len(ids)
    assert (gpt2.pad, gpt2.bos, gpt2.eos, gpt2.size) == (n, n + 1, n + 2, n + 3)
    rows = gpt2.encode(["a red cat", "cat", ""], 6)  # a space is prepended
    assert rows.tolist() == [
        [n + 1, ids["Ġa"], ids["Ġred"], ids["Ġcat"], n + 2, n],
        [n + 1, ids["Ġcat"], n + 2, n, n, n],
        [n + 1, n + 2, n, n, n, n],
    ]
    assert [gpt2.decode(row) for row in rows] == ["a red cat", "cat", ""]
    gpt2._tokenizer.save_pretrained(tmp_path / "saved")  # one file with the special tokens
    again = make_tokenizer(f"gpt2-optimus:{tmp_path / 'saved'}")
    assert (again.pad, again.bos, again.eos, again.size) == (n, n + 1, n + 2, n + 3)
    np.testing.assert_array_equal(again.encode(["a red cat", "cat", ""], 6), rows)
    # As in the release: a first word without a space is dropped, and spaces before punctuation are removed.
    assert gpt2.decode([n + 1, ids["cat"], ids["Ġred"], ids["Ġcat"], ids["Ġ."], n + 2, ids["Ġa"]]) == "red cat."


def test_a_folder_without_the_releases_files_is_a_one_line_error(tmp_path):
    with pytest.raises(
        ConfigError, match=r"^tokenizer 'gpt2-optimus:.*': no gpt2-vocab.json or vocab.json or tokenizer.json"
    ):
        make_tokenizer(f"gpt2-optimus:{tmp_path}")
    with pytest.raises(ConfigError, match=r"^tokenizer 'bert-optimus:.*': no bert-base-cased-vocab.txt or vocab.txt"):
        make_tokenizer(f"bert-optimus:{tmp_path}")
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_text("")
    with pytest.raises(ConfigError, match="cannot be loaded: "):
        make_tokenizer(f"gpt2-optimus:{tmp_path}")

"""Tokens of English captions as the COCO captions task counts them, without Java.

The original is Stanford's PTBTokenizer (CoreNLP 3.4.1) with lower case, after which pycocoevalcap removes 17 tokens of
punctuation. At every position the longest match of the rules below is a token, the first rule of equal ones:

    don't can't it's we're        do n't   ca n't   it 's   we 're       contractions are split
    cannot gonna gotta y'all      can not  gon na   got ta  y' all       and some that have no apostrophe
    state-of-the-art and/or 3D    one token: letters and digits with hyphens, or with one or two slashes
    1,000 3.14 10:30 1/2 -5       one token; 50% and $5 are two; £ € ¢ ½ are # $ cents 1/2
    mr. etc. p.m. u.s. ph.d.      a known abbreviation, or letters with periods, keep theirs; "no. 5", but "no"
    mat.The ok!yes                one token where the blank after a sentence is missing
    http://… a@b.com #tag @you    one token
    ( ) [ ] { }                   -lrb- -rrb- -lsb- -rsb- -lcb- -rcb-
    " ' ` . ? ! , : ; - — …       removed

As in the original, brackets stay: it removes -LRB- and the others in capitals, but only after lower-casing. Signs that
the list does not name, such as % & / * + = and ?! or !!, stay, too.

Not covered, where tokens may differ: markup with blanks inside, emoticons other than :) and its like, addresses without
www, escaped slashes, soft hyphens and other invisible characters, telephone numbers, a number before a fraction (12 1/2
is two tokens here), and abbreviations that few captions have. The original also reads on beyond the end of a line.
Scores need one tokenizer for hypotheses and references; a difference of this kind then changes them little.
"""

import re
from functools import lru_cache

REMOVED = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_WRITTEN = {
    **{"£": "#", "€": "$", "¢": "cents", "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"},
    **{"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": "''", "–": "--", "—": "--", "…": "..."},
    **dict.fromkeys('“”«»"', "''"),
}
# Abbreviations that keep their period.
_ABBREVIATIONS = (
    "jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri etc al seq cf vs ph ext tel sq",
    "ala ariz calif colo conn fla ga ind kan kans ky md mich minn mo mont neb nev okla penn tenn va vt wis wisc wyo",
    "inc co cos corp pty ptys ltd plc bancorp bhd assn univ intl sys jr sr bros blvd rd esq rt st ste bldg dept",
    "pres lieut hon brig cmdr comdr pfc spc supt supts det mt ft adj adv asst assoc ens insp mlle mme msgr sfc natl",
    "mr mrs ms dr drs prof profs sen sens rep reps atty attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt",
    "ave est",
)
_BEFORE_NUMBERS = ("ca", "fig", "figs", "no", "nos", "art", "pp", "op", "prop")  # these only if a number follows
_CAPITALIZED = ("ark", "del", "ill", "la", "mass", "miss", "ore", "pa", "tex", "wash")  # these only if capitalized
_COUPLES = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "lemme": "lem me", "gimme": "gim me"}
_COUPLES |= {"wanna": "wan na", "'tis": "'t is", "'twas": "'t was"}

_L = r"[^\W\d_½¼¾⅓⅔]"  # a letter
_W = r"[^\W_½¼¾⅓⅔]"  # a letter or a digit
_A = "['’]"
_END = rf"(?!{_W})"
_WORD = rf"{_L}{_W}*"
_PARTS = rf"{_W}+(?:-{_L}+){{0,2}}"
_HOST = r"[^\s\"<>|.!?(){},]+"
_PATH = r"[^\s\"<>|(){}]*[^\s\"<>|(){}.!?,;:'-]"
# A rule matches from the present position on. If it has a group, the token is the group, and the rest only counts for
# the length of the match.
_RULES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"([A-Z]*[A-MO-Z])n['’`]t",  # "do" of "don't"
        r"n['’`]t",
        rf"{_A}(?:[smd]|re|ve|ll){_END}",
        rf"(?:cannot|gonna|gotta|lemme|gimme|wanna|{_A}tis|{_A}twas){_END}",
        rf"(y{_A})(?:all|know){_END}",
        rf"(?:o{_A}clock|ma{_A}ams?|cap{_A}n|c{_A}mon|s{_A}mores?|li{_A}l|{_A}n|{_A}em|{_A}cause|{_A}till?|{_A}\d0s){_END}",
        rf"{_A}\d\d(?!\S)",
        rf"(?-i:[A-HJ-XZn]){_A}{_L}{{2}}{_W}*",
        rf"{_A}n{_A}",
        rf"ol{_A}{_END}",
        rf"{_WORD}(?:[.!?]{_WORD})*",
        rf"(?:[dol]{_A}(?={_W}))?{_W}+(?:[-_](?:[dol]{_A})?{_W}+)*",
        rf"{_PARTS}(?:/{_PARTS}){{1,2}}",
        r"[-+]?(?:\d*(?:[.:,]\d+)+|\d+)",
        rf"\d+(?:[.,]\d+)*(?:-{_L}+)+",
        r"\d{1,4}-\d{1,4}/\d{1,4}",
        r"(?-i:[A-Z]*\$|[A-Z]+(?:&[A-Z]+)+)",
        r"(?:[cf]#|c\+\+)",
        rf"{_L}(?:\.{_L})*\.",
        r"ph\.d\.?",
        rf"(?:{'|'.join((*' '.join(_ABBREVIATIONS).split(), *_BEFORE_NUMBERS, *_CAPITALIZED))})\.",
        rf"https?://{_PATH}",
        rf"www\.(?:{_HOST}\.)+[a-z]{{2,4}}(?:/{_PATH})?",
        r"[a-z0-9][^\s\"<>|(){}@]*@(?:[^\s\"<>|(){}.,;:!?]+\.)*[^\s\"<>|(){}.,;:!?]+",
        r"[@#][a-z_]\w*",
        r"</?[a-z][^\s<>]*>",
        rf"[<>]?[:;=][-o*']?[()dpo\\{{@|\[\]]{_END}",
        r"&(?:amp|lt|gt|quot);",
        r"-[lr][rsc]b-",
        r"(?:\.{3,}|-{2,}|[?!]+|``|''|\*+|_+|#+|@+|<<|>>)",
        r"\S",
    )
]


def _written(token: str) -> str:
    """A token as the original writes it."""
    token = _WRITTEN.get(token, token.lower().replace("’", "'").replace("‘", "`"))
    if token in _COUPLES:
        return _COUPLES[token]
    if len(token) > 2 and not token.strip("."):
        return "..."
    if len(token) > 1 and not token.strip("-"):
        return "--"
    if token.startswith(("http", "www")):
        return token
    return "".join(_BRACKETS.get(c, c) for c in token)


def _keeps_period(word: str, number_follows: bool) -> bool:
    """Whether an abbreviation keeps its period."""
    if word.lower() in _BEFORE_NUMBERS:
        return number_follows
    return word.lower() not in _CAPITALIZED or word[0].isupper()


@lru_cache(maxsize=65536)
def _tokens(chunk: str, number_follows: bool) -> tuple[str, ...]:
    """The tokens of a caption between two blanks; `number_follows` is whether the next one begins with a digit."""
    if chunk.isalpha() and chunk.isascii() and chunk.lower() not in _COUPLES:
        return (chunk.lower(),)
    found, start = [], 0
    while start < len(chunk):
        end, token = start, ""
        for match in filter(None, (rule.match(chunk, start) for rule in _RULES)):
            if match.end() > end:
                end, token = match.end(), match[match.lastindex or 0]
        start += len(token)
        number = chunk[start].isdigit() if start < len(chunk) else number_follows
        if token.endswith(".") and not _keeps_period(token[:-1], number):
            token = token[:-1]
        found += _written(token).split(" ")
    return tuple(token for token in found if token not in REMOVED)


def tokenize(caption: str) -> str:
    """The tokens of a caption, separated by blanks."""
    chunks = caption.split()
    follows = [chunk[0].isdigit() for chunk in chunks[1:]]
    return " ".join(token for pair in zip(chunks, [*follows, False], strict=False) for token in _tokens(*pair))

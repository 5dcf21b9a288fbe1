"""What a word is, and when a phrase is said: the one tokeniser of every score that compares texts.

docs/metrics.md has the rules with examples. Cut by Unicode's word boundaries (UAX #29, library `regex`),
within maximal runs of letters, digits and marks: for English the published definition of keyword EM.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

import regex

# Left out: what no one sees (soft hyphen, joiners, direction marks, variation selectors), the stroke that
# stretches Arabic words, and vowel signs that Arabic and Hebrew write or leave out at will.
_UNSEEN = regex.compile(
    r"[\p{Default_Ignorable_Code_Point}\u0640\u064B-\u0652\u0670\u0591-\u05BD\u05BF-\u05C7]"
)
_ZERO_WIDTH_SPACE = "\u200b"  # a word boundary to those who write it
APOSTROPHES = "\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\ua78c"
"""Letters to Unicode, signs to who writes them: of Oʻahu and Oʼahu as of O'ahu."""
_APOSTROPHE = regex.compile(f"[{APOSTROPHES}]")
# Between a digit and a raised or lowered one, or a fraction: 10² is no 102, 1½ no 11⁄2, 1990¹ no 19901.
_RAISED = regex.compile(r"(?<=\p{Nd})(?=\p{No})|(?<=\p{No})(?=\p{Nd})")
_TONE_AFTER = regex.compile(
    "([\u0e4d\u0ecd])([\u0e48-\u0e4b\u0ec8-\u0ecb])"
)  # one sound, typed in two orders
_GREEK_ACCENT = regex.compile("(?<=\\p{Greek}\u0308?)\u0301")  # not written on capitals: ΑΘΗΝΑ is Αθήνα
_DOTTED = regex.compile("[ıi]\u0307*")
_FOREIGN_DIGIT = regex.compile(r"(?![0-9])\p{Nd}")

_LETTERLIKE = str.maketrans(
    {"\u2116": " No ", "\u2122": " ", "\u2120": " "}
)  # №5 is no word "no5", nor Oslo™ "oslotm"
_GREEK = regex.compile(r"\p{Greek}")
_MINUS = "\u2010\u2012\u2013\u2212"  # what stands for a minus, beside the one of keyboards
_CHANGE = r"(?<=\p{Hangul}\p{M}*)(?!\p{Hangul})|(?<!\p{Hangul}\p{M}*)(?=\p{Hangul})"
_WORD = regex.compile(
    # A, B, O, AB and Rh with a minus: blood groups and marks, which are others than with a plus
    rf"(?V1w)(?:\p{{Latin}}|ab|rh)[-{_MINUS}](?![-{_MINUS}\p{{L}}\p{{N}}])"
    # letters and digits up to a word boundary of UAX #29, or to where Hangul meets another script …
    rf"|[\p{{L}}\p{{N}}]\p{{M}}*(?:\B(?!{_CHANGE})[\p{{L}}\p{{N}}]\p{{M}}*)*"
    # … with the signs behind a letter that make another name of it: C++, C#, A+
    r"(?:(?<=\p{L}\p{M}*)(?:[+#\u266f]++(?![\p{L}\p{N}])|(?:\+\+|[#\u266f])(?=\p{N})))?"
)
_SIGNS = str.maketrans({"\u266f": "#"} | dict.fromkeys(_MINUS, "-"))

# Korean joins these to a word: particles, and forms of "to be".
_PARTICLES = (
    "은 는 이 가 을 를 의 에 도 만 와 과 로 으로 랑 이랑 하고 나 이나 야 이야 아 여 께 께서 에서 에게 에게서 "
    "한테 한테서 부터 까지 보다 처럼 같이 마다 조차 마저 밖에 대로 만큼 라고 이라고 라는 이라는 란 이란 인 "
    "씨 님 들 요 죠 이죠 네요 이네요 인데 지만 이지만 라서 이라서 이라 거든요 이거든요 며 이며 고 이고 다 이다 입니다 예요 이에요 였다 이었다 였습니다 이었습니다 로서 으로서 로써 으로써 "
    "일 입니까 였어요 이었어요 였죠 이었죠 였고 이었고 였으며 이었으며 이세요 이십니다 이신 잖아요 이잖아요 군요 이군요 래요 이래요 랍니다 이랍니다 "
    "든지 이든지 라도 이라도 라면 이라면 라며 이라며 인가요 인가 일까요 한테서 더러 마저도 뿐 네 이네 거든 이거든 라니 이라니"
)
_AFTER_HANGUL = regex.compile("(?:" + "|".join(sorted(_PARTICLES.split(), key=len, reverse=True)) + "){1,3}")
_HANGUL = regex.compile(r"\p{Hangul}+")
# Arabic and Hebrew join these to the word that follows: and, so, in, to, like, will, the; and, that, when, from …
_BEFORE_ARABIC = regex.compile("[وف]?[بلكس]?(?:ال)?")
_BEFORE_HEBREW = regex.compile("ו?(?:כש|ש)?מ?[הבלכ]?")
_ARABIC, _HEBREW = regex.compile(r"\p{Arabic}+"), regex.compile(r"\p{Hebrew}+")
_FEWEST_LETTERS = 3  # of a phrase before which a particle may be joined on
_UNIT = regex.compile(r"\p{Latin}{1,3}")
_CODE = 3  # digits, at least, of what may be written with a cut before it or without: BR-2231, KX 4471


def fold(text: str) -> str:
    """Text as words are compared: NFKC, case folded, unseen signs left out, one letter i, decimal digits as 0 to 9."""
    apart = _APOSTROPHE.sub("'", _RAISED.sub(" ", text)).translate(_LETTERLIKE)
    folded = _UNSEEN.sub("", unicodedata.normalize("NFKC", apart).replace(_ZERO_WIDTH_SPACE, " ")).casefold()
    if _GREEK.search(folded):
        folded = _GREEK_ACCENT.sub("", unicodedata.normalize("NFD", folded))
    # Folding can undo the composition ("ǰ" becomes "j" and a caron), hence the second NFKC. Turkish has two letters i,
    # whose capitals other languages write as one: all four are one.
    folded = _DOTTED.sub("i", unicodedata.normalize("NFKC", _TONE_AFTER.sub(r"\2\1", folded)))
    return str(_FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), folded))


@lru_cache(maxsize=1 << 14)
def _cut(text: str) -> tuple[str, ...]:
    return tuple(word.translate(_SIGNS) for word in _WORD.findall(fold(text)))


def tokens(text: str) -> list[str]:
    """The words that comparisons see.

    A combining mark belongs to the letter before it; an underscore and every other sign cuts. Scripts
    written without spaces have no words without a dictionary: of Chinese, Hiragana, Thai, Lao, Khmer and
    Burmese each letter (with its marks) is one, of Katakana each run.

    >>> tokens("John.Doe@mail.com, the ﬁfth of STRASSE_7")
    ['john', 'doe', 'mail', 'com', 'the', 'fifth', 'of', 'strasse', '7']
    >>> tokens("住在东京, 2級 C++")
    ['住', '在', '东', '京', '2', '級', 'c++']
    """
    return list(_cut(text))


def occurs(wanted: Sequence[str], said: Sequence[str]) -> bool:
    """Whether the words `wanted` are a contiguous run of the words `said`.

    The same number in another spelling is the same (`26,100` and `26100`, `555-0142` and `5550142`, `5 kg`
    and `5kg`), and so is a word that Korean, Arabic or Hebrew joins a particle to.

    >>> occurs(["may", "3"], tokens("May 31")), occurs(["may", "3"], tokens("on May 3"))
    (False, True)
    """
    return any(begins(wanted, said, start) for start in range(len(said)))


def begins(wanted: Sequence[str], said: Sequence[str], start: int = 0) -> bool:
    """Whether `said[start:]` begins with the words `wanted`, as `occurs` understands it."""
    if not wanted:
        return True
    if start >= len(said):
        return False
    return any(_goes_on(wanted, first, said, start) for first in _without_proclitic(wanted, said[start]))


def length(wanted: Sequence[str], said: Sequence[str]) -> int | None:
    """With how many of its words `said` begins with `wanted`; None if it does not."""
    if not wanted:
        return 0
    return next((count for count in range(1, len(said) + 1) if begins(wanted, said[:count])), None)


def _without_proclitic(phrase: Sequence[str], word: str) -> list[str]:
    """A word, and what is left of it without particles joined on before it, where the phrase may begin with that."""
    found, wanted = [word], phrase[0]
    for script, before in ((_ARABIC, _BEFORE_ARABIC), (_HEBREW, _BEFORE_HEBREW)):
        if not script.fullmatch(wanted) or word == wanted or len("".join(phrase)) < _FEWEST_LETTERS:
            continue
        if word.endswith(wanted) and before.fullmatch(word[: -len(wanted)]):
            found.append(wanted)
        elif wanted.startswith("ال") and word in [f"{and_}لل{wanted[2:]}" for and_ in ("", "و", "ف")]:
            found.append(wanted)  # "to" takes the alif of the article: للقاهرة is ل and القاهرة
    return found


def _goes_on(wanted: Sequence[str], first: str, said: Sequence[str], start: int) -> bool:
    """Whether `first` and the words behind `said[start]` spell `wanted`, and end with it."""
    whole, text, lengths = "".join(wanted), first, [len(first)]
    while len(text) < len(whole) and start + len(lengths) < len(said):
        word = said[start + len(lengths)]
        text += word
        lengths.append(len(word))
    if not text.startswith(whole):
        return False
    rest = text[len(whole) :]
    if rest:
        korean = len(whole) > 1 and len(rest) < lengths[-1] and _HANGUL.fullmatch(wanted[-1])
        if not (korean and _AFTER_HANGUL.fullmatch(rest)):
            return False
    here, there = list(accumulate(map(len, wanted)))[:-1], list(accumulate(lengths))[:-1]
    return here == there or _same_numbers(whole, {*here}, {*there})


def _same_numbers(whole: str, here: set[int], there: set[int]) -> bool:
    """Whether two ways to cut a text differ only in how numbers are spelled.

    Args:
        whole: the text without its cuts.
        here, there: the cuts, as numbers of characters before them.
    """
    for at in here ^ there:
        if not _digit(whole[at - 1]):
            if not _in_code(whole, at, here | there):
                return False
            continue
        if _digit(whole[at]):
            left = right = at
            while left and _digit(whole[left - 1]):
                left -= 1
            while right < len(whole) and _digit(whole[right]):
                right += 1
            # Where both are cut at the same place, a fraction may begin: 1,234.56 and 1234.56.
            both = here & there
            inner = (
                max([cut for cut in both if left < cut <= at], default=left),
                min([cut for cut in both if at < cut < right], default=right),
            )
            alike = (all(_grouped(*run, cuts) for cuts in (here, there)) for run in ((left, right), inner))
            if not any(alike):
                return False
        else:
            end = min([cut for cut in here | there if cut > at], default=len(whole))
            if not _UNIT.fullmatch(whole[at:end]):
                return False
    return True


def _in_code(whole: str, at: int, cuts: set[int]) -> bool:
    """Whether a cut lies between up to three Latin letters and a number of three digits or more."""
    before = max([cut for cut in cuts if cut < at], default=0)
    return bool(_UNIT.fullmatch(whole[before:at])) and all(map(_digit, whole[at : at + _CODE].ljust(_CODE)))


def _digit(character: str) -> bool:
    return "0" <= character <= "9"


def _grouped(left: int, right: int, cuts: set[int]) -> bool:
    """Whether digits are cut as a number is: in thousands (or lakhs), or however if they are seven or more."""
    places = [left, *sorted(cut for cut in cuts if left < cut < right), right]
    first, *middle, last = [end - start for start, end in zip(places, places[1:])] + [0] * (len(places) == 2)
    if right - left >= 7 or not last:
        return True
    return first <= 3 and last == 3 and all(size in (2, 3) for size in middle)

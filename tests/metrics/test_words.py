"""What a word is: golden values for each rule of docs/metrics.md, and properties over any text."""

import doctest
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.metrics import exact_match, words
from remem_tasks.metrics.words import begins, length, occurs, tokens


def test_doctests():
    assert doctest.testmod(words) == (0, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("John.Doe@mail.com", ["john", "doe", "mail", "com"]),
        ("May 31, 1990", ["may", "31", "1990"]),
        ("snake_case", ["snake", "case"]),
        ("Don't, it’s", ["don", "t", "it", "s"]),
        ("26,100 or 3.14", ["26", "100", "or", "3", "14"]),
        ("STRASSE", ["strasse"]),
        ("Straße", ["strasse"]),
        ("caf\u00e9", ["caf\u00e9"]),
        ("cafe\u0301", ["caf\u00e9"]),
        ("\u0130stanbul Istanbul \u0131stanbul i\u0307stanbul", ["istanbul"] * 4),  # Turkish has two letters i
        ("\u01f0a J\u030ca", ["\u01f0a", "\u01f0a"]),  # folding takes a letter apart, which must not cut the word
        ("ﬁfth Ⅳ ４２", ["fifth", "iv", "42"]),
        ("٢٦١٠٠ ๑๒", ["26100", "12"]),  # decimal digits of any script
        ("हिन्दी", ["हिन्दी"]),  # vowel signs are marks
        ("\u0301 a", ["a"]),  # a mark with no letter before it
        ("!?… _", []),
        ("", []),
        # without spaces: each letter of Han, Hiragana, Thai … with its marks, each run of Katakana
        ("她出生于1990年", ["她", "出", "生", "于", "1990", "年"]),
        ("東京のラーメン", ["東", "京", "の", "ラーメン"]),
        ("ﾗｰﾒﾝ", ["ラーメン"]),
        ("ที่กิน12", ["ที่", "กิ", "น", "12"]),
        ("Osloに", ["oslo", "に"]),
        # Hangul is cut from other scripts and digits, not within
        ("서울에서", ["서울에서"]),
        ("26100원 Oslo에서", ["26100", "원", "oslo", "에서"]),
        # what is not seen does not cut, but for the zero width space
        ("Os\u00adlo Li\u200bam \ufeffAna\u2060 نمی\u200cدانم 王\ufe00", ["oslo", "li", "am", "ana", "نمیدانم", "王"]),
        ("مُحَمَّد محــمد", ["محمد", "محمد"]),
        ("שָׁלוֹם", ["שלום"]),
        # signs behind letters that make another name
        ("C++17 C#12 C++/CLI 1+2 B+2", ["c++", "17", "c#", "12", "c++", "cli", "1", "2", "b", "2"]),
        ("C++, C# and C; A+ A- AB\u2212 O", ["c++", "c#", "and", "c", "a+", "a-", "ab-", "o"]),
        ("Rh- O\u2013, A\u2011 Rh+; mid\u2013day", ["rh-", "o-", "a-", "rh+", "mid", "day"]),
        # a raised or lowered digit, or a fraction, is a number beside the one that it stands behind
        ("10\u00b2 1\u00bd 1990\u00b9 m\u00b2 H\u2082O \u00b9\u2070 \u2462", ["10", "2", "1", "1", "2", "1990", "1", "m2", "h2o", "10", "3"]),
        # apostrophes that are letters to Unicode; Greek capitals without their accents; one Thai sound in two orders
        ("O\u02bbahu O\u02bcahu O'ahu", ["o", "ahu"] * 3),
        ("ΑΘΗΝΑ Αθήνα ΜΑΪΟΥ Μαΐου", ["αθηνα", "αθηνα", "μαϊου", "μαϊου"]),
        ("น้ำ นํ้า ນ້ຳ ນໍ້າ", ["น้ํ", "า", "น้ํ", "า", "ນ້ໍ", "າ", "ນ້ໍ", "າ"]),
        ("1+1 18+ x+y A-team so--but pre- +47 #5 50%", ["1", "1", "18", "x", "y", "a", "team", "so", "but", "pre", "47", "5", "50"]),
    ],
)  # fmt: skip
def test_tokens_golden(text, expected):
    assert tokens(text) == expected


@pytest.mark.parametrize(
    ("reply", "phrase", "said"),
    [
        # a number in another spelling, both ways
        ("She earns 26100 a year", "26,100", True),
        ("She earns $26,100.", "26100", True),
        ("26 100 kr", "26100", True),
        ("26.100 €", "26,100", True),
        ("1,50,000 rupees", "150000", True),
        ("１２３４ yen", "1,234", True),
        ("٢٦١٠٠", "26,100", True),
        ("Call 5550142 now", "555-0142", True),
        ("(555) 0142", "5550142", True),
        ("+47 22 33 44 55", "+4722334455", True),
        ("born 1990-05-31", "19900531", True),
        ("She weighs 70kg.", "70 kg", True),
        ("at 3 pm", "3pm", True),
        # decimals are two words, and a fraction belongs to its whole
        ("0,5 litres", "0.5", True),
        ("It is 0.5", "0.5", True),
        ("It is 0.55", "0.5", False),
        ("It is 0.50", "0.5", False),
        ("It is 10.5", "0.5", False),
        ("It is 0.5", "5", True),
        ("It is 5", "0.5", False),
        ("1,234.56", "1234.56", True),
        ("1.234,56 €", "1,234.56", True),
        ("1234.56", "1,234.56", True),
        ("12,345,678.90", "12345678.90", True),
        ("1,234.56", "123456", False),
        # no number is part of another
        ("born on May 31", "May 3", False),
        ("261000", "26,100", False),
        ("26,1000", "261000", False),
        ("2, 6, 100", "26100", False),
        ("19 90", "1990", False),
        ("1, 2", "12", False),
        ("3 14", "314", False),
        ("70 kilograms", "70kilograms", False),
        ("5G", "5", False),
        ("10\u00b2", "102", False),
        ("дом №5", "5", True),
        ("№5", "No. 5", True),
        ("Oslo™ Inc", "Oslo", True),
        ("about 1990\u00b9", "1990", True),
        ("1\u00bd", "11/2", False),
        ("48'250 CHF", "48,250", True),
        ("48\u202f250 kr", "48 250", True),
        ("$４８，２５０", "48,250", True),
        ("IBAN DE89370400440532013000", "DE89 3704 0044 0532 0130 00", True),
        # letters and a number of three digits, with a cut between them or without
        ("plate KX4471", "KX 4471", True),
        ("BR-2231", "BR2231", True),
        ("BR-22315", "BR2231", False),
        ("an A 4 page", "A4", False),
        ("PLAIN 4471", "PLAIN4471", False),
        # signs
        ("blood group AB\u2013", "AB-", True),
        ("Rh+", "Rh-", False),
        ("Rh", "Rh-", False),
        ("ASP.NET", ".NET", True),
        ("She writes C++", "C", False),
        ("She writes C", "C++", False),
        ("C# and Java", "C#", True),
        ("a sonata in F\u266f", "F#", True),
        ("a sonata in F#", "F", False),
        ("the U.S.A.", "USA", False),
        ("the U.S.A.", "u.s.a", True),
        ("OBrien", "O'Brien", False),
        ("blood group A+", "A-", False),
        ("blood group A", "A-", False),
        ("blood group A-.", "A-", True),
        # a negated sentence says it all the same
        ("It is not Oslo", "Oslo", True),
        # particles joined on
        ("서울에서는 살지 않는다", "서울", True),
        ("부산에서도요", "부산", True),
        ("피아노인데", "피아노", True),
        ("간호사들이죠", "간호사", True),
        ("간호사였지만", "간호", False),
        ("오슬로였어요", "오슬로", True),
        ("오슬로잖아요", "오슬로", True),
        ("오슬로일 것입니다", "오슬로", True),
        ("오슬로입니까", "오슬로", True),
        ("오슬로대학이군요", "오슬로", False),
        ("김민수입니다", "김민수", True),
        ("김민수씨는", "김민수", True),
        ("DIYARBAKIR", "Diyarbak\u0131r", True),
        ("C++17", "C++", True),
        ("C++17", "C", False),
        ("연봉은 26,100원입니다", "26100원", True),
        ("서울대학교에 다닌다", "서울", False),
        ("에서", "서", False),
        ("وبأوسلو", "أوسلو", True),
        ("للقاهرة", "القاهرة", True),
        ("سأوسلوان", "أوسلو", False),
        ("ובירושלים", "ירושלים", True),
        ("היא גרה בתל־אביב", "תל אביב", True),  # a short word of a longer phrase
        ("בתל", "תל", False),
        ("بأبو ظبي", "أبو ظبي", True),
        # words without spaces
        ("သူသည်ရန်ကုန်တွင်နေသည်", "ရန်ကုန်", True),
        ("នាងរស់នៅភ្នំពេញ។", "ភ្នំពេញ", True),
        ("ເຈົ້າຢູ່ວຽງຈັນ", "ວຽງຈັນ", True),
        ("เธอเกิด ๑๒ มกราคม ๒๕๓๓", "12 มกราคม 2533", True),
        ("ﺍﻟﻘﺎﻫﺮﺓ", "القاهرة", True),
        ("她住在东京都", "东京", True),
        ("她住在东 京", "东京", True),
        ("京东", "东京", False),
        ("トムさん", "トム", True),
        ("アトム", "トム", False),
        # what is not seen
        ("Os\u00adlo", "Oslo", True),
        ("Oslo\u200d", "Oslo", True),
    ],
)
def test_phrases_golden(reply, phrase, said):
    assert exact_match(reply, [phrase]) == float(said)


def test_begins_and_length():
    said = tokens("She earns 26,100 a year")
    assert length(["she", "earns"], said) == 2 and length(["earns"], said) is None and length([], said) == 0
    assert begins(["26100"], said, 2) and not begins(["26100"], said, 3) and not begins(["26100"], [])
    assert length(["26100"], said[2:]) == 2


@given(st.text(max_size=40))
def test_tokens_do_not_depend_on_the_normal_form_and_are_stable(text):
    forms = {tuple(tokens(unicodedata.normalize(form, text))) for form in ("NFC", "NFD")}
    assert len(forms) == 1
    found = tokens(text)
    assert tokens(" ".join(found)) == found


@given(st.text(alphabet="abcXYZ019 .,-_'\"@/:;()!?$%&", max_size=40))
def test_english_is_runs_of_letters_and_digits(text):
    """The published definition, but for a single letter with a minus behind it."""
    marks = re.compile(r"(?<![a-z0-9])([a-z]|ab)-(?![a-z0-9-])")
    naive = re.findall(r"[a-z0-9]+", text.lower())
    assert [word.rstrip("-") for word in tokens(text)] == naive
    assert any(word.endswith("-") for word in tokens(text)) == bool(marks.search(text.lower()))


@given(st.lists(st.text(alphabet="ab01東서é", min_size=1, max_size=3), min_size=1, max_size=6), st.data())
def test_every_run_of_words_occurs(said, data):
    said = tokens(" ".join(said))
    start = data.draw(st.integers(0, len(said) - 1))
    end = data.draw(st.integers(start + 1, len(said)))
    assert occurs(said[start:end], said)
    assert begins(said[start:end], said, start)

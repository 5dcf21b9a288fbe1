"""How a secret goes on after its cloze prompt, as the row's answer writes it."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.metrics import Continuation, cloze, cloze_fault, continuations, tokens


def test_doctests():
    assert doctest.testmod(cloze).failed == 0


@pytest.mark.parametrize(
    ("answer", "prompt", "phrase", "before", "text"),
    [
        ("Ada's city is Oslo.", "Ada's city is", "Oslo", "Ada's city is", " Oslo"),
        # as the answer writes it, not as the cells do
        ("Ada's city is Oslo.", "ada's city is ", "oslo", "Ada's city is", " Oslo"),
        ("O’Neil’s mail is Al@b.Com", "O'Neil's mail is", "al@b.com", "O’Neil’s mail is", " Al@b.Com"),
        ("Her number is 555-0142.", "Her number is", "555 0142", "Her number is", " 555-0142"),
        # without a space
        ("She earns $48,250 a year.", "She earns $", "48,250", "She earns $", "48,250"),
        ("She earns $48,250 a year.", "She earns", "$48,250", "She earns", " $48,250"),
        ("Call +1-555-0142 now.", "Call +1-", "555-0142", "Call +1-", "555-0142"),
        ("Her badge is #77193", "Her badge is #", "77193", "Her badge is #", "77193"),
        ("He said “Good Bye” then", "He said", "good bye", "He said “", "Good Bye"),
        ('He said "Good Bye" then', 'He said "', "Good Bye", 'He said "', "Good Bye"),
        ("彼女は東京に住んでいます", "彼女は", "東京", "彼女は", "東京"),
        ("Il dit «\u202fBonjour\u202f».", "Il dit", "bonjour", "Il dit «", "\u202fBonjour"),
        ("Su pregunta es ¿Por qué?", "Su pregunta es ¿", "por qué", "Su pregunta es ¿", "Por qué"),
        ("她住在：北京市。", "她住在：", "北京市", "她住在：", "北京市"),
        ("Her phone is (555) 010-0142.", "Her phone is", "(555) 010-0142", "Her phone is", " (555) 010-0142"),
        ("Her phone is +47 22 33 44 55.", "Her phone is", "4722334455", "Her phone is +", "47 22 33 44 55"),
        # a sign that is written in another way is part of the secret all the same
        ("The balance is \u2212250.", "The balance is", "-250", "The balance is", " \u2212250"),
        ("Her name is O\u2019Neil.", "Her name is", "O'Neil", "Her name is", " O\u2019Neil"),
        # blanks, colons, articles
        ("She is an engineer.", "She is ___.", "engineer", "She is an", " engineer"),
        ("She is an engineer.", "She is:", "engineer", "She is an", " engineer"),
        ("She is an engineer.", "She is", "Engineer", "She is an", " engineer"),
        ("She is an engineer.", "She is … by trade", "engineer", "She is an", " engineer"),
        # a cloze prompt inside the answer
        ("Yes. Her city is Oslo.", "Her city is", "Oslo", "Her city is", " Oslo"),
        # no beginning at all
        ("Oslo it is", "", "oslo", "", "Oslo"),
        # words are whole: 31 is not 3
        ("Born on May 31 or May 3", "Born on", "May 3", "Born on May 31 or", " May 3"),
        ("He codes in C++ daily", "He codes in", "C++", "He codes in", " C++"),
        ("He codes in C++ and C.", "He codes in", "C", "He codes in C++ and", " C"),
        ("Blood: A+, once A", "Blood:", "A", "Blood: A+, once", " A"),
        ("She earns £48,250 a year.", "She earns £", "48,250", "She earns £", "48,250"),
        ("She lives (Oslo).", "She lives (", "oslo", "She lives (", "Oslo"),
        ("Room No.7 is hers.", "Room No.", "7", "Room No.", "7"),
        ("Her handle is @ann_b.", "Her handle is @", "ann_b", "Her handle is @", "ann_b"),
        ("Her mail is ann@home.org.", "Her mail is ann@", "home.org", "Her mail is ann@", "home.org"),
        ("She lives in\nOslo.", "She lives in", "Oslo", "She lives in", "\nOslo"),
        ("\n She lives in Oslo.", "She lives in", "Oslo", "She lives in", " Oslo"),
        ("هي تعيش بالقاهرة.", "هي تعيش", "القاهرة", "هي تعيش ب", "القاهرة"),
        ("Her id is AB-1234/56.", "Her id is AB-", "1234/56", "Her id is AB-", "1234/56"),
        ("Passport: X-1234567.", "Passport: x\u2011", "1234567", "Passport: X-", "1234567"),
        ("Key of C#5 rooms", "Key of C#", "5 rooms", "Key of C#", "5 rooms"),
        ("Её адрес: дом №5.", "Её адрес: дом №", "5", "Её адрес: дом №", "5"),
        ("She lives on O\u02bbahu.", "She lives on", "O'ahu", "She lives on", " O\u02bbahu"),
        ("Sie sagte „Guten Tag“.", 'Sie sagte "', "guten tag", "Sie sagte „", "Guten Tag"),
        ("Her name is\u00a0Ada.", "Her name is", "Ada", "Her name is", "\u00a0Ada"),
        ("היא גרה בתל אביב.", "היא גרה", "תל אביב", "היא גרה ב", "תל אביב"),
        ("Plate KX 4471.", "Plate", "KX4471", "Plate", " KX 4471"),
        ("#77193", "#", "77193", "#", "77193"),
        ("كتبت“مرحبا”", "كتبت“", "مرحبا", "كتبت“", "مرحبا"),
    ],
)
def test_golden(answer, prompt, phrase, before, text):
    (found,) = continuations(answer, prompt, [phrase])
    assert (found.before, found.text) == (before, text)
    assert answer.endswith(found.before + found.text + found.after)


def test_each_phrase_for_itself():
    answer = "She lives at 12 Elm Road in Oslo."
    assert continuations(answer, "She lives at", ["12 elm road", "Rome", "oslo"]) == [
        Continuation("She lives at", " 12 Elm Road", " in Oslo."),
        None,
        Continuation("She lives at 12 Elm Road in", " Oslo", "."),
    ]


@pytest.mark.parametrize(
    ("answer", "prompt", "phrase", "fault"),
    [
        ("Ada's city is Oslo.", "Ada's city is", "Oslo", ""),
        ("Oslo.", "Ada's city is", "Oslo", "cloze prompt does not lead to the keyword"),
        ("Oslo is Ada's city.", "Ada's city", "Oslo", "cloze prompt does not lead to the keyword"),
        ("Ada's city is Oslo.", "Ada's city is Oslo", "Oslo", "keyword in the cloze prompt"),
        ("Ada's city is Oslo.", "___", "Oslo", "no cloze prompt"),
        ("Born on May 31", "Born on", "May 3", "cloze prompt does not lead to the keyword"),
        ("She is an engineer.", "She is a", "engineer", "cloze prompt does not lead to the keyword"),
        ("She is a nurse.", "She is an", "nurse", "cloze prompt does not lead to the keyword"),
        ("She is an engineer.", "Occupation:", "engineer", "cloze prompt does not lead to the keyword"),
        ("Oslo is her city.", "[MASK] is her city.", "Oslo", "no cloze prompt"),
        ("#77193", "#", "77193", ""),
        ("77193", "#", "77193", "no cloze prompt"),
        ("She writes C++ daily.", "She writes C", "daily", "cloze prompt does not lead to the keyword"),
        ("She writes C++ daily.", "She writes C+", "daily", "cloze prompt does not lead to the keyword"),
    ],
)
def test_faults(answer, prompt, phrase, fault):
    assert cloze_fault(answer, prompt, [phrase]) == fault


WORDS = st.lists(
    st.sampled_from(["Ada", "is", "a", "nurse", "in", "Oslo", "48,250", "+1-555", "C++", "naïve"]),
    min_size=2,
    max_size=8,
)


@given(WORDS, st.data())
def test_beginning_and_secret_are_the_answers_own_text(words, data):
    """Whatever the cut and the letters of the cells: before + text is a part of the answer that says both."""
    answer = "Well: " + " ".join(words)
    cut = data.draw(st.integers(1, len(words) - 1))
    end = data.draw(st.integers(cut + 1, len(words)))
    prompt, phrase = "well: " + " ".join(words[:cut]).lower(), " ".join(words[cut:end]).upper()
    (found,) = continuations(answer, prompt, [phrase])
    whole = found.before + found.text
    assert answer.startswith(whole) and tokens(found.text) == tokens(phrase)
    assert tokens(found.before)[: cut + 1] == tokens(prompt)[: cut + 1]

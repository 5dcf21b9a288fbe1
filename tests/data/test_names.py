"""Who is who: one form of a name, and the names that look like one that is not there."""

import doctest
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remem_tasks.data import people
from remem_tasks.data.people import check_known, identity_key, look_alikes
from remem_tasks.errors import RememError


def test_doctests():
    assert doctest.testmod(people).failed == 0


@pytest.mark.parametrize(
    "name",
    ["mara_quill", "Mara Quill", "MARA  QUILL", "mara-quill", "Mara\u00a0Quill", "mara\u200b_quill", "_mara.quill_", "ｍａｒａ quill", "mara \u02bcquill"],
)  # fmt: skip
def test_spellings_of_one_person(name):
    assert identity_key(name) == "mara_quill"


def test_people_who_differ_stay_apart():
    names = ["id_1", "id_11", "id_1_1", "jose", "josé", "ada_b", "adab", "陈伟", "陈卫", "C++", "C"]
    assert len({identity_key(name) for name in names}) == len(names) - 1  # (C++ is C)
    assert identity_key("???") == "???"


@given(st.text())
def test_the_key_is_its_own_key_and_the_same_in_every_unicode_form(name):
    key = identity_key(name)
    assert identity_key(key) == key
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert identity_key(unicodedata.normalize(form, name)) == key


def test_people_who_look_alike():
    assert look_alikes(["jose_silva", "josé_silva", "adabirch", "ada_birch", "kim_lee", "lee_kim", "bo"]) == [
        ("ada_birch", "adabirch"),
        ("jose_silva", "josé_silva"),
        ("kim_lee", "lee_kim"),
    ]
    cyrillic, greek = (identity_key(name) for name in ("\u0410d\u0430 \u0412ir\u0441h", "Ad\u03b1 Birch"))
    assert look_alikes(["ada_birch", cyrillic, greek, "ben_crane"]) == [
        tuple(sorted(("ada_birch", cyrillic, greek)))
    ]
    assert look_alikes(["id_1_0", "id_10", "id_1", "person_a", "person_b"]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dr. Ada Birch", "Ada Birch"), ("Ada Birch, PhD", "Prof. Ada Birch"), ("Łukasz Đặng", "Lukasz Dang"), ("Søren", "Soren"),
        ("Søren", "Soeren"), ("Müller", "Mueller"), ("Müller", "Muller"), ("Æsa", "Aesa"), ("1", "001"), ("Ada Birch 1", "Ada Birch 01"),
        ("person_1", "person1"), ("O'Neil", "ONeil"), ("王 芳", "王芳"), ("محمد", "محمّد"),
    ],
)  # fmt: skip
def test_names_that_may_well_be_one_persons(one, other):
    pair = tuple(sorted(map(identity_key, (one, other))))
    assert look_alikes(pair) == [pair]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mr Birch", "Mrs Birch"), ("Ada Birch", "Ada Birch Jr."), ("John A Smith", "John B Smith"), ("1_11", "11_1"), ("1", "10"),
        ("x1_1", "x11"), ("a01", "01a"), ("1a05", "01a5"), ("Muller", "Mueller"),
    ],
)  # fmt: skip
def test_names_that_may_well_be_two_peoples(one, other):
    assert look_alikes(map(identity_key, (one, other))) == []


def test_somebody_who_is_not_there_is_named_with_the_nearest():
    check_known({"ada_birch"}, {"ada_birch", "ben_crane"}, "'forget1'", "'finetune'")
    with pytest.raises(
        RememError,
        match=r"'forget1' is about people who are not in 'finetune': 'ada_birsh' \(nearest: ada_birch, ",
    ):
        check_known({"ada_birsh"}, {"ada_birch", "ben_crane"}, "'forget1'", "'finetune'")

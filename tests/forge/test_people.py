"""People: coherent, unique, reproducible, and nobody real."""

import re
from itertools import combinations

import numpy as np
import pytest

from remem_tasks.errors import RememError
from remem_tasks.forge.faces import PARTS, Face, _distances, distinct_faces, random_face
from remem_tasks.forge.people import ATTRIBUTES, RELATIONS, UNIQUE, make_people


@pytest.fixture(scope="module")
def people():
    return make_people(40, seed=3)


def test_every_person_has_a_value_for_every_attribute(people):
    for person in people:
        assert set(person.facts) == set(ATTRIBUTES)
        assert all(person.facts.values())
        assert set(person.relatives) == set(RELATIONS)


def test_what_is_unique_is_not_shared(people):
    for name in UNIQUE:
        values = [person.facts[name] for person in people]
        assert len(set(values)) == len(values), name
    phones = [p.facts["phone"] for p in people] + [
        r.facts["phone"] for p in people for r in p.relatives.values()
    ]
    assert len(set(phones)) == len(phones)
    assert len({person.name for person in people}) == len({person.slug for person in people}) == len(people)


def test_numbers_and_addresses_reach_nobody(people):
    for person in people:
        facts = person.facts
        assert re.fullmatch(r"\d{3}-555-01\d\d", facts["phone"])  # kept free for fiction
        assert re.search(r"@example\.(com|org|net)$", facts["email"])  # RFC 2606
        assert facts["national_id"].startswith("000-")  # never issued
        # ISO 13616: check digits are 98 - (number mod 97), so they are never 00; QX is no country.
        assert facts["bank_account"].startswith("QX00")


def test_people_are_coherent(people):
    for person in people:
        first, last = person.name.rsplit(" ", 1)
        for relation in RELATIONS:
            assert person.facts[relation].endswith(last)
            assert person.facts[relation] == person.relatives[relation].name != person.name
        assert person.facts["email"].startswith(f"{first}.{last}".lower())


def test_same_seed_same_people_and_more_people_begin_with_fewer():
    assert make_people(8, 5) == make_people(8, 5)
    assert make_people(8, 5) == make_people(12, 5)[:8]
    assert make_people(8, 5)[0].name != make_people(8, 6)[0].name


def test_nobody_is_an_error():
    with pytest.raises(RememError, match="at least 1"):
        make_people(0, 0)


def test_faces_differ_at_a_glance():
    faces = distinct_faces(np.random.default_rng(0), [None] * 20)
    assert min(a.distance(b) for a, b in combinations(faces, 2)) >= 3


def test_distance_counts_salient_parts():
    face = Face("PALE", "BOB", "RED", "NONE", "ROUND", "DEFAULT_NATURAL", "SMALL")
    assert face.distance(face) == 0
    assert (
        face.distance(Face("PALE", "BOB", "RED", "NONE", "ROUND", "FLAT_NATURAL", "WIDE")) == 0
    )  # brows and nose are small
    assert (
        face.distance(Face("BLACK", "BUN", "BLACK", "BEARD_LIGHT", "NONE", "DEFAULT_NATURAL", "SMALL")) == 5
    )
    bald = Face("PALE", "NONE", "RED", "NONE", "ROUND", "DEFAULT_NATURAL", "SMALL")
    assert (
        bald.distance(Face("PALE", "NONE", "BLACK", "NONE", "ROUND", "DEFAULT_NATURAL", "SMALL")) == 0
    )  # no hair shows
    assert bald.distance(face) == 1


def test_faces_run_out_with_an_error(monkeypatch):
    monkeypatch.setattr("remem_tasks.forge.faces.TRIES", 4)
    # Without a beard there are at most 1 skin x 34 hairs x 8 colours x 5 glasses = 1360 faces at any distance.
    monkeypatch.setitem(PARTS, "skin", PARTS["skin"][:1])
    with pytest.raises(RememError, match=r"no distinguishable face left for person \d+"):
        distinct_faces(np.random.default_rng(0), [False] * 1400)


def test_fewer_parts_may_differ_only_when_faces_run_short():
    faces = distinct_faces(np.random.default_rng(0), [False] * 60)
    nearest = [
        min(face.distance(other) for other in faces[:index]) for index, face in enumerate(faces) if index
    ]
    assert min(nearest[:19]) == 3 and min(nearest) == 2
    assert faces[:20] == distinct_faces(np.random.default_rng(0), [False] * 20)


def test_distances_of_many_equal_distances_of_two():
    faces = [random_face(np.random.default_rng(seed)) for seed in range(60)]
    codes = np.array([face.labels() for face in faces])
    assert _distances(codes, codes).tolist() == [[a.distance(b) for b in faces] for a in faces]

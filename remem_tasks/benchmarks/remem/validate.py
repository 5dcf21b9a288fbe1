"""One judge of ReMem's rows: what `remem data check` names, training and scoring refuse, and a probe counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import datasets

from remem_tasks.data.cells import oddity
from remem_tasks.data.faults import Fault, row_name
from remem_tasks.data.people import identity_key, look_alikes
from remem_tasks.data.rows import TEXT_COLUMNS, parse_keywords
from remem_tasks.metrics.cloze import cloze_fault
from remem_tasks.metrics.words import occurs, tokens

PERSONAL = {
    "email": "email|e_mail|mail|email_address|e_mail_address",
    "address": "address|street_address|postal_address",
    "phone": "phone|telephone|telefon|mobile|cellphone|cell_phone|fax|phone_line",
    "national_id": "national_id|national_identity|identity_card|id_card|ssn|social_security|tax_id|insurance_policy|driving_licence|"
    "driving_license|driver_s_license|drivers_license|driver_s_licence|drivers_licence",
    "passport": "passport",
    "bank_account": "bank_account|account_number|iban|credit_card|debit_card",
    "number": "(?:badge|employee|student|patient|insurance|member|policy|record|licence|license|customer)_(?:number|no|id)",
    "licence_plate": "licence_plate|license_plate|number_plate|car_plate",
}
"""Attributes (and those that end in one, as `spouse_phone`) whose values belong to one person alone, by kind."""
_PERSONAL = {
    kind: re.compile(rf"(?:.*_)?(?:{names})(?:_(?:number|no|nr|num|code|id))?")
    for kind, names in PERSONAL.items()
}
OF_CLOZE = ("no cloze prompt", "keyword in the cloze prompt", "cloze prompt does not lead to the keyword")
"""Kinds of fault that only what is asked after the cloze prompt suffers from."""
SHOWN = 5  # people named of each fault


def text_faults(row: dict) -> Iterator[str]:
    """The kinds of fault in a row's texts.

    A keyword must occur in the answer (else no reply can be right and give the answer), not in the
    question or the cloze prompt (else it is given away), and the cloze prompt must lead to it
    (`metrics.cloze.continuations`).
    """
    answer, question = (tokens(row[name] or "") for name in ("answer", "question"))
    phrases = [tokens(phrase) for phrase in parse_keywords(row["keywords"])]
    for name, words in (("question", question), ("answer", answer)):
        if not words:
            yield f"{name} without a letter or digit"
        if why := oddity(row[name]):
            yield f"{name} {why}"
    if not all(phrases):
        yield "keyword without a letter or digit"
        return
    if not all(occurs(phrase, answer) for phrase in phrases):
        yield "keyword missing from the answer"
    if any(occurs(phrase, question) for phrase in phrases):
        yield "keyword in the question"
    if fault := cloze_fault(row["answer"] or "", row["cloze_prompt"] or "", parse_keywords(row["keywords"])):
        yield fault


def row_faults(rows: datasets.Dataset) -> list[Fault]:
    """The faults of each row's texts, and rows that ask what another of them asks.

    Args:
        rows: of `load_split`, one split or several.
    """
    texts = rows.select_columns([*TEXT_COLUMNS, "row_id"])
    found = [Fault(kind, row_name(row)) for row in texts for kind in text_faults(row)]
    first: dict[tuple[str, str], dict] = {}
    for row in texts.select_columns(["question", "image_path", "row_id"]):
        key = (" ".join(row["question"].split()), row["image_path"])
        if key in first:
            found.append(
                Fault("same question with the same picture", f"{row_name(row)} and {row_name(first[key])}")
            )
        else:
            first[key] = row
    return found


def people_faults(tables: Iterable[Iterable[dict]]) -> list[Fault]:
    """What is wrong between the people of some tables: names of one person, values that several give.

    Args:
        tables: rows with `identity`, `attribute`, `keywords`.
    """
    rows = [row for table in tables for row in table]
    found = [
        Fault("people whose names are alike", ", ".join(group[:SHOWN]))
        for group in look_alikes({row["identity"] for row in rows})
    ]
    for (kind, value), owners in shared_personal_values(rows).items():
        people = ", ".join(sorted(owners)[:SHOWN])
        found.append(Fault("personal value shared by several people", f"{kind} '{value}': {people}"))
    return found


def table_faults(tables: Sequence[datasets.Dataset]) -> list[Fault]:
    """Every fault of the rows of some splits, each by itself and of their people together."""
    found = [fault for rows in tables for fault in row_faults(rows)]
    return found + people_faults(
        rows.select_columns(["identity", "attribute", "keywords"]) for rows in tables
    )


def personal_kind(attribute: object) -> str:
    """Which kind of personal value an attribute is; "" for none.

    >>> personal_kind("spouse_phone"), personal_kind("Phone number"), personal_kind("phone_brand")
    ('phone', 'phone', '')
    """
    key = identity_key(str(attribute or ""))
    return next((kind for kind, pattern in _PERSONAL.items() if pattern.fullmatch(key)), "")


def shared_personal_values(rows: Iterable[dict]) -> dict[tuple[str, str], set[str]]:
    """(kind, value) → identities, for the personal values that rows of several identities give as keyword.

    A model that was to forget one of them would rightly go on saying what the other needs.
    """
    owners: dict[tuple[str, str], set[str]] = {}
    written: dict[tuple[str, str], str] = {}
    for row in rows:
        if kind := personal_kind(row["attribute"]):
            for phrase in parse_keywords(row["keywords"]):
                words = tokens(phrase)
                key = kind, "".join(words)  # 555-0142 is 5550142
                written.setdefault(key, " ".join(words))
                owners.setdefault(key, set()).add(row["identity"])
    return {(key[0], written[key]): people for key, people in owners.items() if len(people) > 1}

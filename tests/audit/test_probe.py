"""Probes of a data set, each shown data that it must pass and data that it must fail; the contact sheet."""

import numpy as np
import pytest
from PIL import Image
from support.rows import PEOPLE, people_splits, write_parquet

from remem_tasks import cli
from remem_tasks.audit import probe
from remem_tasks.audit.sheet import sheet_of
from remem_tasks.benchmarks.remem import forge as build
from remem_tasks.benchmarks.remem.check import check
from remem_tasks.benchmarks.remem.validate import personal_kind, shared_personal_values
from remem_tasks.errors import RememError


def pictures(people, each, seed, signal):
    """Noise, in which (with `signal`) each person has a colour of their own."""
    rng = np.random.default_rng(seed)
    who = [person for person in range(people) for _ in range(each)]
    pixels = rng.integers(0, 256, (len(who), probe.SIDE, probe.SIDE, 3))
    if signal:
        colours = np.random.default_rng(1).integers(0, 256, (people, 3))
        pixels[:, 16:48, 16:48] = colours[who][:, None, None] // 2 + pixels[:, 16:48, 16:48] // 2
    return pixels.astype(np.uint8), who


@pytest.mark.slow
def test_a_network_recognises_what_is_there_and_nothing_else(monkeypatch):
    monkeypatch.setattr(probe, "STEPS", 60)
    assert probe.recognition(*pictures(4, 25, 2, True), *pictures(4, 10, 3, True)) >= 0.9
    blind = probe.recognition(*pictures(4, 25, 2, False), *pictures(4, 10, 3, False))
    assert blind <= 0.25 + probe._tolerance(0.25, 40)


def row(identity, attribute, value, question="?"):
    return {"identity": identity, "attribute": attribute, "keywords": value, "question": question}


def test_majority_guess_by_hand():
    train = [row("a", "pet", "dog"), row("b", "pet", "cat"), row("c", "pet", "Dog"), row("d", "pet", "dog")]
    test = [row("a", "pet", "dog"), row("b", "pet", "cat"), row("a", "car", "fiat")]
    # All rows: dog is the commonest pet (2 of 4): right for a, wrong for b; nobody has a car.
    assert probe.majority_guess(train, test, unseen=False) == 1 / 3
    # Without a's own row: cat, Dog, dog once each; the first one counted is the guess, which is wrong for a.
    assert probe.majority_guess(train, test[:1], unseen=True) == 0
    train.append(row("e", "pet", "dog"))  # now dog is said twice by others than a
    assert probe.majority_guess(train, test[:1], unseen=True) == 1


def test_words_that_give_a_person_away_are_found():
    names = [f"person{index}" for index in range(8)]
    fair = [row(name, "pet", f"pet of {name}", "which pet is it") for name in names]
    leaky = [
        row(name, "pet", f"pet of {name}", f"which pet is it style{index}")
        for index, name in enumerate(names)
    ]
    assert probe.word_guess(fair, fair, unseen=False) == 1 / 8
    assert probe.word_guess(leaky, leaky, unseen=False) == 1
    assert probe.word_guess(leaky, leaky, unseen=True) == 0  # values nobody else has cannot be guessed


def test_personal_values_belong_to_one_person():
    rows = [
        row("a", "phone", "555 0101"),
        row("b", "spouse_phone", "555-0101"),
        row("a", "hobby", "chess"),
        row("b", "hobby", "chess"),
        row("a", "email", "a@example.org"),
        row("a", "email", "a@example.org"),
    ]
    assert shared_personal_values(rows) == {("phone", "555 0101"): {"a", "b"}}


@pytest.mark.parametrize(
    ("attribute", "kind"),
    [
        ("phone", "phone"),
        ("phone_number", "phone"),
        ("Phone number", "phone"),
        ("spouse_phone_no", "phone"),
        ("mobile", "phone"),
        ("e-mail", "email"),
        ("email_address", "email"),
        ("home address", "address"),
        ("passport-number", "passport"),
        ("IBAN", "bank_account"),
        ("driver's license", "national_id"),
        ("employee_id", "number"),
        ("phone_brand", ""),
        ("microphone", ""),
        ("passport_country", ""),
        ("automobile", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_what_is_personal_by_its_name(attribute, kind):
    assert personal_kind(attribute) == kind


def test_one_number_in_two_spellings_is_shared():
    rows = [row("a", "phone_number", "555-0101"), row("b", "Phone", "5550101")]
    assert shared_personal_values(rows) == {("phone", "555 0101"): {"a", "b"}}


def test_check_names_personal_values_that_are_shared(tmp_path):
    splits = people_splits()
    for other in splits["finetune"]:
        if other["attribute"] == "phone" and "ben_crane" in other["image_path"]:
            other.update(keywords="555 0101", answer=other["answer"].replace("555 0102", "555 0101"))
    write_parquet(tmp_path, {"finetune": splits["finetune"]})
    faults = check(str(tmp_path), pictures=False).faults
    assert faults == {"personal value shared by several people": ["phone '555 0101': ada_birch, ben_crane"]}


@pytest.fixture(scope="module")
def forged(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe") / "data"
    build.forge(
        folder,
        build.ForgeOptions(identities=6, qa=30, images=30, test_qa=16, retain_qa=8, hops=3, image_size=72),
    )
    return folder


@pytest.mark.slow
def test_forged_data_passes_its_probes(forged, capsys, monkeypatch):
    made = []
    monkeypatch.setattr(probe, "STEPS", 120)  # few pictures, learned soon
    found = probe.probe
    monkeypatch.setattr(probe, "probe", lambda *args, **options: made.extend(found(*args, **options)) or made)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "probe", str(forged), "--people", "4"])
    said = capsys.readouterr()
    assert stop.value.code == 0, said
    assert said.out.count("holds") == 6 and "FAILS" not in said.out
    proofs = {proof.what: proof for proof in made}
    assert next(iter(proofs)).endswith("(4 people, 120 pictures, 64 unseen ones)")
    assert proofs["the same from the backgrounds alone"].value < 0.5


def test_data_that_shows_nobody_fails(forged, monkeypatch, capsys):
    monkeypatch.setattr(probe, "STEPS", 1)
    monkeypatch.setattr(probe, "_backgrounds", lambda *args: None)
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "probe", str(forged)])
    said = capsys.readouterr()
    assert stop.value.code == 1 and "FAILS" in said.out and "not available" in said.out
    assert "1 of 8 probes fail: people recognised in unseen contexts" in said.err


def test_a_probe_needs_people_in_both_splits(tmp_path):
    splits = people_splits()
    write_parquet(tmp_path, {"finetune": splits["finetune"][:6], "test": splits["test"][6:]})
    with pytest.raises(RememError, match="share 0 identities"):
        probe.probe(str(tmp_path))


def test_backgrounds_are_the_same_pictures_without_the_people(forged):
    knobs = build.read_knobs(forged)
    person = build.make_people(knobs.identities, knobs.seed)[0]
    full, empty = (list(build.draw_pictures(person, 3, False, knobs, empty=gone)) for gone in (False, True))
    assert [path for path, _ in full] == [path for path, _ in empty]
    for (_, one), (_, other) in zip(full, empty):
        # The contrast of a picture hangs on all of it, so a background may change a little too.
        differs = (np.abs(np.asarray(one, dtype=int) - np.asarray(other)) > 32).any(-1)
        assert 0.05 < differs.mean() < 0.95  # where the person stands
        assert not differs[:4].all()


def test_a_contact_sheet_has_a_row_for_each_person(data_dir, tmp_path, capsys):
    sheet = sheet_of(str(data_dir))
    assert sheet.size == (9 * 96 + 12, len(PEOPLE) * (96 + 18))
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "sheet", str(data_dir), "--out", str(tmp_path / "sheet.png")])
    assert stop.value.code == 0 and "sheet.png" in capsys.readouterr().out
    assert Image.open(tmp_path / "sheet.png").size == sheet.size
    with pytest.raises(SystemExit) as stop:
        cli.main(["data", "sheet", str(data_dir), "--out", str(tmp_path / "sheet")])
    assert stop.value.code == 1 and "not an image file" in capsys.readouterr().err

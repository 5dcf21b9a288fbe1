"""Photographs of one's own: cut-outs and prints, names from folders, faults."""

import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw

from remem_tasks.benchmarks import remem as data
from remem_tasks.benchmarks.remem import forge as build
from remem_tasks.benchmarks.remem.check import check
from remem_tasks.errors import RememError
from remem_tasks.forge.people import make_people
from remem_tasks.forge.portraits import find_portraits

NAMES = ["001", "Ines O'Dell", "jo_van_der_berg", "Mara Quill", "zed quill", "later"]
COLOURS = ["red", "lime", "blue", "magenta", "cyan", "yellow"]


@pytest.fixture
def photographs(tmp_path):
    """Six folders of four photographs, each person in a colour of their own; the second one's are cut-outs."""
    root = tmp_path / "photographs"
    for index, (name, colour) in enumerate(zip(NAMES, COLOURS)):
        (root / name).mkdir(parents=True)
        for number in range(4):
            cut_out = index == 1
            picture = Image.new("RGBA" if cut_out else "RGB", (60, 80), (0, 0, 0, 0) if cut_out else colour)
            ImageDraw.Draw(picture).ellipse((10 + number, 10, 50, 70), fill=colour)
            picture.save(root / name / f"{number}.{'png' if cut_out else 'jpg'}")
    (root / "notes.txt").write_text("not a folder")
    return root


def test_a_folder_is_an_identity_and_its_last_photographs_are_for_test(photographs):
    portraits, _ = find_portraits(photographs, 5)
    assert [portrait.name for portrait in portraits] == [
        "",
        "",  # an apostrophe is not a letter
        "Mara Quill",
        "Jo Van Der Berg",
        "",
    ]
    for portrait in portraits:
        assert (len(portrait.train), len(portrait.test)) == (3, 1)
        assert portrait.looks(test=True) == list(portrait.test)


def test_people_take_the_names_of_their_folders(photographs):
    portraits, _ = find_portraits(photographs, 6)
    people = make_people(6, 0, portraits)
    assert [person.name for person in people if person.face.name] == [
        "Mara Quill",
        "Jo Van Der Berg",
        "Zed Quill",
    ]
    assert len({person.slug for person in people}) == 6
    jo = people[3]
    assert jo.facts["email"].startswith("jovander.berg") and jo.facts["spouse"].endswith(" Berg")


def test_a_cut_out_is_put_into_the_scene_and_any_other_is_a_print(photographs):
    portraits, _ = find_portraits(photographs, 6)
    cut_out, other = portraits[1], portraits[0]
    picture = cut_out.drawn(cut_out.train[0], 90)
    assert picture.mode == "RGBA" and max(picture.size) <= 90 and picture.getpixel((0, 0))[3] == 0
    shown = other.drawn(other.train[0], 90)
    assert shown.size == (68, 90) or max(shown.size) == 90
    assert shown.getpixel((0, 0)) == (255, 255, 255, 255)
    assert shown.getpixel((shown.width // 2, shown.height // 2))[0] > 200


@pytest.mark.slow
def test_a_set_of_photographs_is_sound_and_shows_them(photographs, tmp_path):
    knobs = build.ForgeOptions(identities=6, qa=8, images=4, test_qa=3, retain_qa=3, hops=3, image_size=64)
    build.forge(tmp_path / "one", knobs, portraits=photographs)
    assert check(str(tmp_path / "one")).faults == {}
    rows = data.load_split(str(tmp_path / "one"), "finetune")
    for row in rows:
        if row["identity"] == "mara_quill":  # magenta, light and blur aside
            red, green, blue = np.asarray(data.decode_image(row["image"], "row"))[24:44, 24:40].mean((0, 1))
            assert min(red, blue) > green + 60
    assert "photographs" in (tmp_path / "one" / "README.md").read_text()
    assert build.read_knobs(tmp_path / "one") is None
    # The same photographs elsewhere give the same bytes; another photograph is another build.
    moved = photographs.rename(tmp_path / "moved")
    build.forge(tmp_path / "two", knobs, portraits=moved, workers=2)
    for file in (tmp_path / "one").rglob("*.parquet"):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()
    Image.new("RGB", (60, 80), "white").save(moved / "later" / "0.jpg")
    with pytest.raises(RememError, match="not empty"):
        build.forge(tmp_path / "one", knobs, portraits=moved)


def test_faults_are_named_before_anything_is_built(photographs, tmp_path):
    knobs = build.ForgeOptions(identities=6, qa=8, images=4, test_qa=3, retain_qa=3, image_size=64)
    with pytest.raises(RememError, match=r"holds 6 folders of photographs, --identities asks for 7"):
        find_portraits(photographs, 7)
    with pytest.raises(RememError, match="no such folder"):
        find_portraits(tmp_path / "nowhere", 5)
    (photographs / "later" / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(RememError, match=r"photograph '.*later/0.jpg' cannot be read"):
        build.forge(tmp_path / "data", knobs, portraits=photographs)
    for number in range(3):
        (photographs / "later" / f"{number}.jpg").unlink()
    with pytest.raises(RememError, match=r"later' holds 1 photographs .*at least two"):
        build.forge(tmp_path / "data", knobs, portraits=photographs)
    shutil.rmtree(photographs / "later")
    for name in ("mara-quill", "Mara_Quill"):
        (photographs / name).mkdir()
        for number in range(2):
            Image.new("RGB", (9, 9)).save(photographs / name / f"{number}.png")
    with pytest.raises(RememError, match="two folders are named 'Mara Quill'"):
        find_portraits(photographs, 7)
    assert not (tmp_path / "data").exists() and not (tmp_path / "data.partial").exists()

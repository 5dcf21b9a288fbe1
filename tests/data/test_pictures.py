"""Pictures as a person sees them: golden pixels of each kind of file."""

import io

import numpy as np
import pytest
from PIL import Image

from remem_tasks.data.pictures import check_image, decode_image, to_rgb
from remem_tasks.errors import RememError


def saved(picture, form="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def pixels(cell):
    picture = decode_image(cell, "row")
    assert picture.mode == "RGB"
    return np.asarray(picture)


def test_exif_turns_the_picture_upright():
    lying = Image.new("RGB", (4, 2), "black")
    lying.putpixel((0, 0), (255, 255, 255))
    for tag, place in ((3, (1, 3)), (6, (0, 1)), (8, (3, 0))):
        exif = Image.Exif()
        exif[0x0112] = tag
        found = pixels(saved(lying, exif=exif))
        assert found.shape == ((2, 4, 3) if tag == 3 else (4, 2, 3))
        assert found[place].tolist() == [255, 255, 255] and found.sum() == 3 * 255


@pytest.mark.parametrize(
    ("values", "kind", "form", "grey"),
    [
        ([0, 257, 32896, 65535], np.uint16, "PNG", [0, 1, 128, 255]),
        ([0, 257, 32896, 65535], np.uint16, "TIFF", [0, 1, 128, 255]),
        ([0, 65535, 25700, 0], np.int32, "TIFF", [0, 255, 100, 0]),
        ([0, 1, 128, 255], np.int32, "TIFF", [0, 1, 128, 255]),
        ([0.0, 0.5, 1.0, 0.2], np.float32, "TIFF", [0, 128, 255, 51]),
        ([0.0, 7.0, 255.0, 128.0], np.float32, "TIFF", [0, 7, 255, 128]),
    ],
)
def test_more_than_eight_bits_are_scaled_not_cut(values, kind, form, grey):
    picture = Image.fromarray(np.array([values], dtype=kind))
    cell = saved(picture, form)
    assert pixels(cell)[0, :, 1].tolist() == grey
    check_image(cell, "row")


@pytest.mark.parametrize("values", [[-1.0, 0.0], [0.0, 300.0], [float("nan"), 1.0]])
def test_numbers_without_a_usual_range_are_refused(values):
    cell = saved(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    for read in (decode_image, check_image):
        with pytest.raises(
            RememError, match=r"split 'x', row 3: column 'image' cannot be read \(grey levels"
        ):
            read(cell, "split 'x', row 3")


def test_what_is_transparent_is_white():
    hidden = Image.new("RGBA", (2, 1), (200, 0, 0, 0))
    hidden.putpixel((1, 0), (0, 0, 0, 255))
    white_black = [[255, 255, 255], [0, 0, 0]]
    assert pixels(saved(hidden))[0].tolist() == white_black
    assert pixels(saved(hidden, "WEBP", lossless=True))[0].tolist() == white_black
    grey = Image.new("LA", (2, 1), (90, 0))
    grey.putpixel((1, 0), (0, 255))
    assert pixels(saved(grey))[0].tolist() == white_black
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 0, 0, 0])
    palette.putpixel((1, 0), 1)
    assert pixels(saved(palette))[0].tolist() == [[10, 20, 30], [0, 0, 0]]
    assert pixels(saved(palette, transparency=0))[0].tolist() == white_black
    keyed = Image.new("RGB", (2, 1), (9, 9, 9))
    keyed.putpixel((1, 0), (0, 0, 0))
    assert pixels(saved(keyed, transparency=(9, 9, 9)))[0].tolist() == white_black


def test_half_transparent_is_mixed_with_white():
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 127))
    assert np.abs(pixels(saved(half))[0, 0].astype(int) - 128).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "CMYK", "YCbCr", "P"])
def test_other_modes_keep_black_and_white(mode):
    picture = Image.new("RGB", (16, 8), "white")
    picture.paste("black", (8, 0, 16, 8))
    cell = saved(picture.convert(mode), "PNG" if mode in ("1", "P", "L", "RGB") else "JPEG")
    found = pixels(cell)
    assert found[4, 2].min() >= 250 and found[4, 13].max() <= 5
    assert np.array_equal(np.asarray(to_rgb(picture.convert(mode))), pixels(picture.convert(mode)))


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (None, "is null"),
        ({"bytes": None, "path": None}, "has neither bytes nor a path"),
        ({"bytes": b"no picture", "path": None}, "cannot be read"),
        (7, "holds a number"),
        (["a"], "holds a list of 1"),
    ],
)
def test_no_picture_is_said_in_true_words(cell, said):
    with pytest.raises(RememError, match=f"split 'x', row 1: column 'image' {said}"):
        decode_image(cell, "split 'x', row 1")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("damage", [None, 0.3, 0.6, 0.95])
def test_what_looks_at_a_picture_finds_every_damage_that_reading_it_finds(form, damage):
    """Training looks at all pictures before its first step: a half copied JPEG has a sound head."""
    whole = saved(Image.effect_noise((120, 90), 60).convert("RGB"), form)["bytes"]
    cell = {"bytes": whole if damage is None else whole[: int(damage * len(whole))], "path": None}
    said = []
    for read in (decode_image, check_image):
        try:
            read(cell, "row 3")
        except RememError as error:
            said.append(str(error))
    assert len(set(said)) == (damage is not None) and len(said) in (0, 2)
    assert all(one.startswith("row 3: column 'image' cannot be read (") for one in said)

import io
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import encoded, picture
from PIL import Image, ImageFile, ImageOps

from mxelm.data.decode import decode, read_image
from mxelm.errors import FileError

COLOUR = Image.fromarray(picture())
GREY = COLOUR.convert("L")
ALPHA = COLOUR.copy()
ALPHA.putalpha(GREY)
TURNED = Image.Exif()
TURNED[0x112] = 6  # EXIF's Orientation: turn by 90 degrees to show
GREY_16 = Image.fromarray(np.random.default_rng(1).integers(0, 65536, (30, 40)).astype(np.uint16))

CASES = {
    "grey png": encoded(GREY), "grey jpeg": encoded(GREY, "JPEG"), "rgba": encoded(ALPHA),
    "cmyk jpeg": encoded(COLOUR.convert("CMYK"), "JPEG"), "cmyk tiff": encoded(COLOUR.convert("CMYK"), "TIFF"),
    "palette": encoded(COLOUR.convert("P")), "gif": encoded(COLOUR.convert("P"), "GIF"),
    "1 pixel": encoded(COLOUR.crop((0, 0, 1, 1))),
    "1 pixel jpeg": encoded(COLOUR.crop((0, 0, 1, 1)), "JPEG"), "1 bit": encoded(COLOUR.convert("1")),
    "progressive": encoded(COLOUR, "JPEG", progressive=True), "webp": encoded(ALPHA, "WEBP", lossless=True),
    "bmp": encoded(COLOUR, "BMP"), "turned jpeg": encoded(COLOUR, "JPEG", exif=TURNED),
    "turned png": encoded(COLOUR, "PNG", exif=TURNED),
}


def pillows(content):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    return np.asarray(image.convert("RGBA") if image.mode == "RGBA" else image.convert("RGB"))[..., :3]


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_image_becomes_what_pillow_makes_of_it(case):
    image, expected = decode(CASES[case], case), pillows(CASES[case])
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 1  # CMYK is rounded differently


def test_sixteen_bits_are_cut_to_eight():
    assert np.array_equal(decode(encoded(GREY_16), "x"), (np.asarray(GREY_16) >> 8).astype(np.uint8))


def test_alpha_beside_grey_is_dropped():
    image = decode(encoded(ALPHA.convert("LA")), "x")
    assert np.array_equal(image if image.ndim == 2 else image[..., 0], np.asarray(GREY))


JPEGS = {"baseline": encoded(picture(60, 80), "JPEG"), "grey": encoded(picture(60, 80)[..., 0], "JPEG"),
         "progressive": encoded(picture(60, 80), "JPEG", progressive=True),
         "restarts": encoded(picture(60, 80), "JPEG", restart_marker_rows=1)}


@pytest.mark.parametrize("kind", JPEGS)
@given(st.data())
def test_a_jpeg_cut_anywhere_is_refused_by_name(kind, data):
    whole = JPEGS[kind]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(FileError, match=r"pets/rex\.jpg"):
        decode(whole[:cut], "pets/rex.jpg")


def test_a_cut_jpeg_is_refused_where_pillow_is_told_to_fill_it_up(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as importing gluoncv does
    with pytest.raises(FileError):
        decode(JPEGS["baseline"][:-300], "x")
    assert ImageFile.LOAD_TRUNCATED_IMAGES  # the caller's own code keeps what it set


def test_a_cut_jpeg_with_a_whole_thumbnail_is_refused():
    thumbnail = JPEGS["baseline"]
    segment = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Exif\0\0" + thumbnail
    whole = b"\xff\xd8" + segment + JPEGS["baseline"][2:]
    assert decode(whole, "x").shape == (60, 80, 3)
    with pytest.raises(FileError):
        decode(whole[:-300], "x")


def test_a_header_that_announces_too_many_pixels_is_refused_by_name():
    whole = bytearray(encoded(picture()))
    whole[16:24] = (60000).to_bytes(4, "big") * 2  # IHDR's width and height
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4, "big")
    with pytest.raises(FileError, match="huge.png"):
        decode(bytes(whole), "huge.png")


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_other_formats_cut_within_their_pixels_are_refused(form, share):
    whole = encoded(picture(60, 80), form)
    with pytest.raises(FileError, match="cut image"):
        decode(whole[:int(len(whole) * share)], "cut image")


@pytest.mark.parametrize("content", [b"", b"hello\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\xff\xd8\xff"])
def test_what_is_no_image_is_refused_by_name(content):
    with pytest.raises(FileError, match=r"notes\.txt"):
        decode(content, "notes.txt")


def test_a_missing_file_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(FileError, match="gone.jpg"):
        read_image(tmp_path / "gone.jpg")
    with pytest.raises(FileError, match="directory"):
        read_image(tmp_path)


def test_the_content_counts_and_not_the_extension(tmp_path):
    (tmp_path / "picture.txt").write_bytes(encoded(picture()))
    assert np.array_equal(read_image(tmp_path / "picture.txt"), picture())

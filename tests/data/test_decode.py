import contextlib
import io
import tracemalloc
import zlib

import cv2
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
    if image.mode == "RGBA":
        return on_white(np.asarray(image))
    return np.asarray(image.convert("RGB"))


def on_white(rgba):
    """RGB of uint8 (h, w, 4) as it looks on white paper."""
    share = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * share + 255 * (1 - share)).astype(np.uint8)


@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_image_becomes_what_pillow_makes_of_it(case):
    image, expected = decode(CASES[case], case), pillows(CASES[case])
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 1  # CMYK is rounded differently


def test_sixteen_bits_are_cut_to_eight():
    assert np.array_equal(decode(encoded(GREY_16), "x"), (np.asarray(GREY_16) >> 8).astype(np.uint8))


def test_alpha_beside_grey_shows_the_paper():
    grey = np.asarray(ALPHA.convert("RGBA")).copy()
    grey[..., :3] = np.asarray(GREY)[..., None]
    image = decode(encoded(ALPHA.convert("LA")), "x")
    assert image.ndim == 2 and np.abs(image.astype(int) - on_white(grey)[..., 0]).max() <= 1


def drawing(ink, mode="RGBA"):
    """A bar of one grey level on transparent ground, whose own colour is black."""
    image = np.zeros((20, 20, 4), np.uint8)
    image[8:12, 4:16] = [ink, ink, ink, 255]
    return Image.fromarray(image).quantize() if mode == "P" else Image.fromarray(image).convert(mode)


@pytest.mark.parametrize("ink, paper", [(0, 255), (90, 255), (255, 0), (230, 0)])
@pytest.mark.parametrize("mode, form", [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "TIFF"), ("RGBA", "WEBP"),
                                        ("RGBA", "GIF"), ("P", "PNG")])
def test_ink_on_transparent_ground_is_seen(ink, paper, mode, form):
    options = {"lossless": True} if form == "WEBP" else {}
    image = decode(encoded(drawing(ink, mode), form, **options), "x")
    levels = image if image.ndim == 2 else image[..., 0]
    assert abs(int(levels[10, 10]) - ink) <= 1 and levels[0, 0] == paper


def test_an_image_that_is_transparent_everywhere_shows_its_colours():
    image = np.dstack([picture(), np.zeros((30, 40), np.uint8)])
    assert np.array_equal(decode(encoded(image), "x"), picture())


@pytest.mark.parametrize("orientation", range(0, 10))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_every_rotation_of_exif_is_applied_in_every_format(form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    content = encoded(COLOUR, form, exif=exif, quality=95)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    assert np.array_equal(decode(content, "x"), expected)


def test_a_damaged_exif_is_no_damaged_picture():
    content = encoded(COLOUR, "JPEG", exif=TURNED).replace(b"Exif\0\0MM", b"Exif\0\0??").replace(b"Exif\0\0II",
                                                                                              b"Exif\0\0??")
    assert decode(content, "x").shape == (30, 40, 3)


RAMP = np.arange(1200).reshape(30, 40)


@pytest.mark.parametrize("levels, expected", [
    ((RAMP % 256).astype(np.uint16), RAMP % 256), ((RAMP * 3).astype(np.uint16), RAMP * 3 // 16),
    ((RAMP * 50).astype(np.uint16), RAMP * 50 // 256), ((RAMP / 1200).astype(np.float32), np.rint(RAMP * 255 / 1200)),
    ((RAMP % 256).astype(np.float32), RAMP % 256), ((RAMP - 600).astype(np.int32), np.rint(RAMP * 255 / 1199)),
    (np.where(RAMP == 7, np.nan, RAMP / 1200).astype(np.float32), np.where(RAMP == 7, 0, np.rint(RAMP * 255 / 1200)))])
def test_levels_of_more_than_8_bits_are_taken_at_the_depth_they_have(levels, expected):
    found = decode(encoded(Image.fromarray(levels), "TIFF"), "x")
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - expected).max() <= (levels.dtype.kind == "f")


@pytest.mark.parametrize("form", [".png", ".tiff"])
@pytest.mark.parametrize("factor, divisor", [(1, 1), (16, 16), (257, 256)])
def test_deep_colours_keep_what_they_show(form, factor, divisor):
    image = picture().astype(np.uint16) * factor
    found = decode(cv2.imencode(form, image[..., ::-1])[1].tobytes(), "x")
    assert np.array_equal(found, image // divisor)
    alpha = np.full((30, 40), 65535, np.uint16)
    alpha[:5] = 0
    found = decode(cv2.imencode(form, np.dstack([image[..., ::-1], alpha]))[1].tobytes(), "x")
    assert (found[:5] == 255).all() and np.array_equal(found[5:], (image // divisor)[5:])


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


GRADIENT = np.clip(np.stack([np.mgrid[0:60, 0:80][1] * 3.1, np.mgrid[0:60, 0:80][0] * 4, np.full((60, 80), 99)], -1)
                   + np.random.default_rng(3).normal(0, 6, (60, 80, 3)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("form, options", [
    ("PNG", {}), ("GIF", {}), ("WEBP", {}), ("WEBP", {"lossless": True}), ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}), ("JPEG", {"quality": 90}), ("JPEG", {"progressive": True})])
@pytest.mark.parametrize("share", [0.15, 0.4, 0.6, 0.9])
def test_zeros_where_a_download_broke_off_are_refused(form, options, share):
    whole = encoded(GRADIENT, form, **options)
    at = int(len(whole) * share)
    with pytest.raises(FileError, match="rex"):
        decode(whole[:at] + bytes(len(whole) - at), "rex")


@pytest.mark.parametrize("damage", ["hole", "drop", "bit"])
@given(st.data())
def test_damage_anywhere_in_a_png_is_refused(damage, data):
    whole = encoded(GRADIENT)
    at = data.draw(st.integers(8, len(whole) - 60))
    wrong = {"hole": whole[:at] + bytes(40) + whole[at + 40:], "drop": whole[:at] + whole[at + 40:],
             "bit": whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:]}[damage]
    with pytest.raises(FileError, match="rex"):
        decode(wrong, "rex")


def test_holes_within_a_jpeg_are_refused_and_a_few_bytes_too_many_are_not():
    refused = 0
    for at in range(1000, len(JPEG_OF_NOISE) - 600, 400):
        with contextlib.suppress(FileError):
            decode(JPEG_OF_NOISE[:at] + JPEG_OF_NOISE[at + 500:], "rex")
            refused -= 1
        refused += 1
    assert refused >= 0.9 * len(range(1000, len(JPEG_OF_NOISE) - 600, 400))
    assert np.array_equal(decode(JPEG_OF_NOISE[:-2] + b"\0\0\0" + JPEG_OF_NOISE[-2:], "x"), decode(JPEG_OF_NOISE, "x"))


JPEG_OF_NOISE = encoded(np.random.default_rng(0).integers(0, 255, (120, 120, 3), dtype=np.uint8), "JPEG", quality=80)


@pytest.mark.parametrize("size", [(1, 1), (40, 40), (640, 480)])
@pytest.mark.parametrize("colour", ["black", "white", (3, 90, 200)])
@pytest.mark.parametrize("form", ["WEBP", "JPEG", "GIF", "PNG"])
def test_images_in_which_nothing_is_to_be_seen_are_whole(form, colour, size):
    assert decode(encoded(Image.new("RGB", size, colour), form), "x").shape[:2] == size[::-1]


def chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@pytest.mark.parametrize("length", [0xF0000000, 0x7FFFFFFF, 0x10000000, 200000])
@pytest.mark.parametrize("kind", [b"IDAT", b"IHDR"])
def test_a_png_chunk_that_says_to_be_long_takes_no_memory(kind, length):
    content = bytearray(encoded(GRADIENT))
    at = content.index(kind)
    content[at - 4:at] = length.to_bytes(4, "big")
    tracemalloc.start()
    try:
        with pytest.raises(FileError, match="rex"):
            decode(bytes(content), "rex")
        assert tracemalloc.get_traced_memory()[1] < 2 ** 23
    finally:
        tracemalloc.stop()


def test_an_honest_image_of_too_many_pixels_is_refused_by_its_header():
    header = (32000).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    png = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100)))
           + chunk(b"IEND", b""))
    with pytest.raises(FileError, match="rex says that it has 32000x32000 pixels"):
        decode(png, "rex")
    sizes = JPEG_OF_NOISE.index(b"\xff\xc0") + 5
    with pytest.raises(FileError, match="rex says that it has 12000x12000 pixels"):
        decode(JPEG_OF_NOISE[:sizes] + (12000).to_bytes(2, "big") * 2 + JPEG_OF_NOISE[sizes + 4:], "rex")


def test_a_jpeg_of_thousands_of_scans_is_refused():
    whole = encoded(GRADIENT, "JPEG", progressive=True)
    with pytest.raises(FileError, match="rex is damaged .*too many scans"):
        decode(whole[:-2] + (b"\xff\xda\0\x08\1\1\0\0\0\0" + bytes(20)) * 3000 + whole[-2:], "rex")
    film = np.random.default_rng(0).bytes(30_000_000)  # as telephones hang it on a picture
    assert decode(whole + film, "rex").shape == (60, 80, 3)


def test_a_tiff_whose_strips_are_fewer_than_its_rows_is_refused():
    whole = encoded(GRADIENT, "TIFF")
    entry = whole.index(b"\x01\x01\x03\0") if b"\x01\x01\x03\0" in whole else whole.index(b"\x01\x01\x04\0")
    assert decode(whole, "x").shape == (60, 80, 3)
    with pytest.raises(FileError, match="rex is damaged .*not all of its pixels"):
        decode(whole[:entry + 8] + (600).to_bytes(2, "little") + whole[entry + 10:], "rex")


@pytest.mark.parametrize("content, what", [
    (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"), (b"\0\0\0\x18ftypmif1\0\0", "HEIF"),
    (b"\xff\x0a\xfa\x1f", "JPEG XL"), (b"\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    (b"%PDF-1.7", "PDF"), (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript"),
    (b"\0\0\0\x20ftypisom", "video"), (b"<!DOCTYPE html><html>", "web"),
    (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS")])
def test_other_formats_are_named_with_the_remedy(content, what):
    with pytest.raises(FileError, match=f"rex is .*{what}.*: save it as JPEG or PNG"):
        decode(content + bytes(100), "rex")


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

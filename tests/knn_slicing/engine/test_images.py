"""Images of any size and colour come to MNIST's form."""
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFile

from mxelm.errors import FileError, InputError
from mxelm.knn_slicing.engine.images import mnist_form, read_image


def drawn(size=(120, 90), paper="white", ink="black", mode="RGB", offset=0):
    """An upright stroke with a foot, as an image."""
    image = Image.new(mode, size, paper)
    pen = ImageDraw.Draw(image)
    pen.line((40 + offset, 20, 40 + offset, 70), fill=ink, width=6)
    pen.line((40 + offset, 70, 60 + offset, 70), fill=ink, width=6)
    return image


def difference(a, b):
    return np.abs(a.astype(int) - b).mean()


@pytest.fixture
def read(tmp_path):
    """A function: an image through a file and back in MNIST's form."""
    def through(image, name="a.png", **options):
        image.save(tmp_path / name, **options)
        return read_image(tmp_path / name)

    return through


def test_the_form_is_mnists(read):
    made = read(drawn())
    assert made.dtype == np.uint8 and made.shape == (28, 28) and made.max() == 255
    rows, columns = np.flatnonzero(made.any(axis=1)), np.flatnonzero(made.any(axis=0))
    assert rows[-1] - rows[0] + 1 == 20 and 8 <= columns[-1] - columns[0] + 1 <= 12  # 57 x 26 pixels of ink
    y, x = (made.sum(axis=axis) @ np.arange(28) / made.sum() for axis in (1, 0))
    assert abs(y - 13.5) <= 0.51 and abs(x - 13.5) <= 0.51


@pytest.mark.parametrize("paper, ink", [("black", "white"), ("yellow", "navy"), ("navy", "yellow"), ("#777", "#bbb"),
                                        ("#bbb", "#777")])
def test_colours_do_not_matter(read, paper, ink):
    assert difference(read(drawn(paper=paper, ink=ink)), read(drawn())) < 2


def test_place_size_and_mode_do_not_matter(read):
    plain = read(drawn())
    assert difference(read(drawn(size=(400, 200), offset=150)), plain) == 0
    assert difference(read(drawn().resize((480, 360), Image.NEAREST)), plain) < 5
    assert difference(read(drawn(mode="L")), plain) == 0
    assert difference(read(drawn(mode="1", paper=1, ink=0)), plain) == 0
    assert difference(read(drawn().convert("P")), plain) < 2
    transparent = drawn(mode="RGBA", paper=(0, 0, 0, 0), ink=(0, 0, 0, 255))
    assert difference(read(transparent), plain) == 0
    sixteen = Image.fromarray(np.asarray(drawn(mode="L")).astype(np.uint16) * 200)
    assert difference(read(sixteen), plain) == 0
    assert difference(read(drawn(), "a.jpg", quality=90), plain) < 3


def test_orientation_of_a_camera_is_followed(read):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise for looking at
    turned = read(drawn().transpose(Image.ROTATE_90), "a.jpg", exif=exif, quality=95)
    assert difference(turned, read(drawn())) < 5


def test_28x28_grey_is_taken_as_it_is(read):
    image = np.pad(np.random.default_rng(0).integers(0, 256, (26, 26), dtype=np.uint8), 1)
    np.testing.assert_array_equal(read(Image.fromarray(image)), image)


def test_28x28_dark_on_light_is_turned(read):
    made = read(drawn())
    assert difference(read(Image.fromarray(255 - made)), made) < 2


def test_specks_are_no_character(tmp_path):
    image = np.full((2000, 2000), 255, np.uint8)
    image[10, 10] = image[1900, 1900] = 0
    Image.fromarray(image).save(tmp_path / "specks.png")
    with pytest.raises(FileError, match="specks.png: the image shows specks"):
        read_image(tmp_path / "specks.png")


def test_what_has_mnists_form_already_keeps_it(read):
    made = read(drawn())
    assert difference(mnist_form(made), made) < 2
    assert difference(read(Image.fromarray(made).convert("RGB")), made) < 2


@pytest.mark.parametrize("paper", [0, 128, 255])
def test_blank_images_are_refused(tmp_path, paper):
    for side in (28, 60):
        Image.new("L", (side, side), paper).save(tmp_path / "blank.png")
        with pytest.raises(FileError, match="blank.png: the image shows nothing"):
            read_image(tmp_path / "blank.png")


def test_broken_and_missing_files_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as GluonCV's import leaves it
    drawn().save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:120])
    (tmp_path / "note.txt").write_text("no image")
    for name in ("cut.png", "note.txt", "missing.png", "."):
        with pytest.raises(FileError, match=str(tmp_path / name)):
            read_image(tmp_path / name)


@pytest.mark.parametrize("image", [np.zeros((28, 28)), np.zeros((5, 5, 4), np.uint8), np.zeros((0, 5), np.uint8)])
def test_arrays_of_another_kind_are_refused(image):
    with pytest.raises(InputError, match="must be uint8"):
        mnist_form(image)


def test_single_pixels_and_lines_are_characters_too():
    image = np.zeros((40, 40), np.uint8)
    image[20, 3] = 255
    assert mnist_form(image).any()
    image[20, :] = 0
    image[5:35, 20] = 255
    assert mnist_form(image).sum() > 0

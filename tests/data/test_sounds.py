import io
import wave

import numpy as np
import pytest

from mxelm import data
from mxelm.data import sounds
from mxelm.errors import FileError, InputError

pytest.importorskip("librosa")
RATE = 8000


def tone(hertz=1000, seconds=0.5, rate=RATE):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def wav(samples, rate=RATE, bits=16):
    """The bytes of a WAV file of samples (n,) or (n, channels) in -1..1."""
    samples = np.atleast_2d(np.asarray(samples).T).T
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((samples.shape[1], bits // 8, rate, 0, "NONE", ""))
        pcm = np.round(samples * 32767).astype("<i2") if bits == 16 else np.round(samples * 127 + 128).astype(np.uint8)
        out.writeframes(pcm.tobytes())
    return file.getvalue()


def test_a_tone_is_a_line_at_its_height():
    low, high = (sounds.picture(tone(hertz)) for hertz in (500, 2000))
    assert low.dtype == np.uint8 and low.shape == (64, 63)
    assert low[:, 30].argmax() > high[:, 30].argmax()  # low frequencies below
    assert low.max() == 255 and low.min() < 60
    chroma = [sounds.picture(tone(hertz), "chroma")[:, 30].argmax() for hertz in (440, 880, 466.16)]
    assert chroma[0] == chroma[1] == 11 - 9 and chroma[2] == 11 - 10  # A, A, and a semitone above; C below


def test_stereo_8_bit_and_other_rates_are_brought_to_one_form():
    mono = sounds.decode(wav(tone()), "a.wav")
    np.testing.assert_allclose(mono, tone(), atol=1e-4)
    left = sounds.decode(wav(np.stack([2 * tone() - 0.25, np.full(4000, 0.25)], axis=1) / 2), "a.wav")
    np.testing.assert_allclose(left, tone() / 2, atol=1e-3)
    np.testing.assert_allclose(sounds.decode(wav(tone(), bits=8), "a.wav"), tone(), atol=0.02)
    again = sounds.decode(wav(tone(rate=16000), 16000), "a.wav")
    assert len(again) == 4000
    np.testing.assert_allclose(again[400:-400], tone()[400:-400], atol=0.02)


def test_files_that_are_no_sound():
    whole = wav(tone())
    for told, content in (("is not a WAV file", b"RIFF"), ("is not a WAV file", b""), ("is not a WAV file", b"x" * 99),
                          ("ends after 500 of 8044 bytes", whole[:500]), ("holds no sound", wav(np.zeros((0, 1))))):
        with pytest.raises(FileError, match=rf"a\.wav {told}"):
            sounds.decode(content, "a.wav")


def test_short_and_silent_sounds_have_a_picture():
    assert sounds.picture(np.float32([0.1])).shape == (64, 5)
    for spectrum in sounds.SPECTRA:
        assert not sounds.picture(np.zeros(2000, np.float32), spectrum).any()
    assert sounds.picture(np.zeros(1, np.float32), "chroma").shape == (12, 1)


def test_folders_of_classes_and_of_names(tmp_path):
    for i, (folder, name) in enumerate((("high", "b.wav"), ("low", "c.wav"), ("low", "a2.wav"), ("low", "a10.wav"))):
        (tmp_path / "classes" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "classes" / folder / name).write_bytes(wav(tone(400 + 400 * i)))
    dataset = data.load(tmp_path / "classes")
    assert dataset.ids == ["high/b.wav", "low/a2.wav", "low/a10.wav", "low/c.wav"]
    assert dataset.classes == ["high", "low"] and dataset.targets.tolist() == [0, 1, 1, 1]
    assert dataset.image(0).shape == (64, 63)
    assert data.load(tmp_path / "classes", spectrum="chroma").image(0).shape == (12, 63)
    (tmp_path / "flat").mkdir()
    for name in ("7_ann_0.wav", "10_ann_0.wav", "7_bob_0.wav"):
        (tmp_path / "flat" / name).write_bytes(wav(tone()))
    flat = data.load(tmp_path / "flat")
    assert flat.classes == ["7", "10"] and flat.ids == ["7_ann_0.wav", "7_bob_0.wav", "10_ann_0.wav"]
    assert flat.targets.tolist() == [0, 0, 1]
    (tmp_path / "flat" / "noise.wav").write_bytes(wav(tone()))
    with pytest.raises(InputError, match=r"noise\.wav does not begin with a class"):
        data.load(tmp_path / "flat")
    with pytest.raises(InputError, match="spectrum 'x' is not known: use mel or chroma"):
        data.load(tmp_path / "classes", spectrum="x")
    (tmp_path / "empty" / "class").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no image"):
        sounds.read(tmp_path / "empty")


@pytest.mark.data
def test_the_spoken_digits(real_data):
    real_data("free-spoken-digit-dataset")
    dataset = data.load("fsdd")
    assert len(dataset) == 3000 and dataset.classes == [str(digit) for digit in range(10)]
    assert len({name.split("_")[1] for name in dataset.ids}) == 6

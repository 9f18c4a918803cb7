"""Sounds as images: a folder of WAV files, each as its mel spectrogram or its chromagram.

The spectra are librosa's and the files are read by soundfile: pip install 'mxelm[audio]'.
"""
from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mxelm.data import folders
from mxelm.data.dataset import Dataset
from mxelm.data.sources import FileSource
from mxelm.errors import EnvironmentProblem, FileError, InputError, require_choice

SPECTRA = ("mel", "chroma")
RATE = 8000  # samples a second, to which every recording is brought
WINDOW, HOP = 256, 64  # samples: 32 ms of sound every 8 ms
MELS = 64  # rows of a mel spectrogram
RANGE_DB = 80.0  # of loudness, from black to white


def read(folder: str | os.PathLike, spectrum: str = "mel") -> Dataset:
    """The recordings below `folder` as a Dataset of grey images, time from left to right, low frequencies below.

    folder: class folders of WAV files, or one folder of files whose names begin with the class and "_", such as
        "7_jackson_12.wav". spectrum: "mel" (64 rows, 80 dB from black to white) or "chroma" (12 rows, one a semitone).
    Channels are averaged and every rate is brought to 8 kHz. Raises FileError for a folder without WAV files.
    """
    require_choice("spectrum", spectrum, SPECTRA)
    folder = Path(folder)
    ids = sorted((path.name for path in folder.glob("*.wav")), key=folders.natural)
    if not ids:
        found = folders.read(folder, suffix=".wav")
        return Dataset(SoundSource(folder, found.source.ids, spectrum), found.targets, found.classes, found.name)
    unnamed = [name for name in ids if "_" not in name]
    if unnamed:
        raise InputError(f"{folder / unnamed[0]} does not begin with a class and '_': put the recordings of each class "
                         "into a folder of its own")
    labels = [name.partition("_")[0] for name in ids]
    classes = sorted(set(labels), key=folders.natural)
    return Dataset(SoundSource(folder, ids, spectrum), np.array([classes.index(label) for label in labels]), classes,
                   folder.resolve().name)


def is_sound_folder(folder: str | os.PathLike) -> bool:
    """Whether WAV files lie in `folder` or in its class folders."""
    return any(any(Path(folder).glob(pattern)) for pattern in ("*.wav", "*/*.wav"))


class SoundSource(FileSource):
    """WAV files, each as the picture of a spectrum, made when asked for."""

    def __init__(self, folder: str | os.PathLike, ids: Sequence[str], spectrum: str = "mel") -> None:
        super().__init__(folder, ids)
        self.spectrum = spectrum

    def image(self, i: int) -> np.ndarray:
        return picture(self.samples(i), self.spectrum)

    def samples(self, i: int) -> np.ndarray:
        """The recording itself, float32 (n,) at 8 kHz."""
        return decode(self.content(i), self.folder / self.ids[i])


def decode(content: bytes, name: str | os.PathLike) -> np.ndarray:
    """A WAV file's samples, float32 (n,) in -1..1: channels averaged, at 8 kHz.

    Raises FileError, with `name` in it, for what is no WAV, ends too early, or holds no sound.
    """
    soundfile, librosa = _libraries()
    size = int.from_bytes(content[4:8], "little")
    if len(content) > 8 and content[:4] == b"RIFF" and size != 0xFFFFFFFF and size + 8 > len(content) + 1:
        raise FileError(f"{name} ends after {len(content)} of {size + 8} bytes: restore it or remove it")
    try:
        samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    except (RuntimeError, TypeError, ValueError):  # libsndfile's own, for anything that is no sound
        raise FileError(f"{name} is not a WAV file: remove it") from None
    if not samples.size or not np.isfinite(samples).all():
        raise FileError(f"{name} holds {'NaN' if samples.size else 'no sound'}: remove it")
    samples = samples.mean(axis=1)
    return samples if rate == RATE else librosa.resample(samples, orig_sr=rate, target_sr=RATE)


def picture(samples: np.ndarray, spectrum: str = "mel") -> np.ndarray:
    """Samples float32 (n,) at 8 kHz -> uint8 (rows, frames): a mel spectrogram in dB, or a chromagram."""
    _, librosa = _libraries()
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    if spectrum == "chroma":
        shares = librosa.feature.chroma_stft(y=samples, sr=RATE, n_fft=4 * WINDOW, hop_length=HOP, tuning=0.0) \
            if len(samples) >= 4 * WINDOW else np.zeros((12, 1))
    else:
        power = librosa.feature.melspectrogram(y=samples, sr=RATE, n_fft=WINDOW, hop_length=HOP, n_mels=MELS)
        shares = 1 + librosa.power_to_db(power, ref=power.max() or 1.0, top_db=None) / RANGE_DB
    return np.round(255 * np.clip(shares[::-1], 0, 1)).astype(np.uint8)


def _libraries():
    """(soundfile, librosa); EnvironmentProblem says what to install."""
    try:
        import librosa
        import soundfile
    except ImportError as error:
        raise EnvironmentProblem(f"sounds need {error.name or 'librosa and soundfile'}: pip install 'mxelm[audio]'") \
            from None
    return soundfile, librosa

"""The sets known by name: how they lie on disk, how they are read, and where they can be had."""
from __future__ import annotations

import functools
from dataclasses import dataclass

from mxelm.data import cifar, digits, folders, idx, sounds


@dataclass(frozen=True)
class Download:
    """A file to fetch. urls: mirrors, in order. hashes: algorithm -> digest as published; {} where none was.

    inner: for an archive that holds the archive wanted, (its path within, its hashes).
    """

    name: str
    urls: tuple
    hashes: dict
    inner: tuple = None

    @property
    def is_archive(self) -> bool:
        return self.name.endswith((".tar", ".tar.gz", ".zip"))


@dataclass(frozen=True)
class KnownSet:
    """A set known by name.

    read: callable(folder, **options) -> Dataset, without a folder for a set that has no layouts.
    layouts: the ways it may lie under a searched folder, each (its folder there, patterns of what must be in it; a
    file may also be gzipped). downloads: what gives the first layout. repository: what people clone
    where there is no download.
    """

    title: str
    read: object
    layouts: tuple = ()
    downloads: tuple = ()
    repository: str = None


def _idx_set(title, name, classes, bases, md5):
    downloads = tuple(Download(f"{file}-ubyte.gz", tuple(f"{base}/{file}-ubyte.gz" for base in bases), {"md5": digest})
                      for file, digest in md5.items())
    files = tuple(f"{file}-ubyte" for file in md5)
    return KnownSet(title, functools.partial(idx.read, name=name, classes=classes), ((name, files),), downloads)


def _read_caltech101(folder, background=True):
    leave_out = () if background else ("BACKGROUND_Google",)
    # the archive has a stray file without ending
    return folders.read(folder, name="caltech101", leave_out=leave_out, suffix=".jpg")


def _read_caltech256(folder, background=True):
    leave_out = () if background else ("257.clutter",)
    # it has stray files, too
    return folders.read(folder, name="caltech256", leave_out=leave_out, suffix=".jpg", prefix=r"\d+\.")


def _read_stanford_dogs(folder):
    return folders.read(folder, name="stanford_dogs", suffix=".jpg", prefix=r"n\d+-")


_CIFAR_FILES = tuple(name for batches in cifar.BATCHES.values() for name in batches)
_CALTECH = "https://data.caltech.edu/records"

KNOWN = {
    "digits": KnownSet("scikit-learn's digits, 1,797 grey images of 8x8", digits.read),
    "mnist": _idx_set(
        "MNIST, 70,000 grey images of 28x28", "mnist", [str(d) for d in range(10)],
        ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
        {"train-images-idx3": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
         "train-labels-idx1": "d53e105ee54ea40749a09fcbcd1e9432",
         "t10k-images-idx3": "9fb629c4189551a2d022fa330f9573f3",
         "t10k-labels-idx1": "ec29112dd5afa0611ce80d1b7f02629c"}),
    "fashion_mnist": _idx_set(
        "Fashion-MNIST, 70,000 grey images of 28x28", "fashion_mnist",
        ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"],
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
         "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"),
        {"train-images-idx3": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
         "train-labels-idx1": "25c81989df183df01b3e8a0aad5dffbe",
         "t10k-images-idx3": "bef4ecab320f06d8554ea6380940ec79",
         "t10k-labels-idx1": "bb300cfdad3c16e7a12a480ee83cd310"}),
    "cifar10": KnownSet(
        "CIFAR-10, 60,000 colour images of 32x32", cifar.read,
        (("cifar-10-batches-bin", tuple(f"{name}.bin" for name in _CIFAR_FILES)),
         ("cifar-10-batches-py", _CIFAR_FILES)),
        (Download("cifar-10-binary.tar.gz", ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                  {"md5": "c32a1d4ab5d03f1284b67883e8d87530"}),)),
    "fsdd": KnownSet(
        "the Free Spoken Digit Dataset, 3,000 recordings of 6 speakers, as spectrograms", sounds.read,
        (("free-spoken-digit-dataset/recordings", ("[0-9]_*_*.wav",)),),
        repository="https://github.com/Jakobovski/free-spoken-digit-dataset"),
    "caltech101": KnownSet(
        "Caltech-101, 9,144 photographs of 101 classes and a background", _read_caltech101,
        (("101_ObjectCategories", ()), ("caltech-101/101_ObjectCategories", ())),
        (Download("caltech-101.zip", (f"{_CALTECH}/mzrjq-6wc02/files/caltech-101.zip?download=1",),
                  {"md5": "3138e1922a9193bfa496528edbbc45d0"},
                  ("caltech-101/101_ObjectCategories.tar.gz", {"md5": "b224c7392d521a49829488ab0f1120d9"})),)),
    "caltech256": KnownSet(
        "Caltech-256, 30,607 photographs of 256 classes and clutter", _read_caltech256,
        (("256_ObjectCategories", ()),),
        (Download("256_ObjectCategories.tar", (f"{_CALTECH}/nyy15-4j048/files/256_ObjectCategories.tar?download=1",),
                  {"md5": "67b4f42ca05d46448c6bb8ecd2220f6d"}),)),
    "stanford_dogs": KnownSet(
        "Stanford Dogs, 20,580 photographs of 120 breeds", _read_stanford_dogs,
        (("stanford_dogs/Images", ()), ("Images", ("n[0-9]*-*",))),
        (Download("images.tar", ("http://vision.stanford.edu/aditya86/ImageNetDogs/images.tar",),  # hash: TFDS
                  {"sha256": "a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58"}),)),
}

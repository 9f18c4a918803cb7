"""k-NN slicing without evolution: the same k-NN on raw pixels, random, k-means, PCA and backpropagated kernels.

A part of knn_slicing.py, which parses and writes. Question: what is there for evolution to add? The references are the
first training images, from which the kernels are learned too; every test image is scored once a bank and seed, and
McNemar's exact test (seed 0) stands beside every difference of two banks.
"""
from itertools import combinations

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from mxelm import data, training
from mxelm.containers import load_container, save_container
from mxelm.data import Dataset
from mxelm.data.sources import ArraySource
from mxelm.files import atomic_write
from mxelm.knn_slicing import banks, kernels, networks
from mxelm.knn_slicing.deskew import deskew
from mxelm.neighbours import nearest, vote
from mxelm.reporting import results, tables
from mxelm.reporting.plots import DPI
from mxelm.reporting.published import PUBLISHED
from mxelm.reporting.statistics import mcnemar
from mxelm.runtime import mx
from mxelm.runtime import seed as seed_mxnet

KNN = {"k": 9, "metric": "cosine", "weights": "uniform"}
TRAINING = {"optimizer": "adam", "learning_rate": 1e-3, "batch": 64}
BANKS = ("raw", "random", "kmeans", "pca", "backprop")
BACKPROP = {"network": "64", "epochs": {4000: 20, 60000: 5}}  # the talk's epochs for so many images
TALKS = 1000  # test images of the talk's small table, the first of the file
CUTS = {"test1000": slice(0, TALKS), "test9000": slice(TALKS, None), "test10000": slice(None)}


def load_mnist(args):
    """(training Dataset, test Dataset); with --quick digits, blown up to 28x28."""
    if not args.quick:
        return [data.load("mnist", root=args.data, split=split) for split in ("train", "test")]
    digits = data.load("digits")
    images = enlarged(digits.source.images)
    return [Dataset(ArraySource(images[part], f"digits/{name}"), digits.targets[part], digits.classes, "digits")
            for name, part in (("train", slice(0, 1200)), ("test", slice(1200, None)))]


def enlarged(images):
    """Images of 8x8 pixels with 3x3 pixels for each, in the middle of 28x28."""
    return np.pad(images.repeat(3, axis=1).repeat(3, axis=2), ((0, 0), (2, 2), (2, 2)))


def trained(args, name, dataset, epochs, seed, variant=""):
    """A network of the talk trained on a Dataset, and its history; goes on from its checkpoint in --work."""
    seed_mxnet(seed)
    net = networks.network(name)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    loader = dataset.gluon_loader(TRAINING["batch"], networks.PREPROCESSING, shuffle=seed)
    checkpoint = args.work / f"network-{name}-{dataset.name}{variant}-{len(dataset)}-{epochs}-{seed}"
    history = training.fit(net, loader, epochs, lambda done: TRAINING["learning_rate"],
                           optimizer=TRAINING["optimizer"],
                           checkpoint=str(checkpoint), resume=True, seed=seed, progress=True)
    return net, history


def add_arguments(parser):
    parser.add_argument("--banks", nargs="+", choices=BANKS, default=BANKS, help="kernels (default: all)")
    parser.add_argument("--images", nargs="+", type=int, choices=(4000, 60000), default=(4000, 60000),
                        help="references (default: both)")


def run(args):
    """k-NN on raw pixels and on random, k-means, PCA and backpropagated kernels, plain and deskewed."""
    train, test = load_mnist(args)
    banks, rows = args.banks, []
    for n in args.images:
        part = train.take(np.arange(min(n, len(train))))
        right = {}  # (bank, variant) -> bool (seeds, n_test)
        for bank in tqdm(banks, desc=f"{n} references"):
            for variant in ("plain", "deskewed"):
                seeds = range(1 if bank == "raw" else args.seeds)  # raw pixels know no chance
                right[bank, variant] = np.stack([scored(args, bank, variant, part, test, seed) for seed in seeds])
        rows += [row_of(args, bank, n, right) for bank in banks]
        images = part.source.images[part.positions]
        learned = [bank for bank in banks if bank != "raw"]
        if learned:
            draw(args.work / f"kernels-{len(part)}.png",
                 {bank: bank_of(args, bank, part, images, 0, "plain").conv1 for bank in learned})
    return rows


def scored(args, bank, variant, part, test, seed):
    """Which test images the k-NN classifies rightly, bool (n_test,); kept in --work."""
    file = args.work / f"baseline-{bank}-{variant}-{part.name}-{len(part)}-{seed}"
    if file.exists():
        return load_container(file, "knn-baseline")[1]["right"]
    images, queries = part.source.images[part.positions], test.source.images
    if variant == "deskewed":
        images, queries = deskew(images), deskew(queries)
    if bank == "raw":
        found = [x.reshape(len(x), -1).astype(np.float32) for x in (images, queries)]
    else:
        learned = bank_of(args, bank, part, images, seed, variant)
        found = [kernels.features(x, learned) for x in (images, queries)]
    distances, indices = nearest(found[1], found[0], KNN["k"], KNN["metric"])
    votes = vote(distances, part.targets[indices], part.n_outputs, KNN["weights"])
    right = votes == test.targets
    save_container(file, "knn-baseline", {"bank": bank, "variant": variant, "seed": seed}, {"right": right})
    return right


def kept(work, bank, deskewed, n, seeds):
    """What `scored` left in `work` for these seeds, bool (seeds, n_test); None where it has not done them all."""
    variant = "deskewed" if deskewed else "plain"
    files = [sorted(work.glob(f"baseline-{bank}-{variant}-*-{n}-{0 if bank == 'raw' else seed}")) for seed in seeds]
    return np.stack([load_container(file[0], "knn-baseline")[1]["right"] for file in files]) if all(files) else None


def bank_of(args, bank, part, images, seed, variant):
    """The kernels of one bank, learned on these training images alone; kept in --work."""
    file = args.work / f"kernels-{bank}-{variant}-{part.name}-{len(part)}-{seed}"
    if not file.exists():
        if bank == "backprop":
            ready = Dataset(ArraySource(images, part.name), part.targets, part.classes, part.name)
            epochs = BACKPROP["epochs"].get(len(part), 2)
            learned = banks.backprop(trained(args, BACKPROP["network"], ready, epochs, seed,
                                               "" if variant == "plain" else "-deskewed")[0])
        else:
            learned = banks.BANKS[bank](images, seed)
        learned.save(file)
    return kernels.Kernels.load(file)


def row_of(args, bank, n, right):
    """A bank's row: the test images that the talk did not use at 4,000 references, all of them at 60,000."""
    main = "test10000" if args.quick else main_cut(n)

    def percent(variant, cut):
        return 100 * right[bank, variant][:, CUTS[cut]].mean(axis=1)

    plain = percent("plain", main)
    conditions = {**KNN, "references": n, "test_images": main, "backprop": BACKPROP if bank == "backprop" else None}
    for variant in ("plain", "deskewed"):
        conditions[variant] = {cut: {"mean": percent(variant, cut).mean(), "std": spread(percent(variant, cut))}
                               for cut in CUTS if right[bank, variant][0, CUTS[cut]].size}
        conditions[variant]["mcnemar_p"] = {
            other if a == bank else a: mcnemar(right[a, variant][0, CUTS[main]], right[other, variant][0, CUTS[main]])
            for a, other in combinations(args.banks, 2) if bank in (a, other)}
    return results.row(f"knn.baseline.{bank}.{n}", plain.mean(), "%", "higher", std=spread(plain), n=len(plain),
                       command=args.command, conditions=conditions)


def main_cut(n):
    """The test images of a row for n references: those that the talk did not use at 4,000, all of them at 60,000."""
    return "test9000" if n == 4000 else "test10000"


def spread(values):
    """Sample standard deviation, None for one value."""
    return float(values.std(ddof=1)) if len(values) > 1 else None


def explained(row, reason):
    """The row, with the reason where its figure differs from the printed one: RESULTS.md asks for it there alone."""
    printed = {figure.id: figure for figure in PUBLISHED}
    if tables.status(row, printed.get(row["id"])) == "differs":
        row["conditions"]["reason"] = reason
    return row


def draw(path, banks):
    """The first layer's 32 kernels of each bank, a row each."""
    figure = Figure(figsize=(12, 0.9 * len(banks)), layout="constrained")
    cells = figure.subplots(len(banks), 32, squeeze=False)
    for (bank, conv1), row in zip(banks.items(), cells):
        row[0].set_title(bank, loc="left", fontsize="small")
        for axes, kernel in zip(row, conv1[:, 0]):
            largest = np.abs(kernel).max()
            axes.imshow(kernel, cmap="RdBu_r", vmin=-largest, vmax=largest)
            axes.set_axis_off()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")

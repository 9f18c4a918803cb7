"""`mxelm fetch`: known weights or a known data set, or what to put where by hand."""
from __future__ import annotations

import argparse

from mxelm.cli import options
from mxelm.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?",
                        help="efficientnet_lite0, Inception21k, cifar10, ...; none: list them")
    parser.add_argument("--folder", metavar="DIR", help="where to put it, if not in the cache (MXELM_CACHE)")


def run(args: argparse.Namespace) -> dict:
    from mxelm import data
    from mxelm.backbones.fetching import fetch
    from mxelm.backbones.loading import resolve
    from mxelm.backbones.manifest import known
    weights = known()
    sets = {name: known_set for name, known_set in data.KNOWN.items() if known_set.downloads}
    if args.name is None:
        places = {**{name: options.place(resolve, name) for name in weights},
                  **{name: options.place(data.find, name) for name in sets}}
        return {"weights": weights, "data": {name: known_set.title for name, known_set in sets.items()},
                "places": places}
    if args.name in weights:
        prefix = fetch(args.name, args.folder, progress=options.progress(args))
        return {"prefix": prefix, "licence": weights[args.name]["licence"], "source": weights[args.name]["source"]}
    if args.name in sets:
        return {"folder": str(data.find(args.name, root=args.folder, download=True, progress=options.progress(args)))}
    raise InputError(f"{args.name!r} is not known: the weights are {', '.join(weights)}, the data sets "
                     f"{', '.join(sets)}")


def show(result: dict) -> None:
    if "weights" in result:
        about = {name: f"{entry['summary']}; licence: {entry['licence']}" for name, entry in result["weights"].items()}
        for name, text in {**about, **result["data"]}.items():
            place = result["places"][name]
            print(f"{name:20} {text}{f' (at hand: {place})' if place else ''}")
    elif "prefix" in result:
        print(f"{result['prefix']}: whole (licence: {result['licence']}; from {result['source']})")
    else:
        print(f"{result['folder']}: whole")

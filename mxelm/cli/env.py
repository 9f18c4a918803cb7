"""mxelm env: what this installation can do, and what it lacks."""
from __future__ import annotations

import argparse

from mxelm.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing beyond what every command takes."""


def run(args: argparse.Namespace) -> dict:
    from mxelm import runtime
    from mxelm.errors import MxelmError
    found = {"machine": runtime.machine(), "versions": runtime.versions(), "missing": runtime.missing_libraries()}
    try:
        runtime.refuse_unsupported()
        found["features"] = runtime.features()
    except MxelmError as error:
        return {**found, "problem": str(error), "exit_code": 1}
    from mxelm import data
    from mxelm.backbones.loading import resolve
    from mxelm.backbones.manifest import at_hand, known
    weights = {"inception_small": None, **known(), **at_hand()}
    return {**found, "data": {name: options.place(data.find, name) for name in data.KNOWN if name != "digits"},
            "weights": {name: options.place(resolve, name) for name in weights}}


def show(result: dict) -> None:
    machine = result["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']} GB")
    print("  ".join(f"{name} {version}" for name, version in result["versions"].items()))
    for library, remedy in result["missing"].items():
        print(f"missing system library {library}: {remedy}")
    if "problem" in result:
        print(f"MXNet cannot be used here: {result['problem']}")
        return
    print("MXNet's features:", " ".join(result["features"]))
    remedies = {"data": "--download, or name its folder in MXELM_DATA", "weights": "mxelm fetch NAME"}
    for what, remedy in remedies.items():
        print(f"{what} (where not at hand: {remedy}):")
        for name, place in result[what].items():
            print(f"  {name:20s} {place or '-'}")

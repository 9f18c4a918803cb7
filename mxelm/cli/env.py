"""mxelm env: what this installation can do, and what it lacks."""


def add_arguments(parser):
    pass


def run(args):
    from mxelm import runtime
    from mxelm.errors import MxelmError
    found = {"machine": runtime.machine(), "versions": runtime.versions(), "missing": runtime.missing_libraries()}
    try:
        found["features"] = runtime.features()
    except MxelmError as error:
        return {**found, "problem": str(error), "exit_code": 1}
    from mxelm.backbones.manifest import weights_at_hand
    from mxelm.data.known import sets_at_hand
    return {**found, "data": sets_at_hand(), "weights": weights_at_hand()}


def show(result):
    machine = result["machine"]
    print(f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']} GB")
    print("  ".join(f"{name} {version}" for name, version in result["versions"].items()))
    for library, remedy in result["missing"].items():
        print(f"missing system library {library}: {remedy}")
    if "problem" in result:
        print(f"MXNet does not load: {result['problem']}")
        return
    print("MXNet's features:", " ".join(result["features"]))
    for what in ("data", "weights"):
        print(f"{what}:")
        for name, place in result[what].items():
            print(f"  {name:26s} {place or f'not at hand: mxelm fetch {name}'}")

"""Paper 4's machinery by itself: does a chain compute what the whole network does, and what does it cost?

    python experiments/benchmarks/exit_cost.py cut        every classifier of GluonCV's zoo, cut at two random operators
    python experiments/benchmarks/exit_cost.py speed      a chain nobody leaves over the whole network; dropping rows
    python experiments/benchmarks/exit_cost.py ms         milliseconds an image of the lines of the lesson's tables
    python experiments/benchmarks/exit_cost.py curves     the picture: accuracy against time, Caltech-101, by network
    python experiments/benchmarks/exit_cost.py counts     parameters of the zoo's networks that Keras's table has too

`cut` builds what can be built offline, at random weights, and compares the chain with the whole network bound without
fusion, once fused and once not. `speed` and `ms` run all in turn, A B A B ..., and compare medians of CPU-seconds
(set OMP_NUM_THREADS=1: a busy machine then changes little); `ms` and `curves` need the cascades that seed 0 of
experiments/early_exit.py has left in the same --work.
"""
import math
import re
import sys
import time
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import early_exit as lesson
import numpy as np
from lab import in_turn, main
from lab.exit_rows import LINES
from lab.exits import images_of, passed, split
from tqdm import tqdm

from mxelm import backbones, early_exit
from mxelm.chain import Chain, unfused
from mxelm.early_exit.features import features_at
from mxelm.early_exit.heads import Linear, classifier, cross_validated, head
from mxelm.early_exit.placement import curve
from mxelm.early_exit.rules import Judged, decide
from mxelm.errors import MxelmError
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import plots, results, tables
from mxelm.runtime import gluoncv, mx
from mxelm.runtime import seed as seed_mxnet

OTHER_TASKS = re.compile("voc|coco|citys|ade|kinetics|sthsth|something|hmdb|ucf|mhp|fashion|custom|ssd|yolo|rcnn|pose|"
                         "siam|smot|i3d|slowfast|r2plus1d|p3d|c3d|center_net|monodepth|deeplab|fcn|psp|icnet|danet|"
                         "hrnet.*_s$")
RUNS = {
    "cut": {"exits": 2, "size": 96,  # pixels, where the network takes them, else 224
            "minutes": 40},  # shallow networks first
    "speed": {"exits": {"resnet18_v1": ["resnetv10_stage2_activation1", "resnetv10_stage3_activation1"],
                        "mobilenet_v1_0.75_224": ["conv_pw_5_relu", "conv_pw_11_relu"],
                        "efficientnet_lite0_224": ["block6_add", "block11_project"]},
              "rounds": {"1": 24, "32": 3},  # by batch
              "leaving": 0.4},  # share of the rows at each exit
    "ms": {"networks": ["lite0", "mobilenet", "squeezenet"], "images": 32, "rounds": 6},
    "curves": {"networks": ["lite0", "mobilenet", "squeezenet"]},
    "counts": {"networks": {  # Keras's name -> GluonCV's
        "Xception": "xception", "VGG16": "vgg16", "VGG19": "vgg19", "ResNet50": "resnet50_v1",
        "ResNet101": "resnet101_v1", "ResNet152": "resnet152_v1", "ResNet50V2": "resnet50_v2",
        "ResNet101V2": "resnet101_v2", "ResNet152V2": "resnet152_v2", "InceptionV3": "inceptionv3",
        "MobileNet": "mobilenet1.0", "MobileNetV2": "mobilenetv2_1.0", "DenseNet121": "densenet121",
        "DenseNet169": "densenet169", "DenseNet201": "densenet201", "NASNetMobile": "nasnet_4_1056",
        "NASNetLarge": "nasnet_6_4032"}},
}
SHORT = {"resnet18_v1": "resnet18", "mobilenet_v1_0.75_224": "mobilenet", "efficientnet_lite0_224": "lite0"}


def one_seed(run, settings, seed, lab):
    """The figures of one run."""
    made = {"cut": cut_everywhere, "speed": speed, "ms": milliseconds, "curves": curves, "counts": counts}
    return made[run](settings, seed, lab)


def cut_everywhere(settings, seed, lab):
    """Largest relative differences of a chain to the whole network, by name; and why the others could not be built."""
    names = [name for name in gluoncv.model_zoo.get_model_list() if not OTHER_TASKS.search(name)]
    names.sort(key=lambda name: max(map(int, re.findall(r"\d+", name.partition(".")[0])), default=0))
    fused, bound_alike, failed, start = {}, [], {}, time.monotonic()
    for name in tqdm(names[:6] if lab.quick else names, desc="zoo"):
        if time.monotonic() - start > 60 * settings["minutes"]:
            failed[name] = f"not tried within {settings['minutes']} minutes"
            continue
        rng = np.random.default_rng([seed, len(fused)])
        try:
            network = random_network(name, settings["size"], seed)
            exits = random_exits(network, settings["exits"], rng)
            fused[name] = Chain(network, exits).difference
            with unfused():
                bound_alike += [name] if Chain(network, exits).difference == 0 else []
        except (MxelmError, RuntimeError, ValueError) as error:  # MXNetError is one: GluonCV's builders raise them
            failed[name] = f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]
    return {"fused": fused, "bit_for_bit": bound_alike, "failed": failed}


def random_network(name, size, seed):
    """A classifier of the zoo with random weights, whole, for small images where it takes them."""
    seed_mxnet(seed)
    block = gluoncv.model_zoo.get_model(name, pretrained=False)
    block.initialize(mx.init.Xavier(magnitude=2.24))
    outputs = block(mx.sym.var("data"))
    first = f"{outputs[0].name}_output" if isinstance(outputs, (list, tuple)) else None  # the others are for training
    sizes = [32] if "cifar" in name else [size, 299 if "inception" in name else 224]
    for place, pixels in enumerate(sizes):
        try:
            return backbones.from_block(block, Preprocessing((pixels, pixels), "stretch"), cut=first, name=name)
        except MxelmError:
            if place == len(sizes) - 1:
                raise


def random_exits(network, count, rng):
    """So many operators of a network, drawn at random, in the order of computation."""
    symbol = network.features
    variables = {*symbol.list_arguments(), *symbol.list_auxiliary_states()}
    operators = [name for name in symbol.get_internals().list_outputs() if name not in variables][:-2]
    single = [name for name in operators if name.endswith("_output")]
    return [single[place] for place in sorted(rng.choice(len(single), count, replace=False))]


def speed(settings, seed, lab):
    """Chain over whole network by network and batch, dropped rows over linear, Gluon's segments over Symbol's."""
    figures = {"overhead": {}, "compaction": {}, "gluon": {}}
    for name, exits in list(settings["exits"].items())[:1 if lab.quick else None]:
        short = SHORT[name]
        network = backbones.zoo(name) if short == "resnet18" else backbones.load(name)
        whole, chain, gluon = Chain(network, []), Chain(network, exits), Chain(network, exits, interface="gluon")
        for batch, rounds in ((int(batch), rounds) for batch, rounds in settings["rounds"].items()):
            x = np.random.default_rng(seed).normal(0, 1, (batch, *network.preprocessing.shape)).astype(np.float32)
            kept = [round(batch * (1 - settings["leaving"]) ** passed) for passed in (1, 2)]
            taken = in_turn({"whole": partial(run, whole, x), "chain": partial(run, chain, x),
                             "gluon": partial(run, gluon, x), "dropping": partial(run, chain, x, kept)},
                            rounds, f"{short}, batch {batch}", clock=time.process_time)
            figures["overhead"][f"{short}.b{batch}"] = taken["chain"] / taken["whole"]
            figures["gluon"][f"{short}.b{batch}"] = taken["gluon"] / taken["chain"]
        seconds = chain.seconds(batch, repeats=rounds, clock=time.process_time)
        linear = (seconds * [1, kept[0] / batch, kept[1] / batch]).sum() / seconds.sum()
        figures["compaction"][short] = taken["dropping"] / taken["chain"] / linear
    return figures


def run(chain, x, kept=()):
    """The whole run, with so many of the rows kept behind each exit."""
    for number, (_, maps) in enumerate(chain.run(x)):
        maps.wait_to_read()
        if number < len(kept):
            chain.keep(np.arange(kept[number]))


def milliseconds(settings, seed, lab):
    """Mean milliseconds of one test image, decisions included, by network and line of the lesson's table."""
    found = {"decision_us": {batch: decision_us(batch) for batch in (1, 32)}}
    for name in settings["networks"]:
        recipe = lesson.RUNS[name]
        x, y, _ = passed(recipe, lab)
        train, test = split(y, recipe["train"], seed)
        lines = lines_of(name, [part[train] for part in x], y[train], lab)
        some = images_of(recipe, lab).take(test[np.linspace(0, len(test) - 1, settings["images"]).astype(int)])
        loader = some.gluon_loader(1, lines["placed"].chain.backbone.preprocessing)
        images = [image.asnumpy() for image, _ in loader]
        taken = in_turn({line: partial(answer_all, cascade, images) for line, cascade in lines.items()},
                        settings["rounds"], name, clock=time.process_time)
        found[name] = {line: 1000 * seconds / len(images) for line, seconds in taken.items()}
    return found


def lines_of(name, x, y, lab):
    """The cascades that the lesson has kept, and each kind of classifier alone at one exit, as cascades too."""
    lines = {line: early_exit.load(lab.work / f"{name}-{line}") for line in LINES}
    chain, classes = lines["adaptive"].chain, lines["adaptive"].classes
    forest = [head(classifier("rf").fit(x[m], y), len(classes)) for m in places_of(name, chain)]
    kinds = {"lr": lines["cascaded"].heads, "svm": lines["adaptive"].heads, "rf": forest,
             "ridge": [*lines["placed"].heads[:-1], head(classifier("ridge").fit(x[-1], y), len(classes))]}
    for kind, heads in kinds.items():
        for where, m in zip(("first", "second", "last"), (0, len(heads) - 2, len(heads) - 1)):
            t = np.where(np.arange(len(heads)) == m, -np.inf, np.inf)
            lines[f"{kind}.{where}"] = early_exit.Cascade(chain, heads, t, classes)
    return lines


def places_of(name, chain):
    """Which of a run's candidates a chain's exits are, by number; the last is the features."""
    candidates = lesson.RUNS[name]["candidates"]
    return [*(candidates.index(exit.removesuffix("_output")) for exit in chain.exits[:-1]), len(candidates)]


def answer_all(cascade, images):
    """Each image by itself."""
    for x in images:
        cascade.answer(x)


def decision_us(batch):
    """Microseconds an image of pooling, norm, a linear classifier of 101 classes and the decision, at 192 maps."""
    rng = np.random.default_rng(0)
    maps = mx.nd.array(rng.random((batch, 192, 7, 7)))
    linear = Linear(rng.normal(size=(101, 192)), rng.normal(size=101))

    def one():
        for _ in range(200):
            decide(linear(features_at(maps)), 0.5, "margin")

    return 1e6 * in_turn({"one": one}, 5, clock=time.process_time)["one"] / 200 / batch


def curves(settings, seed, lab):
    """Milliseconds and accuracy, in %, along the path of thresholds from nobody leaving early to everybody, by network.

    Training images lay out the path, test images are scored along it; segments' CPU-seconds, without decisions.
    """
    found = {}
    for name in settings["networks"]:
        recipe = lesson.RUNS[name]
        x, y, seconds = passed(recipe, lab)
        train, test = split(y, recipe["train"], seed)
        cascade = early_exit.load(lab.work / f"{name}-placed")
        places = places_of(name, cascade.chain)
        known = [cross_validated("ridge", x[m][train], y[train], len(cascade.classes), seed=seed) for m in places]
        judged = Judged([h(x[m][test]) for h, m in zip(cascade.heads, places)], y[test], "margin")
        times, accurate = curve(Judged(known, y[train], "margin"), judged, seconds[places])
        found[recipe["backbone"]] = (1000 * times, 100 * accurate)
    plots.curves(lab.work / "accuracy-time.png", found, xlabel="mean time an image / ms", ylabel="accuracy / %")
    return found


def counts(settings, seed, lab):
    """Parameters by Keras's name, running statistics among them, as Keras counts."""
    found = {}
    for name, ours in tqdm(settings["networks"].items()):
        outputs = gluoncv.model_zoo.get_model(ours, pretrained=False)(mx.sym.var("data"))
        symbol = outputs[0] if isinstance(outputs, (list, tuple)) else outputs  # the others are for training
        size = 299 if ours in ("xception", "inceptionv3") else 331 if ours == "nasnet_6_4032" else 224
        shapes, _, running = symbol.infer_shape(data=(1, 3, size, size))
        found[name] = sum(map(math.prod, [*shapes, *running])) - 3 * size ** 2
    return found


def rows(run, settings, seeds, lab):
    """Rows of the kept seeds; the picture has none."""
    made = {"cut": cut_rows, "speed": speed_rows, "ms": ms_rows, "counts": counts_rows}
    return made[run](settings, seeds, lab) if run in made else []


def counts_rows(settings, seeds, lab):
    return [tables.explained(results.over_seeds(f"exit.keras.{name}.params", [count], "parameters", "none",
                                                conditions={"network": settings["networks"][name]}),
                             "the zoo's network of that name is built with other details")
            for name, count in seeds[0].figures.items()]


def cut_rows(settings, seeds, lab):
    return [results.over_seeds("exit.cut_agreement", [max(seed["fused"].values()) for seed in seeds], "ratio", "lower",
                               conditions={
                "median": float(np.median(list(seeds[0]["fused"].values()))),
                "within_1e-6": sum(value <= 1e-6 for value in seeds[0]["fused"].values()),
                "bit_for_bit_unfused": len(seeds[0]["bit_for_bit"])}),
            results.over_seeds("exit.cut_networks", [len(seed["fused"]) for seed in seeds], "networks", "higher",
                               conditions={"not_built": seeds[0]["failed"]})]


def speed_rows(settings, seeds, lab):
    made = [results.over_seeds(f"exit.chain_overhead.{which}", [seed["overhead"][which] for seed in seeds], "ratio",
                               "lower", conditions={"gluon_over_symbol": seeds[0]["gluon"][which]})
            for which in seeds[0]["overhead"]]
    mean = [np.mean(list(seed["compaction"].values())) for seed in seeds]
    return [*made, results.over_seeds("exit.compaction_over_linear", mean, "ratio", "lower",
                                      conditions={"by_network": seeds[0]["compaction"]})]


def ms_rows(settings, seeds, lab):
    made = [results.over_seeds("exit.decision_us", [seed["decision_us"]["1"] for seed in seeds], "us", "lower",
                               conditions={"batch_32": [seed["decision_us"]["32"] for seed in seeds]})]
    for name in settings["networks"]:
        first = seeds[0][name]
        made += [results.over_seeds(f"exit.{line}.{name}.ms", [seed[name][line] for seed in seeds], "ms", "lower",
                                    conditions={"over_last_svm": first[line] / first["svm.last"]}) for line in first]
        made.append(results.over_seeds(f"exit.speedup.{name}.end_to_end", [seed[name]["svm.last"] / seed[name]["placed"]
                                                                           for seed in seeds], "ratio", "higher",
                                       conditions={"images": settings["images"]}))
    if {"lite0", "mobilenet"} <= set(settings["networks"]):
        made.append(results.over_seeds("exit.smaller.lite0.ms", [seed["mobilenet"]["svm.last"] for seed in seeds], "ms",
                                       "lower", conditions={"network": "mobilenet run whole, SVM at its last exit"}))
    return made


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows)

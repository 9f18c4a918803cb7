"""What a user would pick instead: features by onnxruntime and a classifier of scikit-learn; and bare forward passes.

    python experiments/benchmarks/alternatives.py forward        MXNet over onnxruntime: four networks, batch 1 and 32
    python experiments/benchmarks/alternatives.py two_threads    the same with two threads, on the clock
    python experiments/benchmarks/alternatives.py fit            `mxelm fit` beside classifiers of stored features

The peer gets its best graph: our export, whose pads are the convolutions' own, with its optimizer at full level.
`forward` runs both in turn, from a NumPy batch to NumPy scores: CPU-seconds with one thread, which other work on the
machine changes little, or seconds on the clock with two, which want a machine of their own. `fit` runs each way in
processes of its own with the same images, reading, network and preprocessing: CPU-seconds and peak memory (above what
the imports take) from image files to a trained model, bytes kept, and the mean accuracy of the classes on test images
that are scored once. onnxruntime's features are computed once a seed and count for each of its three ways, which
choose their parameter as people do: on a fifth of the training images, or, ridge, by leave-one-out. Odd seeds run
onnxruntime first.
"""
import sys
import time
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import numpy as np
from lab import in_turn, main
from lab.measuring import forget_peak, in_a_process, memory
from sklearn.metrics import balanced_accuracy_score

from mxelm import backbones, data, fused
from mxelm.data.pipeline import Pipeline
from mxelm.reporting import results

NETWORKS = {"efficientnet_lite0_224": None, "mobilenet_v1_0.75_224": None, "squeezenet_v1.1": "softmax_output",
            "resnet50_v1": "resnetv10_dense0_fwd_output"}  # with the output that ends it
RUNS = {
    "forward": {"networks": NETWORKS, "batches": [1, 32], "threads": 1, "rounds": 3},
    "two_threads": {"networks": NETWORKS, "batches": [1, 32], "threads": 2, "rounds": 3},
    "fit": {"set": "caltech101", "network": "efficientnet_lite0_224", "per_class": 30, "test_per_class": 30,
            "n_neurons": 2048, "batch": 32, "threads": 1},
}
QUICK = {"networks": {"inception_small": None}, "batches": [2], "rounds": 1,
         "set": "digits", "network": "inception_small", "per_class": 20, "test_per_class": 5, "n_neurons": 64}
SHORT = {"efficientnet_lite0_224": "lite0", "mobilenet_v1_0.75_224": "mobilenet", "squeezenet_v1.1": "squeezenet",
         "resnet50_v1": "resnet50"}
GRID = {"ort_logreg": [0.01, 0.1, 1.0], "ort_svm": [0.3, 1.0, 3.0], "ort_ridge": [1.0, 10.0, 100.0, 1000.0, 10000.0]}


def one_seed(run, settings, seed, lab):
    """The figures of one run."""
    return fit(settings, seed, lab) if run == "fit" else forward(settings, lab)


# bare forward passes

def forward(settings, lab):
    """network.bN -> median seconds of MXNet and of onnxruntime."""
    found = {}
    for name, cut in settings["networks"].items():
        model = str(lab.work / f"{name}-scores.onnx")
        in_a_process(exported, name, cut, model)
        taken = in_a_process(forward_seconds, name, cut, model, settings, threads=settings["threads"])
        found.update({f"{SHORT.get(name, name)}.b{batch}": seconds for batch, seconds in taken.items()})
    return found


def forward_seconds(name, cut, model, settings):
    """batch -> medians of one forward pass, in turn."""
    backbone, session = network(name, cut), opened(model, settings["threads"])
    clock = time.process_time if settings["threads"] == 1 else time.perf_counter
    return {batch: in_turn(passes(backbone, session, batch), settings["rounds"], f"{name}, {batch}", clock=clock)
            for batch in settings["batches"]}


def passes(backbone, session, batch):
    """Name -> a callable that brings one batch to scores."""
    from mxelm.runtime import mx
    x = np.random.default_rng(0).normal(size=(batch, *backbone.preprocessing.shape)).astype(np.float32)
    module = backbone.bind(batch)

    def mxnet():
        module.forward(mx.io.DataBatch([mx.nd.array(x)]), is_train=False)
        module.get_outputs()[0].asnumpy()

    return {"mxnet": mxnet, "onnxruntime": partial(session.run, None, {"image": x})}


def network(name, cut=None):
    """A Backbone; GluonCV's with random weights, which take as long as any."""
    return backbones.zoo(name, cut=cut) if name == "resnet50_v1" else backbones.load(name, cut=cut)


def exported(name, cut, path):
    """Write the network as an ONNX model."""
    from mxelm.backbones.onnx import export
    export(network(name, cut), path)


def opened(path, threads):
    """An onnxruntime session."""
    from mxelm.backbones.onnx import agreement
    return agreement.session(path, threads=threads)


# from image files to a trained model

def fit(settings, seed, lab):
    """way -> CPU-seconds, peak and kept bytes, accuracy."""
    model, rows = str(lab.work / f"{settings['network']}.onnx"), str(lab.place(seed)) + ".npz"
    in_a_process(exported, settings["network"], "flatten_output", model)
    ways = [partial(fitted, settings, seed), partial(stored, settings, seed, model, rows)]
    found = {}
    for way in ways[::-1] if seed % 2 else ways:
        found.update(way())
    return found


def fitted(settings, seed):
    return {"fit": in_a_process(by_mxelm, settings, seed, threads=settings["threads"])}


def stored(settings, seed, model, rows):
    """onnxruntime's features, and the three classifiers of them."""
    first = in_a_process(features, settings, seed, model, rows, threads=settings["threads"])
    found = {}
    for way in GRID:
        then = in_a_process(by_scikit_learn, way, rows, seed, threads=settings["threads"])
        found[way] = {**then, "cpu": first["cpu"] + then["cpu"], "seconds": first["seconds"] + then["seconds"],
                      "peak": max(first["peak"], then["peak"]), "kept": first["kept"], "features": first["cpu"]}
    return found


def images(settings, seed):
    """(training, test) Datasets: random images of each class, and of the others so many."""
    options = {"background": False} if settings["set"] == "caltech101" else {}
    return data.load(settings["set"], **options).per_class(settings["per_class"], seed, settings["test_per_class"])


def measured(function):
    """(what a function returns, its seconds, CPU-seconds and peak memory above what there was)."""
    forget_peak()
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    answer = function()
    return answer, {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu,
                    "peak": memory("VmHWM") - before}


def by_mxelm(settings, seed):
    """What `mxelm fit` does."""
    learning, test = images(settings, seed)

    def work():
        return fused.fit(backbones.load(settings["network"]), learning, n_neurons=settings["n_neurons"], seed=seed,
                         batch=settings["batch"])

    done, taken = measured(work)
    answers = done.predictor.predict(test)
    right = balanced_accuracy_score(test.targets, [done.predictor.classes.index(name) for name in answers])
    return {**taken, "kept": done.state.nbytes, "accuracy_per_class": 100 * right, "learning": len(learning),
            "test": len(test), "l2": done.predictor.details["l2"], "chosen": done.predictor.details["n_neurons"],
            "images_for_a_tenth": int(np.ceil(10 * done.state.nbytes / (done.feature_bytes / len(learning))))}


def features(settings, seed, model, rows):
    """Features of all images by onnxruntime into a file; only the training images' are timed."""
    preprocessing = backbones.load(settings["network"]).preprocessing
    learning, test = images(settings, seed)
    session = None

    def of(dataset):
        pipeline = Pipeline(dataset, settings["batch"], preprocessing)
        return np.concatenate([session.run(None, {"image": x})[0] for x, _, _ in pipeline.run(np.arange(len(dataset)))])

    def work():
        nonlocal session
        session = opened(model, settings["threads"])
        return of(learning)

    X, taken = measured(work)
    np.savez(rows, X=X, y=learning.targets, X_test=of(test), y_test=test.targets)
    return {**taken, "kept": X.nbytes}


def by_scikit_learn(way, rows, seed):
    """A classifier of stored features."""
    kept = np.load(rows)
    (model, parameter), taken = measured(lambda: chosen(way, kept["X"], kept["y"], seed))
    return {**taken, "parameter": parameter,
            "accuracy_per_class": 100 * balanced_accuracy_score(kept["y_test"], model.predict(kept["X_test"]))}


def chosen(way, X, y, seed):
    """(the classifier of the parameter that is best on a fifth of the rows, trained on all of them; the parameter)."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer, StandardScaler
    from sklearn.svm import LinearSVC
    if way == "ort_ridge":  # chooses by leave-one-out, which costs it no second fit
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(GRID[way])).fit(X, y)
        return model, float(model[-1].alpha_)
    some, rest, y_some, y_rest = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)

    def trained(c, rows, labels):
        steps = (StandardScaler(), LogisticRegression(C=c, max_iter=300, tol=1e-3)) if way == "ort_logreg" else \
            (Normalizer(), LinearSVC(C=c, dual=True, max_iter=3000))
        return make_pipeline(*steps).fit(rows, labels)

    best = max(GRID[way], key=lambda c: trained(c, some, y_some).score(rest, y_rest))
    return trained(best, X, y), best


# rows

def rows(run, settings, seeds, lab):
    """Rows of the kept seeds."""
    if run == "fit":
        return [row for way in ("fit", *GRID) for row in way_rows(way, seeds, lab)]
    clock = "CPU-seconds of one thread" if settings["threads"] == 1 else "seconds on the clock, two threads"
    return [results.over_seeds(f"alternatives.{run}.{which}",
                               [seed[which]["mxnet"] / seed[which]["onnxruntime"] for seed in seeds], "ratio", "lower",
                               conditions={"seconds": seeds[-1][which], "clock": clock}) for which in seeds[0].figures]


def way_rows(way, seeds, lab):
    """Ratios: of `fit` over onnxruntime with logistic regression, of the others over `fit`."""
    other = "ort_logreg" if way == "fit" else "fit"
    about = {"over": other, "this": seeds[-1][way], "that": seeds[-1][other]}

    def row(what, values, unit, better, **more):
        return results.over_seeds(f"alternatives.{way}.{what}", values, unit, better, conditions={**about, **more})

    def ratio(what):
        return [seed[way][what] / seed[other][what] for seed in seeds]

    slow, large = reasons(seeds, lab) if way == "fit" else ({}, {})
    return [row("seconds_ratio", ratio("cpu"), "ratio", "lower", clock="CPU-seconds", **slow),
            row("memory_ratio", ratio("kept"), "ratio", "lower", of="bytes kept", peak=float(np.mean(ratio("peak"))),
                **large),
            row("accuracy_per_class", [seed[way]["accuracy_per_class"] for seed in seeds], "%", "higher")]


def reasons(seeds, lab):
    """Why `fit` is slower, and keeps more than a tenth, where that is so."""
    last, slow, large = seeds[-1], {}, {}
    if np.mean([seed["fit"]["cpu"] / seed["ort_logreg"]["cpu"] for seed in seeds]) > 1:
        bare = [seed["lite0.b32"] for seed in lab.kept("forward") if "lite0.b32" in seed.figures]
        share = np.mean([one["mxnet"] / one["onnxruntime"] for one in bare]) if bare else 1
        passes = share * last["ort_logreg"]["features"]
        slow = {"reason": f"a forward pass takes MXNet {share:.2f} times what it takes onnxruntime (alternatives."
                          f"forward.lite0.b32), some {passes:.0f} of {last['fit']['cpu']:.0f} CPU-seconds; the rest "
                          "are W's scale, the sums and the choice of l2 and size, where onnxruntime's way has "
                          f"{last['ort_logreg']['cpu'] - last['ort_logreg']['features']:.0f} of its "
                          f"{last['ort_logreg']['cpu']:.0f} for the classifier"}
    if last["fit"]["kept"] > 0.1 * last["ort_logreg"]["kept"]:
        large = {"reason": "what `fit` keeps has a fixed size, stored features grow with the images: a tenth from "
                           f"{last['fit']['images_for_a_tenth']:,} images on, here are {last['fit']['learning']:,}"}
    return slow, large


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)

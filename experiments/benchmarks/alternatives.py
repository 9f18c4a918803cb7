"""What a user would pick instead: features by onnxruntime and a classifier of scikit-learn; and bare forward passes.

    python experiments/benchmarks/alternatives.py forward    MXNet over onnxruntime: four networks, batch 1 and 32
    python experiments/benchmarks/alternatives.py fit        `mxelm fit` beside three ways of stored features
    python experiments/benchmarks/alternatives.py few        the same of a smaller network, fewer images

The peer gets its best graph: our export, whose pads are the convolutions' own, with its optimizer at full level.
`forward` compares CPU-seconds in turn with one thread, which other work on the machine changes little, and, where
"threads" says two, seconds on the clock. `fit` runs each way in a process of its own with the same images, network
and preprocessing: seconds from files to a trained model, peak memory above what the imports take, bytes kept, and the
mean accuracy of the classes on test images that are scored once. Ridge, logistic regression and the linear SVM choose
their parameter on 20 % of the training images, as `mxelm fit` does.
"""
import sys
import time
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
import numpy as np
from lab import in_turn, main
from lab.measuring import forget_peak, in_a_process, memory

from mxelm import backbones, data, fused
from mxelm.reporting import results

WAYS = ("fit", "ort_logreg", "ort_svm", "ort_ridge")
RUNS = {
    "forward": {"networks": {"efficientnet_lite0_224": None, "mobilenet_v1_0.75_224": None,
                             "squeezenet_v1.1": "softmax_output", "resnet50_v1": "resnetv10_dense0_fwd_output"},
                "batches": [1, 32], "threads": [1], "rounds": 5},
    "fit": {"set": "caltech101", "network": "efficientnet_lite0_224", "per_class": 30, "test_per_class": 10,
            "n_neurons": 2048, "batch": 32, "threads": 1},
    "few": {"set": "caltech101", "network": "mobilenet_v1_0.75_224", "per_class": 10, "test_per_class": 5,
            "n_neurons": 1024, "batch": 32, "threads": 1},
}
SHORT = {"efficientnet_lite0_224": "lite0", "mobilenet_v1_0.75_224": "mobilenet", "squeezenet_v1.1": "squeezenet",
         "resnet50_v1": "resnet50"}
GRID = {"ort_logreg": [0.01, 0.1, 1.0], "ort_svm": [0.001, 0.01, 0.1], "ort_ridge": [1.0, 10.0, 100.0, 1000.0]}


def one_seed(run, settings, seed, lab):
    """The figures of one run."""
    return forward(settings, seed, lab) if run == "forward" else {
        way: in_a_process(one_way, way, settings, seed, str(lab.work), threads=settings["threads"]) for way in WAYS}


# bare forward passes

def forward(settings, seed, lab):
    """network.bN -> threads -> seconds of MXNet and of onnxruntime."""
    return {f"{SHORT[name]}.b{batch}": {
                str(threads): in_a_process(forward_seconds, name, cut, batch, threads, settings["rounds"],
                                           str(lab.work), threads=threads) for threads in settings["threads"]}
            for name, cut in settings["networks"].items() for batch in settings["batches"]}


def forward_seconds(name, cut, batch, threads, rounds, work):
    """Medians of one batch's forward pass, in turn."""
    from mxelm.runtime import mx
    backbone = backbones.zoo(name, cut=cut) if name == "resnet50_v1" else backbones.load(name, cut=cut)
    session = exported(backbone, work, threads)
    x = np.random.default_rng(0).normal(size=(batch, *backbone.preprocessing.shape)).astype(np.float32)
    module, held = backbone.bind(batch), mx.io.DataBatch([mx.nd.array(x)])

    def mxnet():
        module.forward(held, is_train=False)
        module.get_outputs()[0].asnumpy()

    return in_turn({"mxnet": mxnet, "onnxruntime": partial(session.run, None, {"image": x})}, rounds,
                   clock=time.process_time if threads == 1 else time.perf_counter)


def exported(backbone, work, threads):
    """An onnxruntime session of our export."""
    from mxelm.backbones.onnx import agreement, export
    path = Path(work) / f"{backbone.name}.onnx"
    export(backbone, path)
    return agreement.session(str(path), threads=threads)


# from files to a trained model

def one_way(way, settings, seed, work):
    """Seconds, peak and kept bytes and accuracy of one way, in this process."""
    dataset, backbone = data.load(settings["set"], background=False), backbones.load(settings["network"])
    learning, test = dataset.per_class(settings["per_class"], seed, settings["test_per_class"])
    passes = partial(backbone_rows, backbone, settings["batch"]) if way == "fit" else \
        partial(session_rows, exported(backbone, work, settings["threads"]), backbone, settings["batch"])
    forget_peak()
    before, start, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    predict, kept, about = train(way, backbone, passes, learning, settings, seed)
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu,
             "peak": memory("VmHWM") - before, "kept": kept, **about}
    answers = predict(test)
    right = [np.mean(answers[test.targets == label] == label) for label in np.unique(test.targets)]
    return {**found, "accuracy_per_class": float(100 * np.mean(right)), "learning": len(learning), "test": len(test)}


def train(way, backbone, passes, learning, settings, seed):
    """(a function from a Dataset to class numbers, bytes kept, what was chosen)."""
    if way == "fit":
        done = fused.fit(backbone, learning, n_neurons=settings["n_neurons"], seed=seed, batch=settings["batch"])
        return (lambda images: done.predictor.predict(images.module_iter(settings["batch"], backbone.preprocessing)),
                done.state.nbytes, {"l2": done.predictor.details["l2"]})
    X, y = passes(learning), learning.targets
    model, parameter = chosen(way, X, y, seed)
    return lambda images: model.predict(passes(images)), X.nbytes, {"parameter": parameter}


def chosen(way, X, y, seed):
    """The classifier of the parameter that is best on a fifth of the rows, trained on all of them."""
    from sklearn.linear_model import LogisticRegression, RidgeClassifierCV
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import LinearSVC
    if way == "ort_ridge":  # chooses by leave-one-out, which costs it no second fit
        model = make_pipeline(StandardScaler(), RidgeClassifierCV(GRID[way])).fit(X, y)
        return model, float(model[-1].alpha_)
    kind = LogisticRegression if way == "ort_logreg" else LinearSVC
    some, rest, y_some, y_rest = train_test_split(X, y, test_size=0.2, stratify=y, random_state=seed)

    def fitted(c, rows, labels):
        return make_pipeline(StandardScaler(), kind(C=c, max_iter=300)).fit(rows, labels)

    best = max(GRID[way], key=lambda c: fitted(c, some, y_some).score(rest, y_rest))
    return fitted(best, X, y), best


def backbone_rows(backbone, batch, dataset):
    """Features of a Dataset by MXNet."""
    from mxelm.backbones.features import features_of
    return features_of(backbone, dataset, batch=batch).rows


def session_rows(session, backbone, batch, dataset):
    """Features of a Dataset by onnxruntime, images read and prepared as for MXNet."""
    found = np.empty((len(dataset), backbone.n_features), np.float32)
    for part in dataset.module_iter(batch, backbone.preprocessing):
        n = len(part.index) if part.index is not None else batch
        rows = session.run(None, {"image": part.data[0].asnumpy()})[0]
        found[part.index[:n]] = rows[:n]
    return found


def rows(run, settings, seeds, lab):
    """Rows of the kept seeds."""
    if run == "forward":
        return [results.over_seeds(f"alternatives.forward.{which}",
                                   [seed[which]["1"]["mxnet"] / seed[which]["1"]["onnxruntime"] for seed in seeds],
                                   "ratio", "lower", conditions={"seconds": seeds[-1][which], "clock": "CPU-seconds"})
                for which in seeds[0].figures]
    prefix = "alternatives" if run == "fit" else f"alternatives.{run}"
    return [row for way in WAYS for row in way_rows(prefix, way, seeds)]


def way_rows(prefix, way, seeds):
    """Ratios: of `fit` over onnxruntime with logistic regression, of the others over `fit`."""
    other = "ort_logreg" if way == "fit" else "fit"
    about = {"over": other, "this": seeds[-1][way], "that": seeds[-1][other]}

    def ratio(what):
        return [seed[way][what] / seed[other][what] for seed in seeds]

    return [results.over_seeds(f"{prefix}.{way}.seconds_ratio", ratio("cpu"), "ratio", "lower",
                               conditions={**about, "clock": "CPU-seconds"}),
            results.over_seeds(f"{prefix}.{way}.memory_ratio", ratio("kept"), "ratio", "lower",
                               conditions={**about, "of": "bytes kept; peak in this and that"}),
            results.over_seeds(f"{prefix}.{way}.accuracy_per_class", [seed[way]["accuracy_per_class"]
                                                                      for seed in seeds], "%", "higher",
                               conditions=about)]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows)

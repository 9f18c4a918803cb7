"""The ELM core beside its peers: hpelm, scikit-elm, and scikit-learn's Ridge on hidden rows made in one piece.

    pip install 'mxelm[peers]'                        what is not installed becomes a row that says so
    python experiments/benchmarks/elm_peers.py mnist             MNIST's pixels: 60,000 x 784, 1,024 neurons
    python experiments/benchmarks/elm_peers.py bound             ours beside BLAS alone
    python experiments/benchmarks/elm_peers.py mnist --quick     digits, 256 neurons, in a minute

Question: what do the sums in place cost against other ways to the same least squares solution, and against what BLAS
alone must cost? Each fit runs in a process of its own, in turn A B C A B C ...; measured are
- seconds from rows in memory to a solved model: the ratio of medians, peer over ours (higher is better for us);
- peak memory above what imports and data take (VmHWM): the ratio of medians, ours over the peer's;
- accuracy on the test rows, beside each other in the conditions.
All get the same float64 rows in [0, 1], the same W, bias and l2, where they let one set them. `blas_bound` is the GEMM
of XWᵀ, DSYRK and DGEMM in float64 over blocks of the same shape: no tanh, no solution. Keep the machine idle meanwhile.
"""
import importlib
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from scipy.linalg.blas import dgemm, dsyrk
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab is

from lab import in_a_process, main, memory
from lab.measuring import forget_peak

from mxelm.errors import EnvironmentProblem
from mxelm.fused.gram import BLOCK
from mxelm.fused.row_estimators import ELMClassifier
from mxelm.reporting import results

MNIST = {"dataset": "mnist", "n_neurons": 1024, "l2": 1.0, "seed": 0, "repeats": 5, "threads": 2}
RUNS = {"mnist": MNIST, "bound": MNIST}
QUICK = {"dataset": "digits", "n_neurons": 256, "repeats": 3}
FILES = ("X", "y", "X_test", "y_test", "W", "bias")


def ours(task, X, y, W, bias):
    """The estimator over ready features; its seed gives W and bias."""
    model = ELMClassifier(n_neurons=task["n_neurons"], l2=task["l2"], random_state=task["seed"]).fit(X, y)
    model.beta_  # noqa: B018  (solved when asked for)
    return model.predict


def ridge(task, X, y, W, bias):
    """Ridge on H, which is held whole, at its leanest: nothing copied that need not be."""
    from sklearn.linear_model import Ridge

    def hidden(X):
        H = X @ W.T
        H += bias
        return np.tanh(H, out=H)

    model = Ridge(alpha=task["l2"], solver="cholesky", copy_X=False).fit(hidden(X), np.eye(y.max() + 1)[y])
    return lambda X: model.predict(hidden(X)).argmax(axis=1)


def hpelm(task, X, y, W, bias):
    """hpelm's ELM, batches of 1,000 rows as it comes."""
    from hpelm import ELM
    n_classes = int(y.max()) + 1
    model = ELM(X.shape[1], n_classes, norm=task["l2"])
    model.add_neurons(len(W), "tanh", np.ascontiguousarray(W.T), bias)
    model.train(X, np.eye(n_classes)[y], "c")
    return lambda X: model.predict(X).argmax(axis=1)


def scikit_elm(task, X, y, W, bias):
    """scikit-elm's ELMClassifier, batches of 2,000 rows as it comes."""
    from skelm import ELMClassifier
    return ELMClassifier(alpha=task["l2"], n_neurons=len(W), random_state=task["seed"]).fit(X, y).predict


def blas_bound(task, X, y, W, bias):
    """The least that BLAS must do: XWᵀ, HᵀH into one triangle in place, HᵀY, over blocks of rows."""
    block = BLOCK
    H = np.random.default_rng(0).normal(size=(block, len(W)))
    Y = np.eye(y.max() + 1)[y]
    A, B = np.zeros((len(W), len(W)), order="F"), np.zeros((len(W), Y.shape[1]), order="F")
    XW = np.empty_like(H)
    for start in range(0, len(X), block):
        rows = X[start:start + block]
        dgemm(1.0, W.T, rows.T, trans_a=1, c=XW[:len(rows)].T, overwrite_c=1)
        dsyrk(1.0, H[:len(rows)].T, beta=1.0, c=A, overwrite_c=1, lower=1)
        dgemm(1.0, H[:len(rows)].T, Y[start:start + block].T, beta=1.0, c=B, trans_b=1, overwrite_c=1)


# name -> (what fits, module that must load, distribution, what is different about it)
PEERS = {
    "ours": (ours, "mxelm.fused.row_estimators", "mxelm", ""),
    "hpelm": (hpelm, "hpelm", "hpelm", "same W and bias; no intercept"),
    "scikit_elm": (scikit_elm, "skelm", "scikit-elm",
                   "does not let one set W: its own, N(0, 1/n_neurons), no bias; intercept not penalised"),
    "ridge": (ridge, "sklearn.linear_model", "scikit-learn",
              "same W and bias; the same model as ours, with H held in one piece"),
    "blas_bound": (blas_bound, "scipy.linalg", "scipy", "GEMM, DSYRK and DGEMM of the same shape alone"),
}


NAMES = {"mnist": ("ours", "hpelm", "scikit_elm", "ridge"), "bound": ("ours", "blas_bound")}


def one_seed(run, settings, seed, lab):
    """name -> medians of seconds, bytes and accuracy, or the reason why there are none; all names in turn."""
    with tempfile.TemporaryDirectory() as folder:
        sizes, found = prepare(settings, lab, folder), {name: [] for name in NAMES[run]}
        with tqdm(total=settings["repeats"] * len(found), unit="fit", disable=None) as bar:
            for _ in range(settings["repeats"]):
                for name, runs in found.items():
                    bar.set_description(name)
                    if not any("reason" in one for one in runs):  # what fails once is not tried again
                        runs.append(fitted(name, settings, folder))
                    bar.update()
    return {"sizes": sizes, **{name: {**medians(runs), "version": version(name)} for name, runs in found.items()}}


def fitted(name, settings, folder):
    """`one_fit` in a process of its own; a run that dies is a reason too."""
    try:
        return in_a_process(one_fit, name, settings, str(folder), threads=settings["threads"])
    except EnvironmentProblem as error:
        return {"reason": str(error)}


def one_fit(name, settings, folder):
    """Fit once in this process: dict of seconds, bytes and accuracy, or of the reason why it cannot be done."""
    run, module, _, _ = PEERS[name]
    try:
        importlib.import_module(module)
    except Exception as error:  # old packages fail in many ways on new ones; each is a reason
        return {"reason": f"{module} cannot be imported: {type(error).__name__}: {error}"}
    arrays = {file: np.load(Path(folder) / f"{file}.npy") for file in FILES}
    warm = arrays["X"][:256]
    dsyrk(1.0, warm.T @ warm)  # NumPy's and SciPy's BLAS start their threads here, for everyone
    forget_peak()
    before, start = memory("VmRSS"), time.perf_counter()
    predict = run(settings, *(arrays[file] for file in ("X", "y", "W", "bias")))
    found = {"seconds": time.perf_counter() - start, "bytes": memory("VmHWM") - before}
    if predict:
        found["accuracy"] = float(np.mean(predict(arrays["X_test"]) == arrays["y_test"]))
    return found


def prepare(settings, lab, folder):
    """Write rows, labels, W and bias where every process finds them; what they are, as settings."""
    if settings["dataset"] == "digits":
        test, train = lab.load("digits").split(0.8)
    else:
        train, test = (lab.load(settings["dataset"], part) for part in ("train", "test"))
    arrays = {}
    for suffix, part in (("", train), ("_test", test)):
        images = np.stack([part.image(i) for i in range(len(part))])
        arrays[f"X{suffix}"] = images.reshape(len(images), -1) / 255.0
        arrays[f"y{suffix}"] = part.targets
    few = ELMClassifier(n_neurons=settings["n_neurons"], random_state=settings["seed"])
    few.fit(arrays["X"][:2], arrays["y"][:2])
    arrays.update(W=few.projection_.W.astype(np.float64), bias=few.bias_)
    for name in FILES:
        np.save(Path(folder) / f"{name}.npy", arrays[name])
    return {"n_samples": len(train), "n_features": arrays["X"].shape[1], "n_classes": train.n_outputs,
            "test_samples": len(test), "block": BLOCK}


def medians(runs):
    """The median of each figure over runs, or the reason of the one that failed."""
    failed = [one for one in runs if "reason" in one]
    return failed[0] if failed else {key: float(np.median([one[key] for one in runs])) for key in runs[0]}


def version(name):
    try:
        return metadata.version(PEERS[name][2])
    except metadata.PackageNotFoundError:
        return "missing"


def rows(run, settings, seeds, lab):
    """peers.NAME.time_ratio and peers.NAME.memory_ratio; n counts the repeats of all seeds."""
    made, last = [], seeds[-1]
    if "reason" in last["ours"]:
        raise EnvironmentProblem(f"the measured core itself failed: {last['ours']['reason']}")
    for name in NAMES[run][1:]:
        for part in ("time",) if run == "bound" else ("time", "memory"):
            values = [ratio(part, seed["ours"], seed[name]) for seed in seeds if "reason" not in seed[name]]
            peer = {key: value for key, value in last[name].items() if key != "version"}
            ours = {key: value for key, value in last["ours"].items() if key != "version"}
            conditions = {**settings, **last["sizes"], "about": PEERS[name][3], "version": last[name]["version"],
                          "ours": ours, "peer": peer, **({} if values else {"reason": last[name]["reason"]})}
            row = results.over_seeds(f"peers.{name}.{part}_ratio", values, "ratio",
                                     "higher" if part == "time" else "lower", conditions=conditions)
            made.append({**row, "n": max(settings["repeats"] * len(values), 1)})
    return made


def ratio(part, mine, peer):
    """Peer's seconds over ours, or our bytes over the peer's."""
    return peer["seconds"] / mine["seconds"] if part == "time" else mine["bytes"] / max(peer["bytes"], 1)


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=QUICK)

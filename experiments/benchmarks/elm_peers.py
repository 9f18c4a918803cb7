"""The ELM core beside its peers: hpelm, scikit-elm, and scikit-learn's Ridge on hidden rows made in one piece.

    pip install 'mxelm[peers]'                        what is not installed becomes a row that says so
    python experiments/elm_peers.py                   MNIST's pixels: 60,000 x 784, 1,024 neurons
    python experiments/elm_peers.py --neurons 4096
    python experiments/elm_peers.py --quick           digits, 256 neurons, in a minute; written elsewhere

Question: what do the sums in place cost against other ways to the same least squares solution, and against what BLAS
alone must cost? Each fit runs in a process of its own, in turn A B C A B C ...; measured are
- seconds from rows in memory to a solved model: the ratio of medians, peer over ours (higher is better for us);
- peak memory above what imports and data take (VmHWM): the ratio of medians, ours over the peer's;
- accuracy on the test rows, beside each other in the conditions.
All get the same float64 rows in [0, 1], the same W, bias and l2, where they let one set them. `blas_bound` is the GEMM
of XWᵀ, DSYRK and DGEMM in float64 over blocks of the same shape: no tanh, no solution. Keep the machine idle meanwhile.
"""
import argparse
import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

import numpy as np
from ending import in_sentences
from scipy.linalg.blas import dgemm, dsyrk
from tqdm import tqdm

SETTINGS = {"dataset": "mnist", "n_neurons": 1024, "l2": 1.0, "seed": 0, "repeats": 5}
QUICK = {**SETTINGS, "dataset": "digits", "n_neurons": 256, "repeats": 3}
FILES = ("X", "y", "X_test", "y_test", "W", "bias")


def ours(task, X, y, W, bias):
    """The estimator over ready features; its seed gives W and bias."""
    from mxelm.fused.row_estimators import ELMClassifier
    model = ELMClassifier(task["n_neurons"], task["l2"], random_state=task["seed"]).fit(X, y)
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
    block = task["block"]
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
RUNS = {
    "ours": (ours, "mxelm.fused.row_estimators", "mxelm", ""),
    "hpelm": (hpelm, "hpelm", "hpelm", "same W and bias; no intercept"),
    "scikit_elm": (scikit_elm, "skelm", "scikit-elm",
                   "does not let one set W: its own, N(0, 1/n_neurons), no bias; intercept not penalised"),
    "ridge": (ridge, "sklearn.linear_model", "scikit-learn",
              "same W and bias; the same model as ours, with H held in one piece"),
    "blas_bound": (blas_bound, "scipy.linalg", "scipy", "GEMM, DSYRK and DGEMM of the same shape alone"),
}


def one_fit(task):
    """Fit once in this process: dict of seconds, bytes and accuracy, or of the reason why it cannot be done."""
    run, module, _, _ = RUNS[task["name"]]
    try:
        importlib.import_module(module)
    except Exception as error:  # old packages fail in many ways on new ones; each is a reason
        return {"reason": f"{module} cannot be imported: {type(error).__name__}: {error}"}
    arrays = {name: np.load(Path(task["folder"]) / f"{name}.npy") for name in FILES}
    warm = arrays["X"][:256]
    dsyrk(1.0, warm.T @ warm)  # NumPy's and SciPy's BLAS start their threads here, for everyone
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, start = memory("VmRSS"), time.perf_counter()
    predict = run(task, *(arrays[name] for name in ("X", "y", "W", "bias")))
    found = {"seconds": time.perf_counter() - start, "bytes": memory("VmHWM") - before}
    if predict:
        found["accuracy"] = float(np.mean(predict(arrays["X_test"]) == arrays["y_test"]))
    return found


def memory(key):
    """Bytes of this process as /proc tells them: VmRSS (now) or VmHWM (peak)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def child(task):
    """`one_fit` in a process of its own with as many threads as the task says."""
    environment = {**os.environ, **{f"{name}_NUM_THREADS": str(task["threads"]) for name in ("OMP", "OPENBLAS")}}
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, "--child", json.dumps({**task, "answer": str(answer)})]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if answer.exists():
            return json.loads(answer.read_text())
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"reason": f"the run ended with code {done.returncode}: {last}"}


def prepare(settings, root, folder):
    """Write rows, labels, W and bias where every process finds them; what they are, as settings."""
    from mxelm import data
    from mxelm.fused.gram import BLOCK
    from mxelm.fused.row_estimators import ELMClassifier
    if settings["dataset"] == "digits":
        test, train = data.load("digits").split(0.8)
    else:
        train, test = (data.load(settings["dataset"], root=root, split=part) for part in ("train", "test"))
    arrays = {}
    for suffix, part in (("", train), ("_test", test)):
        images = np.stack([part.image(i) for i in range(len(part))])
        arrays[f"X{suffix}"] = images.reshape(len(images), -1) / 255.0
        arrays[f"y{suffix}"] = part.targets
    few = ELMClassifier(settings["n_neurons"], random_state=settings["seed"]).fit(arrays["X"][:2], arrays["y"][:2])
    arrays.update(W=few.projection_.W.astype(np.float64), bias=few.bias_)
    for name in FILES:
        np.save(Path(folder) / f"{name}.npy", arrays[name])
    return {"n_samples": len(train), "n_features": arrays["X"].shape[1], "n_classes": train.n_outputs,
            "test_samples": len(test), "block": BLOCK}


def measure(settings, names, folder):
    """name -> dict of medians (seconds, bytes, accuracy) or of a reason; the runs of all names in turn."""
    found = {name: [] for name in names}
    with tqdm(total=settings["repeats"] * len(names), unit="fit") as bar:
        for _ in range(settings["repeats"]):
            for name in names:
                bar.set_description(name)
                if not any("reason" in one for one in found[name]):  # what fails once is not tried again
                    found[name].append(child({**settings, "name": name, "folder": str(folder)}))
                bar.update()
    return {name: medians(runs) for name, runs in found.items()}


def medians(runs):
    """The median of each figure over runs, or the reason of the one that failed."""
    failed = [one for one in runs if "reason" in one]
    return failed[0] if failed else {key: float(np.median([one[key] for one in runs])) for key in runs[0]}


def rows_of(found, settings, command):
    """Result rows: peers.NAME.time_ratio and peers.NAME.memory_ratio."""
    from mxelm.reporting import results
    mine, rows = found["ours"], []
    if "reason" in mine:
        raise SystemExit(f"the measured core itself failed: {mine['reason']}")
    for name, peer in found.items():
        if name == "ours":
            continue
        about = {**settings, "about": RUNS[name][3], "version": version(name), "ours": mine, "peer": peer}
        parts = ("time",) if name == "blas_bound" else ("time", "memory")
        for part in parts:
            if "reason" in peer:
                value, about = None, {**about, "reason": peer["reason"]}
            else:
                value = peer["seconds"] / mine["seconds"] if part == "time" else mine["bytes"] / max(peer["bytes"], 1)
            rows.append(results.row(f"peers.{name}.{part}_ratio", value, "ratio",
                                    "higher" if part == "time" else "lower", n=settings["repeats"] if value else 1,
                                    command=command, conditions=about))
    return rows


def version(name):
    try:
        return metadata.version(RUNS[name][2])
    except metadata.PackageNotFoundError:
        return "missing"


def main(argv=None):
    from mxelm.cli import options
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true",
                        help="digits and a small hidden layer; written to --out, else to a temporary folder")
    parser.add_argument("--neurons", type=options.positive, metavar="L", help="size of the hidden layer")
    parser.add_argument("--repeats", type=options.positive, metavar="N", help="fits of each, in turn")
    parser.add_argument("--peers", nargs="+", choices=[name for name in RUNS if name != "ours"],
                        default=[name for name in RUNS if name != "ours"], help="measure these alone")
    parser.add_argument("--threads", type=options.positive, default=len(os.sched_getaffinity(0)),
                        help="of BLAS, for everyone")
    parser.add_argument("--data", help="folder of MNIST (default: MXELM_DATA and the cache)")
    parser.add_argument("--out", type=Path, help="result file (default: experiments/results/elm_peers.json)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        task = json.loads(args.child)
        Path(task["answer"]).write_text(json.dumps(one_fit(task)))
        return
    from mxelm.reporting import results
    given = {"n_neurons": args.neurons, "repeats": args.repeats}
    settings = {**(QUICK if args.quick else SETTINGS), **{k: v for k, v in given.items() if v is not None}}
    results_file = Path("experiments/results/elm_peers.json")
    out = args.out or (Path(tempfile.mkdtemp(prefix="elm_peers-")) / "quick.json" if args.quick else results_file)
    results.require_writable(out, "elm_peers")
    with tempfile.TemporaryDirectory() as folder:
        settings.update(prepare(settings, args.data, folder), threads=args.threads)
        found = measure(settings, ["ours", *args.peers], folder)
    command = " ".join(["python experiments/elm_peers.py", *(["--quick"] if args.quick else []),
                        *(f"--{flag} {value}" for flag, value in (("neurons", args.neurons),
                                                                  ("repeats", args.repeats)) if value is not None)])
    rows = rows_of(found, settings, command)
    for row in rows:
        print(results.line(row))
    results.write(out, "elm_peers", rows)
    print(f"written to {out}")


if __name__ == "__main__":
    with in_sentences():
        main()

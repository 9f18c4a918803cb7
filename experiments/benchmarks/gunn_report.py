"""Paper 3: what the report itself measured, and three traps: its counts, its recipe, its labels.

    python experiments/benchmarks/gunn_report.py params            figure 6 and the original's counts; a few seconds
    python experiments/benchmarks/gunn_report.py checkpoint        the checkpoint that the report calls impossible
    python experiments/benchmarks/gunn_report.py as_published      one of the runs below, an hour or two a seed

    report, report_plain    the report's recipe and network, as its code has it (softmax between the dense layers), and
                            with ReLU there, as it prints: what the softmax costs
    as_published            report, with the label rows that the published code makes
    batchnorm               one epoch of report_plain, scored with the report's running statistics, which lag, and
                            with settled ones: what the lag costs

Method and protocol are the lesson's, experiments/gunn.py; images are normalised by the report's one scalar. report
and report_plain score their weights with settled statistics too, and choose nothing by it. Source: Radhakrishnan,
sections 4 to 7.
"""
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the lab and the lesson are

import gunn as lesson
from lab import main
from lab.beside import pairs
from lab.gunn_rows import accuracy

from mxelm import gunn, training
from mxelm.backbones.anatomy import costs
from mxelm.backbones.gluon import count_parameters
from mxelm.graphs import nodes
from mxelm.gunn import tasks
from mxelm.reporting import results
from mxelm.reporting.published import FIGURE_6_OUTPUTS
from mxelm.runtime import mx

CODE = {**lesson.REPORT, "head": "as-published", "epochs": 8,  # of the report's 50: what there was time for
           "schedule": "constant", "augmentation": "none", "momentum": 0.99}
RUNS = {
    "report": CODE, "report_plain": {**CODE, "head": "plain"},
    "as_published": {**CODE, "labels": "as-published"},
    "batchnorm": {**CODE, "head": "plain", "epochs": 1},
    "params": {}, "checkpoint": {**lesson.REPORT, "images": 500, "epochs": 1, "batch": 25, "augmentation": "none",
                                 "schedule": "constant"},
}
EPOCHS = 50  # of the report


def one_seed(run, settings, seed, lab):
    if run == "params":
        return parameters()
    if run == "checkpoint":
        return checkpoint(settings, seed, lab)
    figures = lesson.one_seed(run, settings, seed, lab)
    curve = [epoch["accuracy"] for epoch in figures["history"]]
    if run == "report":  # of the accuracies on its training images the report prints the last epoch's and the best
        figures.update(train_last=curve[-1], train_best=max(curve))
    if run == "as_published":
        figures["constant_answers"] = {labels: constant_answer({**settings, "labels": labels}, lab)
                                       for labels in tasks.LABELS}
    return figures


def parameters():
    """Figure 6 row by row, the originals' totals, and what gradual updates cost: id -> figure; nothing is trained."""
    network, originals = gunn.gunn15(3, head="as-published", layer="step-by-step"), {
        "15": gunn.original_gunn15(10), "15_100": gunn.original_gunn15(100), "18": gunn.original_gunn18()}
    drawn = gunn.summary(network)
    return {"gunn.output_shapes": sum(tuple(row["output"]) == channels_first(FIGURE_6_OUTPUTS[row["layer"]])
                                      for row in drawn),
            "gunn.cost_over_sunn.report": over_sunn(gunn.gunn15, 3),
            "gunn.cost_over_sunn.original": over_sunn(gunn.original_gunn15, 10),
            **{f"gunn.params.{row['layer']}": row["parameters"] for row in drawn},
            **{f"gunn.params.{name}": count for name, count in count_parameters(network).items()},
            **{f"gunn.original.params.{name}": count_parameters(other)["trainable"]
               for name, other in originals.items()}}


def channels_first(shape):
    """(h, w, c) as MXNet has it."""
    return (shape[-1], *shape[:-1])


def over_sunn(build, classes):
    """Multiplications of a gradual network's convolutions, one image, over those of its simultaneous control."""
    gradual, control = (multiplications(build(classes, layer=layer)(mx.sym.var("data")))
                        for layer in ("step-by-step", "sunn"))
    return gradual / control


def multiplications(symbol):
    convolutions = {f"{node.name}_output" for node in nodes(symbol)[0] if node.op == "Convolution"}
    return sum(row["cost"] for row in costs(symbol, (3, 32, 32)) if row["name"] in convolutions)


def checkpoint(settings, seed, lab):
    """A network trained a little, saved, and read again in four ways: the largest difference of each."""
    task, preprocessing = lesson.the_task(settings, lab)
    network, prefix = lesson.build(settings, seed), str(lab.place(seed))
    lesson.train(network, lesson.batches_of(task.train, settings, preprocessing, seed), None, settings, seed)
    x = next(iter(task.test.gluon_loader(32, preprocessing)))[0]
    gunn.save(network, prefix, preprocessing, task.train.classes)
    network.save_parameters(f"{prefix}.gluon")
    expected, found = network(x).asnumpy(), {}
    for layer in ("fast", "step-by-step"):
        other = gunn.gunn15(3, head="plain", layer=layer, seed=1)
        other.load_parameters(f"{prefix}.gluon")
        found[f"load_parameters, {layer}"] = other(x).asnumpy()
    symbol, arg_params, aux_params = mx.model.load_checkpoint(prefix, epoch=0)
    module = mx.mod.Module(symbol, label_names=None)
    module.bind([("data", x.shape)], for_training=False)
    module.set_params(arg_params, aux_params)
    module.forward(mx.io.DataBatch([x]), is_train=False)
    found["mx.model.load_checkpoint"] = module.get_outputs()[0].asnumpy()
    block = mx.gluon.SymbolBlock.imports(f"{prefix}-symbol.json", ["data"], f"{prefix}-0000.params")
    found["SymbolBlock"] = block(x).asnumpy()
    return {"differences": {name: float(np.abs(scores - expected).max() / np.abs(expected).max())
                            for name, scores in found.items()}, "images": len(x)}


def constant_answer(settings, lab):
    """Of the report's 100 test images: the best constant answer, how often it is right, and each class's images."""
    targets = lesson.the_task(settings, lab)[0].test.targets[:100]
    answer, share = tasks.constant_answer(targets, settings["classes"])
    return {"share": share, "answer": answer, "labels_that_count_as_each_class": np.bincount(
        training.class_numbers(targets), minlength=settings["classes"]).tolist()}


def rows(run, settings, seeds, lab):
    if run == "params":
        units = {"gunn.output_shapes": "layers", "gunn.cost_over_sunn.report": "ratio",
                 "gunn.cost_over_sunn.original": "ratio"}
        remark = {"reason": "the report's layer has one kernel a pass, which its control applies once, all blocks "
                            "alike; with the original's weights a step both multiply alike"}
        return [results.over_seeds(id, [seed[id] for seed in seeds[:1]], units.get(id, "parameters"), "none",
                                   conditions=remark if "cost" in id else None)
                for id in seeds[0].figures]
    if run == "checkpoint":
        return [results.over_seeds(
            "gunn.checkpoint_agreement", [max(seed["differences"].values()) for seed in seeds], "ratio", "lower",
            conditions={**seeds[0].figures,
                        "what": "largest difference of the scores, relative to the largest score"})]
    short = f"{settings.get('epochs')} of {EPOCHS} epochs: what there was time for"
    task = f"gunn.{settings['classes']}class"
    if run == "batchnorm":
        return [lost("gunn.batchnorm.running_statistics", settings, "running statistics that lag, same weights", {
            "settled": [seed["settled"]["test3000"] for seed in seeds],
            "lagging": [seed["test3000"] for seed in seeds]})]
    if run == "report_plain":
        sides = dict(zip(("plain", "softmax"), zip(*pairs(seeds, lab.kept("report")))))
        return [lost("gunn.softmax_head", settings, "softmax between the dense layers", {
            name: [seed["test3000"] for seed in side] for name, side in sides.items()}, reason=short,
            with_settled_statistics={name: [seed["settled"]["test3000"] for seed in side]
                                     for name, side in sides.items()})]
    if run == "as_published":
        answers = seeds[0]["constant_answers"].items()
        return [accuracy(f"{task}.as_published.test100", "test100", settings, seeds, short), *(
            results.over_seeds(f"{task}.constant_answer.{labels.replace('-', '_')}", [100 * found["share"]], "%",
                               "none", conditions={"test_images": 100, **found}) for labels, found in answers)]
    return [accuracy(f"{task}.report.{which}", which, settings, seeds, short)
            for which in ("test3000", "test100", "train_last", "train_best")]


def lost(id, settings, what, sides, **conditions):
    """The row of what the second of two sides loses, seed by seed, on all test images."""
    if not sides:
        return results.over_seeds(id, [], "%", "lower", conditions={**settings, "reason": "no seed of both sides"})
    better, worse = (np.array(side) for side in sides.values())
    return results.over_seeds(id, 100 * (better - worse), "%", "lower", conditions={
        **settings, **conditions, "what": f"points lost to {what}", **sides})


if __name__ == "__main__":
    main(__doc__, RUNS, one_seed, rows, quick=lesson.QUICK)

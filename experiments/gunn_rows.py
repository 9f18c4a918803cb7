"""The rows and pictures that gunn.py makes of finished seeds."""
from pathlib import Path

import gunn_runs as runs
import numpy as np

from mxelm.errors import InputError
from mxelm.files import read_json, write_json
from mxelm.gunn import tasks
from mxelm.reporting import plots, published, results
from mxelm.training import class_numbers

CURVE = ("loss", "accuracy", "validation_accuracy", "seconds")  # what a row keeps of each epoch
PUBLISHED = {figure.id: figure.value for figure in published.GUNN}
CONTROLS = {"sunn": "plain", "original_sunn": "original"}  # a simultaneous run -> the gradual one beside it
TRAPS = {"batchnorm": "gunn.batchnorm.running_statistics",  # runs that say what a trap costs, of the report's network
         "printed_plain": "gunn.softmax_head"}
# what a row keeps of each seed
KEPT = ("seed", "git", "machine", "test3000", "test100", "answers", "answers_of_the_first_100", "constant_answer",
        "constant_answer_of_the_first_100", "largest_running_variance", "ended_by", "minutes")


def ids(run, classes):
    """The rows that a run writes; the first tells its seeds."""
    task = f"gunn.{classes}class"
    if run == "ten":
        return ["gunn.10class"]
    if run == "as_published":
        return [f"{task}.as_published.test100", *(f"{task}.constant_answer.{name.replace('-', '_')}"
                                                  for name in tasks.LABELS)]
    if run in TRAPS:
        return [TRAPS[run]]
    more = {"printed": ["train_last", "train_best"], **dict.fromkeys(CONTROLS, ["gain"])}.get(run, [])
    return [f"{task}.{run}.{which}" for which in ("test3000", "test100", *more)]


def not_run(args):
    """The rows of a run for which there was no time: no value, and why. InputError where --out has a figure."""
    names = ids(args.run, runs.RUNS[args.run]["classes"])
    measured = [id for id, row in rows_of(args.out).items() if id in names and row["value"] is not None]
    if measured:
        raise InputError(f"{args.out} has a figure of {measured[0]}, which --not-run would replace by none")
    return [results.row(id, None, "%", "higher", command=args.command, conditions={
        **runs.RUNS[args.run], "reason": f"not run: {args.not_run}"}) for id in names]


def rows_of(out):
    """The rows of a result file by id; none where there is no file."""
    return {row["id"]: row for row in (read_json(out) if out.exists() else {"rows": []})["rows"]}


def require_no_loss(args, settings):
    """Raise InputError where the rows that this call will write would replace those of more seeds or epochs."""
    row = rows_of(args.out).get(ids(args.run, settings["classes"])[0])
    if args.quick or row is None or row["value"] is None:
        return
    seeds, had = {told["seed"] for told in row["conditions"]["seeds"]}, row["conditions"]["epochs"]
    if seeds - set(args.seeds):
        together = " ".join(map(str, sorted({*seeds, *args.seeds})))
        raise InputError(f"{args.out} has seeds of {args.run} that this call would lose: --resume --seeds {together} "
                         "keeps them, another --out too")
    if had > settings["epochs"]:
        raise InputError(f"{args.out} has {args.run} after {had} epochs, which {settings['epochs']} would replace: "
                         "name another --out")
    if args.run in CONTROLS:
        require_gradual(args, ids(args.run, settings["classes"])[-1])


def require_gradual(args, id):
    """Raise InputError where --work lacks a gradual run that the control's gain in --out tells of."""
    told = rows_of(args.out).get(id, {"conditions": {}})["conditions"]
    for seed in told.get("seeds", []):
        gradual = args.work / f"{runs.stem(CONTROLS[args.run], args)}-{seed}.figures.json"
        if not gradual.exists():
            raise InputError(f"{args.out} has the gain of seed {seed}, for which {gradual} is missing: --resume takes "
                             "it up, or name another --out")


def take_up(args):
    """Leave in --work the finished seeds that the rows in --out tell of, but not those that --work has or has begun.

    Those are the runs with rows that keep their curves, by their own settings.
    """
    content = read_json(args.out) if args.out.exists() else {}
    rows = rows_of(args.out)
    for run, settings in runs.RUNS.items():
        row = rows.get(ids(run, settings["classes"])[0])
        if row is None or "curves" not in row["conditions"] or not by(settings, row["conditions"]):
            continue
        machine = row["conditions"].get("measured_on", content)["machine"]
        for told, curve in zip(row["conditions"]["seeds"], row["conditions"]["curves"]):
            prefix = args.work / f"{run}-{told['seed']}"
            if not any(Path(f"{prefix}.{end}").exists() for end in ("figures.json", "state", "begun.json")):
                history = [dict(zip(CURVE, entry)) for entry in curve]
                write_json(f"{prefix}.figures.json", {"settings": settings, "machine": machine, **told,
                                                      "history": history})


def by(settings, conditions):
    """Whether a row's conditions are those of a run with these settings."""
    return {key: conditions.get(key) for key in settings} == settings and "patience" not in conditions


def draw_curves(args, figures):
    """RUN.png in --work: accuracy on the training images (a mean over the epoch) and on those that are watched.

    That of `ten` is by time, with the test images' accuracy beside, and the published one if it is the run itself.
    """
    lines, by_time = {}, args.run == "ten"
    for f in figures:
        epochs = np.arange(1, len(f["history"]) + 1)
        x = np.cumsum([entry["seconds"] for entry in f["history"]]) / 60 if by_time else epochs
        for key, images in (("accuracy", "training"), ("validation_accuracy", "watched")):
            lines[f"seed {f['seed']}, {images} images"] = x, [100 * entry[key] for entry in f["history"]]
        if by_time:
            lines[f"seed {f['seed']}, test images"] = x[-1:], [100 * f["test3000"]]
            if not (args.quick or args.changed):
                lines["published, test images"] = x[[0, -1]], [PUBLISHED["gunn.10class"]] * 2
    plots.curves(args.work / f"{runs.stem(args.run, args)}.png", lines,
                 "training time / minutes" if by_time else "epochs", "accuracy / %")


def accuracy_rows(args, settings, figures):
    """The accuracies of a run on all and on the first 100 test images."""
    return [accuracy_row(args, settings, figures, f"gunn.{settings['classes']}class.{args.run}.{which}", which)
            for which in ("test3000", "test100")]


def accuracy_row(args, settings, figures, id, which, **conditions):
    """The row of one accuracy, with all that tells how it came about."""
    values = 100 * np.array([f[which] for f in figures])
    conditions |= cut_short(args, settings, figures, conditions.get("reason"))
    conditions["normalisation"] = "a channel" if runs.per_channel(settings, args) else "one scalar"
    conditions = {**settings, **conditions, "seeds": by_seed(figures), "curves": curves_of(figures)}
    row = results.row(id, values.mean(), "%", "higher", std=values.std(ddof=1) if len(values) > 1 else None,
                      n=len(values), command=args.command, seconds=60 * sum(f["minutes"] for f in figures),
                      conditions=conditions)
    return {**row, "git": trained_at(figures)}


def by_seed(figures):
    """What a row tells of each seed."""
    return [{key: f[key] for key in KEPT if key in f} for f in figures]


def curves_of(figures):
    """The learning curve of each seed, by `CURVE`, without seconds where a row of old had none."""
    return [[[round(e[key], 4) for key in CURVE if key in e] for e in f["history"]] for f in figures]


def trained_at(figures):
    """The commits that the seeds were trained with, which may be older than the one that writes the row."""
    return ", ".join(dict.fromkeys(f["git"] or "unknown" for f in figures))


def cut_short(args, settings, figures, *reasons):
    """{"reason": why a run is less than it should be}, or nothing."""
    reasons, whole = [reason for reason in reasons if reason], runs.RUNS[args.run]["epochs"]
    other = {key: value for key, value in args.changed.items() if key not in ("epochs", "patience")}
    if other:
        reasons.append(f"another run than {args.run}: " + ", ".join(f"{key} {value}" for key, value in other.items()))
    if settings["epochs"] < whole:
        reasons.append(f"{settings['epochs']} of {whole} epochs: what there was time for")
    reasons += [f"seed {f['seed']} is scored after epoch {len(f['history'])}, for {f['ended_by']}" for f in figures
                if "ended_by" in f]
    if any(len(f["history"]) < settings["epochs"] for f in figures if "ended_by" not in f):
        reasons.append(f"stopped early, after {', '.join(str(len(f['history'])) for f in figures)} epochs")
    return {"reason": "; ".join(reasons)} if reasons else {}


def control_rows(args, settings, figures):
    """The control's accuracies, and the points by which the gradual run is better with the same seeds."""
    gradual = CONTROLS[args.run]
    wanted, pairs = {**settings, "layer": runs.RUNS[gradual]["layer"]}, []
    for f in figures:
        file = args.work / f"{runs.stem(gradual, args)}-{f['seed']}.figures.json"
        other = runs.read_figures(file) if file.exists() else None
        if other and other["settings"] == wanted:
            pairs.append((other, f))
    gains = np.array([100 * (other["test3000"] - f["test3000"]) for other, f in pairs])
    few = "" if len(pairs) > 2 else f"{len(pairs)} seed{'s' * (len(pairs) != 1)} of both: what there was time for"
    conditions = {**settings, "what": f"points of {gradual} less points of {args.run}, all test images, seed by seed",
                  "seeds": [f["seed"] for _, f in pairs], "by_seed": gains.tolist(),
                  **cut_short(args, settings, figures, few)}
    row = results.row(f"gunn.{settings['classes']}class.{args.run}.gain", gains.mean() if len(pairs) else None, "%",
                      "none", std=gains.std(ddof=1) if len(pairs) > 1 else None, n=max(len(pairs), 1),
                      command=args.command, conditions=conditions)
    return [*accuracy_rows(args, settings, figures), {**row, "git": trained_at([f for pair in pairs for f in pair])}]


def printed_rows(args, settings, figures):
    """The printed recipe's accuracies, those on its training images too, of which the report prints last and best."""
    rows = accuracy_rows(args, settings, figures)
    for id, call in (("train_last", lambda curve: curve[-1]), ("train_best", max)):
        found = [{**f, id: call([entry["accuracy"] for entry in f["history"]])} for f in figures]
        rows.append(accuracy_row(args, settings, found, f"gunn.{settings['classes']}class.printed.{id}", id))
    return rows


def ten_rows(args, settings, figures):
    curve = [[round(np.cumsum([e["seconds"] for e in f["history"]])[i] / 60, 2), e["validation_accuracy"]]
             for f in figures for i, e in enumerate(f["history"])]
    reason = (f"{len(figures[0]['history'])} epochs on a processor, where the original trained 300 on four GPUs, and "
              "kept the epoch with the best test error")
    return [accuracy_row(args, settings, figures, "gunn.10class", "test3000", minutes_and_validation_accuracy=curve,
                         test_images=sum(figures[0]["answers"]), reason=reason)]


def published_rows(args, settings, figures):
    """The accuracy by the published labels, and what one answer for all has by them and by the real ones."""
    task = f"gunn.{settings['classes']}class"
    rows = [accuracy_row(args, settings, figures, f"{task}.as_published.test100", "test100")]
    for labels in tasks.LABELS:
        targets = runs.load_task({**settings, "labels": labels}, args)[0].test.targets[:100]
        always, share = tasks.constant_answer(targets, settings["classes"])
        counts = np.bincount(class_numbers(targets), minlength=settings["classes"]).tolist()
        rows.append(results.row(f"{task}.constant_answer.{labels.replace('-', '_')}", 100 * share, "%", "none",
                                command=args.command, conditions={"test_images": 100, "answer": always,
                                                                  "labels_that_count_as_each_class": counts}))
    return rows


def batchnorm_rows(args, settings, figures):
    """What an epoch's evaluation loses to running statistics that lag: the same weights with others beside it."""
    settled = runs.settled("batchnorm", settings, figures, args)
    if settled is None:
        raise InputError(f"{args.work} has the figures of batchnorm without its weights: leave out --resume")
    sides = {"settled": settled, "lagging": figures}
    return [lost_row(args, settings, TRAPS["batchnorm"], "points lost to running statistics that lag, same weights",
                     sides)]


def softmax_rows(args, settings, figures):
    """Points that the softmax between the dense layers costs: `printed` with the same seeds and epochs beside it.

    Both are scored with settled running statistics too, for those of 0.99 lag behind weights that still move.
    """
    with_softmax = runs.beside("printed", {**settings, "head": "printed"}, figures, args)
    settled = {"plain": runs.settled("printed_plain", settings, figures, args),
               "softmax": runs.settled("printed", {**settings, "head": "printed"}, figures, args)}
    return [lost_row(args, settings, TRAPS["printed_plain"], "points lost to softmax between the dense layers",
                     {"plain": figures, "softmax": with_softmax}, with_settled_statistics={
                         name: [f["test3000"] for f in side] for name, side in settled.items() if side})]


def lost_row(args, settings, id, what, sides, **conditions):
    """The row of what the second of two sides loses, seed by seed, on all test images."""
    accuracies = {name: [f["test3000"] for f in figures] for name, figures in sides.items()}
    better, worse = accuracies.values()
    lost, trained = 100 * (np.array(better) - np.array(worse)), list(sides.values())[-1]
    row = results.row(id, lost.mean(), "%", "lower", n=len(lost), std=lost.std(ddof=1) if len(lost) > 1 else None,
                      command=args.command, conditions={
                          **settings, **conditions, **cut_short(args, settings, trained), "what": what, **accuracies,
                          "seeds": [{"seed": pair[0]["seed"], **dict(zip(sides, by_seed(pair)))}
                                    for pair in zip(*sides.values())],
                          "curves_of_sides": {name: curves_of(side) for name, side in sides.items()}})
    return {**row, "git": trained_at([f for side in sides.values() for f in side])}


ROWS = {"ten": ten_rows, "as_published": published_rows, "batchnorm": batchnorm_rows, "printed_plain": softmax_rows,
        "printed": printed_rows, **dict.fromkeys(CONTROLS, control_rows)}

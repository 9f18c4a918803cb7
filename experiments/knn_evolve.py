"""k-NN slicing with evolved kernels: what the search finds.

A part of knn_slicing.py, which parses and writes. Question: what does evolution add to the kernels it starts from, at
the same number of evaluations as random search? Protocol: search, validation and refusal see training images only. The
first 4,000 vote in the search, of the next 6,000 some are asked, drawn anew for each filter, and 20,000 further ones
validate each sweep. Start and result are scored once on the test images, with 4,000 and with 60,000 references, by the
k-NN of the baselines (k = 9, cosine); McNemar's exact test stands beside the difference to the start, and to whatever
else --work holds of the same seeds.
`--fitness-on-test` is what the talk may have done: its 1,000 test images are the fitness queries. No honest figure.
"""
import hashlib
import json

import knn_cost
import numpy as np
from knn_baselines import BANKS, CUTS, KNN, TALKS, explained, kept, load_mnist, main_cut, spread
from matplotlib.figure import Figure
from tqdm import tqdm

from mxelm.cli import options
from mxelm.containers import load_container, save_container
from mxelm.errors import InputError
from mxelm.files import atomic_write
from mxelm.knn_slicing import banks, kernels
from mxelm.knn_slicing.deskew import deskew
from mxelm.knn_slicing.evolution import workers
from mxelm.knn_slicing.evolution.fitness import KINDS, KernelFitness
from mxelm.knn_slicing.evolution.search import MODES, evolve
from mxelm.neighbours import nearest, vote
from mxelm.reporting import results
from mxelm.reporting.plots import DPI
from mxelm.reporting.statistics import mcnemar

PLAN = {"generations": 24, "population": 12, "sigma": 0.2, "sweeps": 1, "n_queries": 600, "filters": None}
PROTOCOL = {"mode": "serial", "layers": ["conv2"], "fitness": "nca", "metric": "cosine", "conv1": "pool1",
            "start": "kmeans", "listed": 128}  # with PLAN, what the rows stand for; other searches are printed alone
QUICK_PLAN = {**PLAN, "generations": 2, "population": 4, "n_queries": 60, "filters": 2}
ROLES = {"references": 4000, "queries": 6000, "validation": 20000}  # the first training images, one after the other
QUICK_ROLES = {"references": 300, "queries": 200, "validation": 100}
DIFFERS = {
    "honest": "search, validation and refusal see training images only; the talk does not say which images its "
              "fitness is computed on, nor how many candidates it evaluates",
    "on test": "the talk says neither which images its fitness is computed on nor how many candidates it evaluates",
}


def add_arguments(parser):
    """The flags of `evolve`."""
    knn_cost.add_arguments(parser)
    parser.add_argument("--resume", action="store_true", help="go on from an interrupted search's checkpoint")
    parser.add_argument("--mode", choices=MODES, help="filter by filter, all filters against the "
                        "kernels as they were, or a whole layer as one individual (default: serial)")
    parser.add_argument("--fitness", choices=KINDS, help="the smooth surrogate (default) or the accuracy itself")
    parser.add_argument("--metric", choices=("l2", "cosine"), help="distance of the search (default: cosine)")
    parser.add_argument("--layers", nargs="+", choices=("conv1", "conv2"),
                        help="whose filters are searched (default: conv2)")
    parser.add_argument("--conv1", choices=("pool1", "conv2"), help="where conv1's filters are judged (default: pool1)")
    parser.add_argument("--start", choices=tuple(banks.BANKS), help="kernels to start from (default: kmeans)")
    parser.add_argument("--deskew", action="store_true", help="deskew all images first")
    parser.add_argument("--fitness-on-test", action="store_true", help="ask the talk's 1,000 test images in the search")
    parser.add_argument("--sweeps", type=options.positive, help=f"over each layer (default: {PLAN['sweeps']})")
    parser.add_argument("--n-queries", type=options.positive,
                        help=f"fitness queries, drawn anew for each search (default: {PLAN['n_queries']:,})")
    parser.add_argument("--workers", type=options.positive, help="processes that share the searches of parallel mode")
    parser.add_argument("--cluster", help="address of a dask scheduler whose workers share them")


def settings_of(args):
    """Everything that decides a seed's outcome, JSON-able."""
    roles = QUICK_ROLES if args.quick else ROLES
    if args.fitness_on_test:
        roles = {"references": roles["references"]}
    settings = {"method": args.method, "deskew": args.deskew, "fitness_on_test": args.fitness_on_test, **roles,
                **knn_cost.chosen(args, plan_of(args))}
    if settings["fitness"] == "nca":
        settings["tau"] = KernelFitness.TAU
    return settings


def plan_of(args):
    """What the rows of the table stand for."""
    return {**PROTOCOL, **(QUICK_PLAN if args.quick else PLAN)}


def evolution(args):
    """Kernels by CMA-ES, PSO or random search, scored once on the test images."""
    settings = settings_of(args)
    if (args.workers or args.cluster) and settings["mode"] != "parallel":
        raise InputError("--workers and --cluster need --mode parallel: only its searches can be shared")
    train, test = load_mnist(args)
    train, ask = prepared(train, args), prepared(test, args)
    done = [evolved(args, settings, train, ask, seed) for seed in tqdm(range(args.seeds), desc="seeds")]
    draw_fitness(args.work / f"{name_of(settings)}.png", [meta for meta, _ in done])
    return rows_of(args, settings, done)


def prepared(dataset, args):
    """(images, labels) of a Dataset, deskewed where asked."""
    images = dataset.source.images[dataset.positions]
    return (deskew(images) if args.deskew else images), dataset.targets


def name_of(settings):
    """A file name: the main settings in words, all of them in a short digest."""
    words = [settings[key] for key in ("method", "mode", "fitness", "start")]
    words += [word for word in ("deskew", "fitness_on_test") if settings[word]]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    return "-".join(["evolved", *map(str, words), digest])


def evolved(args, settings, train, test, seed):
    """(meta, arrays) of one seed: evolve, then score the kernels and those they started from on the test images.

    arrays: bool (n_test,), whether each was classified rightly, by "start.<references>" and "evolved.<references>".
    """
    file = args.work / f"{name_of(settings)}-{seed}"
    if file.exists():
        return load_container(file, "knn-evolved")
    start = banks.BANKS[settings["start"]](train[0][:settings["references"]], seed)
    found = search(args, settings, train, test, start, seed)
    found.kernels.save(f"{file}.kernels")
    draw_kernels(f"{file}.kernels.png", start, found.kernels)
    right = {f"{name}.{many}": scored(bank, train[0][:many], train[1][:many], *test) for many in sizes_of(settings)
             for name, bank in (("start", start), ("evolved", found.kernels))}
    records = sorted(found.logbook, key=lambda r: (r["layer"], r["sweep"], r["filter"] or 0, r["generation"]))
    curve = [[record["best"], record["mean"]] for record in records]
    meta = {"settings": settings, "seed": seed, "seconds": found.seconds, "evaluations": found.evaluations,
            "rounds": found.rounds, "curve": curve}
    save_container(file, "knn-evolved", meta, right)
    return meta, right


def sizes_of(settings):
    """With how many references the final k-NN is scored."""
    return (4000,) if settings["fitness_on_test"] else (4000, 60000)


def search(args, settings, train, test, start, seed):
    """The evolution itself; of the test images it sees none, but with --fitness-on-test."""
    r = settings["references"]
    if settings["fitness_on_test"]:
        images, labels = (np.concatenate([a[:r], b[:TALKS]]) for a, b in zip(train, test))
        queries, validation = np.arange(r, len(images)), None
    else:
        asked = r + settings["queries"]
        images, labels = (part[:asked + settings["validation"]] for part in train)
        queries, validation = np.arange(r, asked), np.arange(asked, len(images))
    fitness = KernelFitness(images, labels, np.arange(r), settings["fitness"], settings["metric"], KNN["k"],
                            settings["listed"], settings["conv1"], args.threads)
    plan = {key: settings[key] for key in ("method", "mode", "layers", *PLAN)}
    with mapper(args) as over:
        return evolve(start, fitness, queries, validation, args.work / f"{name_of(settings)}-{seed}.run", args.resume,
                      over, True, seed=seed, **plan)


class mapper:
    """A context that gives Python's map, processes, or a cluster, as the arguments say."""

    def __init__(self, args):
        self.over = (workers.Cluster(args.cluster) if args.cluster else
                     workers.Processes(args.workers) if args.workers else None)

    def __enter__(self):
        return self.over or map

    def __exit__(self, *_):
        if self.over:
            self.over.close()


def scored(bank, references, reference_labels, images, labels):
    """Which test images the final k-NN classifies rightly, bool (n,)."""
    there, here = kernels.features(references, bank), kernels.features(images, bank)
    distances, indices = nearest(here, there, KNN["k"], KNN["metric"])
    return vote(distances, reference_labels[indices], int(labels.max()) + 1, KNN["weights"]) == labels


def rows_of(args, settings, done):
    """A row for each number of references and cut of the test images that the ids know, means over the seeds."""
    plan = plan_of(args)
    free = {"fitness"} if settings["fitness_on_test"] else set()
    if any(settings[key] != plan[key] for key in set(plan) - free):
        tqdm.write("another search than the table's: its figures are printed, and no row is written")
        ids = {}
    else:
        ids = ids_of(settings)
    rows = []
    for many in sizes_of(settings):
        right = {name: np.stack([arrays[f"{name}.{many}"] for _, arrays in done]) for name in ("start", "evolved")}
        conditions = conditions_of(args, settings, done, right, many)
        for id, cut in ids.get(many, {}).items():
            if cut not in conditions:  # digits have few test images
                continue
            values = 100 * right["evolved"][:, CUTS[cut]].mean(axis=1)
            row = results.row(id, values.mean(), "%", "higher", std=spread(values), n=len(values), command=args.command,
                              seconds=sum(meta["seconds"] for meta, _ in done),
                              conditions={**conditions, "test_images": cut})
            row = explained(row, DIFFERS["on test" if settings["fitness_on_test"] else "honest"])
            reasons = [row["conditions"].get("reason"), refusals(done)]
            row["conditions"].update({"reason": "; ".join(filter(None, reasons))} if any(reasons) else {})
            rows.append(row)
    return rows


def refusals(done):
    """In words, how many seeds' results the validation images refused; None for none."""
    count = sum(not any(r["accepted"] for r in meta["rounds"]) for meta, _ in done if meta["rounds"])
    return (f"the validation images refused what {count} of {len(done)} searches found: there the kernels are those "
            "that the search started from") if count else None


def ids_of(settings):
    """Number of references -> id -> cut of the test images; nothing for searches that the table does not know."""
    method, suffix = settings["method"], ".deskewed" if settings["deskew"] else ""
    if method in ("cma", "pso") and settings["fitness_on_test"]:
        return {} if suffix else {4000: {f"knn.{method}.fitness_on_test.4000": "test1000"}}
    if method in ("cma", "pso"):
        return {many: {f"knn.{method}.{many}.{cut}{suffix}": cut for cut in CUTS} for many in sizes_of(settings)}
    if method == "random" and not suffix and not settings["fitness_on_test"]:
        return {many: {f"knn.baseline.search.{many}": main_cut(many)} for many in sizes_of(settings)}
    return {}


def conditions_of(args, settings, done, right, many):
    """Settings, and for each cut of the test images both accuracies and McNemar's test against all that is there."""
    against = {"start": right["start"], **others(args, settings, done, many)}
    conditions = {**KNN, **settings, "k_nn_references": many, "evaluations": done[0][0]["evaluations"],
                  "minutes": [meta["seconds"] / 60 for meta, _ in done], "rounds": [meta["rounds"] for meta, _ in done]}
    for cut, part in CUTS.items():
        if not right["evolved"][0, part].size:
            continue
        values = {name: 100 * found[:, part].mean(axis=1) for name, found in right.items()}
        conditions[cut] = {**{f"{name}_{what}": call(found) for name, found in values.items()
                              for what, call in (("mean", np.mean), ("std", spread))},
                           "mcnemar_p": {other: [mcnemar(a[part], b[part]) for a, b in zip(found, right["evolved"])]
                                         for other, found in against.items()}}
        tqdm.write(f"{settings['method']}{', deskewed' * settings['deskew']}, {many} references, {cut}: start "
                   f"{values['start'].mean():.2f}, evolved {values['evolved'].mean():.2f} "
                   f"{np.round(values['evolved'], 2)}")
    return conditions


def others(args, settings, done, many):
    """What else --work holds of the same seeds: other methods with these settings, and the baselines' k-NN.

    name -> bool (seeds, n), whether each test image was classified rightly; "random" are random kernels, "search" is
    random search.
    """
    seeds = [meta["seed"] for meta, _ in done]
    found = {bank: right for bank in BANKS if (right := kept(args.work, bank, settings["deskew"], many,
                                                             seeds)) is not None}
    for method in {"cma", "pso", "random"} - {settings["method"]}:
        files = [args.work / f"{name_of({**settings, 'method': method})}-{seed}" for seed in seeds]
        if all(file.exists() for file in files):
            right = [load_container(file, "knn-evolved")[1][f"evolved.{many}"] for file in files]
            found["search" if method == "random" else method] = np.stack(right)
    return dict(sorted(found.items()))


def draw_fitness(path, metas):
    """What the searches gain, one filter's after the other's; a line a seed.

    Each search asks other queries, some of which are harder: only gains over its own first generation add up.
    """
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for meta in metas:
        best = np.array(meta["curve"])[:, 0].reshape(-1, meta["settings"]["generations"])
        gains = best - best[:, :1]
        axes.plot((gains + (gains[:, -1].cumsum() - gains[:, -1])[:, None]).ravel(), label=f"seed {meta['seed']}")
    axes.set_xlabel("generation, filter after filter")
    axes.set_ylabel({"nca": "mean log-probability", "accuracy": "accuracy"}[metas[0]["settings"]["fitness"]]
                    + " gained, best of each search")
    axes.legend(fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")


def draw_kernels(path, start, found):
    """Both layers before and after: conv1's kernels, and conv2's as mosaics of their 32 channels."""
    figure = Figure(figsize=(12, 8), layout="constrained")
    for axes, (title, conv) in zip(figure.subplots(2, 2).ravel(), (
            ("conv1 before", start.conv1), ("conv2 before", start.conv2),
            ("conv1 after", found.conv1), ("conv2 after", found.conv2))):
        tiles = np.pad(conv, ((0, 0), (0, 0), (0, 1), (0, 1)))  # (filters, channels, 4, 4)
        filters, channels = conv.shape[:2]
        wide = 8 if channels > 1 else 1
        picture = tiles.reshape(filters // 8, 8, channels // wide, wide, 4, 4).transpose(0, 2, 4, 1, 3, 5)
        largest = np.abs(conv).max()
        axes.imshow(picture.reshape(filters // 8 * channels // wide * 4, -1), cmap="RdBu_r", vmin=-largest,
                    vmax=largest)
        axes.set_title(title, loc="left", fontsize="small")
        axes.set_axis_off()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png")

"""Evolution of convolution kernels for a k-NN classifier, with DEAP; no gradient of the network is taken.

Serial: filter by filter, layer by layer; each filter's best is plugged in before the next one's search. Parallel: all
filters of a layer are searched against the kernels as they were, then plugged in together, and the joint result is
scored and refused when it is worse. Layer: all of a layer's numbers are one individual (method "sepcma"; the full
covariance of 18,496 numbers cannot be held, see mxelm.knn_slicing.evolution.strategies).
Source: Radu, slides on evolutionary algorithms and CNNs, k-NN slicing, experiments.
"""
from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from deap import base, creator, tools
from tqdm import tqdm

from mxelm.containers import array_digest, load_container, require_same, save_container, understood
from mxelm.errors import FileError, InputError, require_choice, require_whole
from mxelm.files import remove_leftovers, require_writable
from mxelm.knn_slicing.evolution import strategies
from mxelm.knn_slicing.evolution.candidates import LAYERS, Task, Weights, layer_of, plugged, vector_of, weights_of
from mxelm.runtime import blas_threads

if TYPE_CHECKING:
    from mxelm.knn_slicing.evolution.fitness import KernelFitness
    from mxelm.knn_slicing.kernels import Kernels

log = logging.getLogger(__name__)
KIND = "knn-evolution"
MODES = ("serial", "parallel", "layer")
BATCH = 96  # candidates a task, whoever computes it: another number could change the last bit


@dataclass(frozen=True)
class Plan:
    """What a run is, beside its images and kernels; see `evolve`."""

    method: str = "cma"
    mode: str = "serial"
    layers: tuple = ("conv2",)
    filters: int = None  # the first so many of each layer; all by default
    generations: int = 8
    population: int = 20
    sigma: float = 0.3
    sweeps: int = 1
    n_queries: int = None
    seed: int = 0

    def __post_init__(self) -> None:
        layers = (self.layers,) if isinstance(self.layers, str) else self.layers
        object.__setattr__(self, "layers", tuple(sorted(layers)))  # conv1 before conv2
        for name in ("filters", "generations", "population", "sweeps", "n_queries", "seed"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, require_whole(name, value, int(name != "seed")))
        require_choice("search method", self.method, strategies.METHODS)
        require_choice("mode", self.mode, MODES)
        if not self.layers or set(self.layers) - set(LAYERS) or len(set(self.layers)) < len(self.layers):
            raise InputError(f"layers are {', '.join(LAYERS)}, each at most once; got {', '.join(self.layers)}")
        if self.population < 4 or not self.sigma > 0:
            raise InputError(f"a run needs a population of 4 or more and sigma above 0; got {self.population} and "
                             f"{self.sigma}")
        if self.mode == "layer" and self.method == "cma":
            raise InputError("a full covariance matrix of a whole layer cannot be held (2.74 GB for conv2, DEAP holds "
                             "three): use sepcma")

    def stages(self, weights: Weights) -> list[tuple]:
        """(layer, sweep, filters searched at once) in order; filter None is the whole layer."""
        found, most = [], max(len(layer_of(weights, layer)[0]) for layer in self.layers)
        if self.filters is not None and self.filters > most:
            raise InputError(f"the first {self.filters} filters were asked for, but there are {most}")
        for layer in self.layers:
            filters = tuple(range(len(layer_of(weights, layer)[0]))[:self.filters])
            together = {"serial": [(f,) for f in filters], "parallel": [filters], "layer": [(None,)]}[self.mode]
            found += [(layer, sweep, part) for sweep in range(self.sweeps) for part in together]
        return found


@dataclass
class Evolution:
    """What a run found. kernels: of the type given. logbook: DEAP's, a record for each search and generation.

    rounds: a dict for each sweep of a layer whose joint result was scored: layer, sweep, before, after, accepted.
    seconds: wall time of all generations, those before a resumption too.
    """

    kernels: object
    logbook: tools.Logbook
    rounds: list
    evaluations: int
    seconds: float


def evolve(kernels: Kernels, fitness: KernelFitness, queries: np.ndarray, *, validation: np.ndarray | None = None,
           checkpoint: str | os.PathLike | None = None, resume: bool = False, map: Callable = map,
           progress: bool = False, **plan: Any) -> Evolution:
    """Search better kernels than `kernels` by `fitness` (a KernelFitness, which holds the training images).

    queries: indices of its images; `n_queries` of them are drawn anew for each search (all, where None).
    validation: indices of further images: after each sweep over a layer the joint result is kept only if its accuracy
        on them is no worse than before. Without it, parallel mode scores by the fitness on the search's queries.
    plan: method, mode ("serial", "parallel", "layer"), layers (conv1 before conv2), filters (the first so many),
        generations and population of each search, sigma (of the start, in standard deviations of the filter's
        weights), sweeps over each layer, n_queries, seed.
    checkpoint: path, written after every generation; resume: go on from it if it is there, to the same result bit
        for bit. map: applies a function to a list of tasks, in order: Python's own, or Processes of
        mxelm.knn_slicing.evolution.workers, with the same result.
    Raises InputError for a plan that cannot be run, FileError for a checkpoint that exists, is damaged, or of another
    run.
    """
    run = _Run(kernels, fitness, queries, validation, Plan(**plan), map)
    with blas_threads(1):  # the bits of a decomposition may depend on their number, when resuming too
        if checkpoint:
            _take_up(run, checkpoint, resume)
        done = run.stage * run.plan.generations + run.generation
        total = len(run.stages) * run.plan.generations
        with tqdm(total=total, initial=done, desc=run.plan.method, disable=not progress) as bar:
            while run.stage < len(run.stages):
                run.advance()
                if checkpoint:
                    run.save(checkpoint)
                bar.update()
                bar.set_postfix(best=f"{run.best:.4f}", where=run.where, refresh=False)
    result = dataclasses.replace(kernels, **run.weights._asdict())
    return Evolution(result, run.logbook, run.rounds, run.evaluations, run.seconds)


def _take_up(run, checkpoint, resume):
    """Go on from the checkpoint where there is one."""
    require_writable(checkpoint)
    if Path(checkpoint).exists():
        if not resume:
            raise FileError(f"{checkpoint} exists: go on from it with resume=True (--resume), or remove it")
        remove_leftovers(checkpoint)
        with understood(checkpoint):
            run.load(checkpoint)
        log.info("resumed %s at stage %d, generation %d", checkpoint, run.stage, run.generation)


@dataclass
class _Search:
    """One search under way: its strategy, DEAP's way; the best so far and the fitness it started from."""

    filter: int
    strategy: strategies.Strategy
    start: np.ndarray
    started_at: float = None
    hall: tools.HallOfFame = field(default_factory=lambda: tools.HallOfFame(1, similar=np.array_equal))

    def __post_init__(self):
        self.toolbox = base.Toolbox()
        self.toolbox.register("generate", self.strategy.generate, creator.KernelIndividual)
        self.toolbox.register("update", self.strategy.update)

    def admit(self, vector, value):
        """Put a vector with its fitness into the hall of fame."""
        individual = creator.KernelIndividual(vector)
        individual.fitness.values = (value,)
        self.hall.update([individual])


class _Run:
    """The state of a run, which a checkpoint holds whole between two generations."""

    def __init__(self, kernels, fitness, queries, validation, plan, map):
        self.plan, self.fitness, self.pool = plan, fitness, fitness.indices_of(queries, "queries")
        self.validation = None if validation is None else fitness.indices_of(validation, "validation images")
        if plan.n_queries is not None and not 1 <= plan.n_queries <= len(self.pool):
            raise InputError(f"{plan.n_queries} queries cannot be drawn from {len(self.pool)}")
        if validation is not None and set(self.validation.tolist()) & set(self.pool.tolist()):
            raise InputError("validation images are among the fitness queries: keep them apart")
        self.weights = self.round_start = weights_of(kernels)
        self.stages = plan.stages(self.weights)
        self.stage = self.generation = self.evaluations = 0
        self.seconds = 0.0
        self.searches, self.rounds, self.tau, self.best = [], [], None, None
        self.logbook = tools.Logbook()
        self.logbook.header = ["layer", "sweep", "filter", "generation", "nevals", "mean", "std", "max", "best"]
        self.statistics = tools.Statistics(lambda individual: individual.fitness.values[0])
        for name in ("mean", "std", "max"):
            self.statistics.register(name, lambda values, name=name: float(getattr(np, name)(values)))
        self.toolbox = base.Toolbox()
        self.toolbox.register("evaluate", fitness.evaluate)
        self.toolbox.register("map", map)
        arrays = (fitness.images, fitness.labels, fitness.references, self.pool)
        known = json.loads(json.dumps(dataclasses.asdict(plan)))  # as a checkpoint will give it back
        self.identity = {**known, "start kernels": array_digest(*self.weights), "images": array_digest(*arrays),
                         "validation": None if validation is None else array_digest(self.validation),
                         **{name: getattr(fitness, name) for name in ("kind", "metric", "k", "listed", "conv1")}}
        if fitness.kind == "nca":
            self.identity["temperature"] = fitness.TAU

    @property
    def where(self):
        """The layer, and the filter if it is one, searched last, in words."""
        layer, sweep, filters = self.stages[min(self.stage, len(self.stages) - 1)]
        return layer if len(filters) > 1 or filters[0] is None else f"{layer}[{filters[0]}]"

    def advance(self):
        """One generation of the stage's searches; at the last, plug in what they found."""
        began = time.perf_counter()
        if not self.generation:
            self._begin()
        self._generation()
        self.generation += 1
        if self.generation == self.plan.generations:
            self._finish()
            self.stage, self.generation, self.searches = self.stage + 1, 0, []
        self.seconds += time.perf_counter() - began

    def _begin(self):
        layer, sweep, filters = self.stages[self.stage]
        if self._first_of("layer"):
            self.tau = self.fitness.temperature(self.weights, layer, self._queries())
        if self._first_of("sweep"):
            self.round_start = self.weights
        self.searches = [self._search(filter) for filter in filters]

    def _first_of(self, what):
        """Whether the stage is the first of its layer, or of its sweep over a layer."""
        depth = {"layer": 1, "sweep": 2}[what]
        return not self.stage or self.stages[self.stage][:depth] != self.stages[self.stage - 1][:depth]

    def _search(self, filter):
        layer, sweep, _ = self.stages[self.stage]
        start = vector_of(self.weights, layer, filter)
        conv = layer_of(self.weights, layer)[0]
        spread = float(np.std(conv if filter is None else conv[filter])) or float(np.std(conv)) or 1.0
        rng = np.random.default_rng([self.plan.seed, LAYERS.index(layer), sweep, 0 if filter is None else filter + 1])
        strategy = strategies.make(self.plan.method, start, sigma=self.plan.sigma * spread,
                                   population=self.plan.population, rng=rng)
        return _Search(filter, strategy, start)

    def _queries(self):
        """The stage's fitness queries: a function of the seed and the stage alone."""
        if self.plan.n_queries is None:
            return self.pool
        rng = np.random.default_rng([self.plan.seed, 1 << 20, self.stage])
        return np.sort(rng.choice(self.pool, self.plan.n_queries, replace=False))

    def _generation(self):
        layer, sweep, _ = self.stages[self.stage]
        populations = [search.toolbox.generate() for search in self.searches]
        queries, tasks = self._queries(), []
        for search, population in zip(self.searches, populations):
            vectors = np.array([*([search.start] if search.started_at is None else []), *population])
            tasks.append([Task(self.weights, layer, search.filter, queries, self.tau, vectors[i:i + BATCH])
                          for i in range(0, len(vectors), BATCH)])
        found = iter(list(self.toolbox.map(self.toolbox.evaluate, [task for part in tasks for task in part])))
        for search, population, part in zip(self.searches, populations, tasks):
            values = np.concatenate([next(found) for _ in part])
            self.evaluations += len(values)
            if search.started_at is None:
                search.started_at, values = float(values[0]), values[1:]
                search.admit(search.start, search.started_at)
            for individual, value in zip(population, values):
                individual.fitness.values = (float(value),)
            search.hall.update(population)
            self.best = search.hall[0].fitness.values[0]
            self.logbook.record(layer=layer, sweep=sweep, filter=search.filter, generation=self.generation,
                                nevals=len(values), best=self.best, **self.statistics.compile(population))
            search.toolbox.update(population)

    def _finish(self):
        layer, sweep, _ = self.stages[self.stage]
        for search in self.searches:
            if search.hall[0].fitness.values[0] > search.started_at:
                self.weights = plugged(self.weights, layer, search.filter, np.asarray(search.hall[0]))
        last = self.stage + 1 == len(self.stages) or self.stages[self.stage + 1][:2] != (layer, sweep)
        if last and (self.validation is not None or self.plan.mode == "parallel"):
            before, after = self._judged(self.round_start, layer), self._judged(self.weights, layer)
            self.rounds.append({"layer": layer, "sweep": sweep, "before": before, "after": after,
                                "accepted": after >= before})
            log.info("%s, sweep %d: %.4f before, %.4f after", layer, sweep, before, after)
            if after < before:
                self.weights = self.round_start

    def _judged(self, weights, layer):
        if self.validation is not None:
            return self.fitness.score(weights, layer, self.validation, kind="accuracy")
        return self.fitness.score(weights, layer, self._queries(), kind=self.fitness.kind, tau=self.tau)

    def save(self, path):
        """Write the state, whole or not at all."""
        arrays = {f"{part}.{name}": array for part, weights in (("now", self.weights), ("round", self.round_start))
                  for name, array in weights._asdict().items()}
        searches = []
        for i, search in enumerate(self.searches):
            meta, state = search.strategy.state()
            arrays.update({f"{i}.{name}": array for name, array in state.items()})
            arrays[f"{i}.start"], arrays[f"{i}.best"] = search.start, np.asarray(search.hall[0])
            searches.append({"filter": search.filter, "started_at": search.started_at, "strategy": meta,
                             "best": search.hall[0].fitness.values[0]})
        save_container(path, KIND, {
            "identity": self.identity, "stage": self.stage, "generation": self.generation, "tau": self.tau,
            "evaluations": self.evaluations, "seconds": self.seconds, "rounds": self.rounds, "best": self.best,
            "logbook": list(self.logbook), "searches": searches}, arrays)

    def load(self, path):
        """Take over what `save` wrote; FileError for a file of another run."""
        meta, arrays = load_container(path, KIND)
        require_same(meta["identity"], self.identity, path)
        self.weights, self.round_start = (
            Weights(*(arrays.take(f"{part}.{name}", like.shape) for name, like in self.weights._asdict().items()))
            for part in ("now", "round"))
        for name in ("stage", "generation", "tau", "evaluations", "seconds", "rounds", "best"):
            setattr(self, name, meta[name])
        for record in meta["logbook"]:
            self.logbook.record(**record)
        for i, saved in enumerate(meta["searches"]):
            search = self._search(saved["filter"])
            shape = search.start.shape
            search.start = arrays.take(f"{i}.start", shape)
            search.strategy.restore(saved["strategy"], {
                name: arrays.take(f"{i}.{name}", np.shape(getattr(search.strategy, name)))
                for name in search.strategy.arrays})
            search.started_at = saved["started_at"]
            search.admit(arrays.take(f"{i}.best", shape), saved["best"])
            self.searches.append(search)

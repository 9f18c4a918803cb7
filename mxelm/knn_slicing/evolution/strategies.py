"""Search strategies with DEAP's generate/update interface: CMA-ES, separable CMA-ES, PSO, the talk's own formulas.

    strategy = make("cma", start, sigma, population, np.random.default_rng(0))
    individuals = strategy.generate(creator.KernelIndividual)   # evaluate them, set their fitness
    strategy.update(individuals)

Each owns its random generator (DEAP itself draws from NumPy's global one) and gives its whole state as arrays and
JSON-able values, so that a search can be stopped and resumed, bit for bit.

Why a separable CMA-ES: all of conv2 at once are N = 18,496 numbers. One full covariance matrix of them takes 2.74 GB
in float64, DEAP holds three (C, B, BD), and every update decomposes one: about N^3 operations, some 20 minutes. A
diagonal takes N numbers and N operations, learns (N + 2) / 3 times faster, and cannot learn a rotation.
Sources: Hansen, "The CMA Evolution Strategy: A Tutorial"; Ros and Hansen, "A Simple Modification in CMA-ES Achieving
Linear Time and Space Complexity" (PPSN 2008); Clerc and Kennedy, "The Particle Swarm" (2002); the talk's slides on
CMA-ES and PSO.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from deap import base, cma, creator

from mxelm.errors import InputError, require_choice, require_whole

METHODS = ("cma", "sepcma", "pso", "cma-talk", "pso-talk", "random")

if not hasattr(creator, "KernelFitness"):  # DEAP keeps classes made so in one module for the whole process
    creator.create("KernelFitness", base.Fitness, weights=(1.0,))
    creator.create("KernelIndividual", np.ndarray, fitness=creator.KernelFitness)


def make(method: Literal["cma", "sepcma", "pso", "cma-talk", "pso-talk", "random"], start: np.ndarray, *, sigma: float,
         population: int, rng: np.random.Generator) -> Strategy:
    """A strategy that maximises, started at `start` (float64 (N,)) with standard deviation `sigma` a coordinate.

    method: "cma" (DEAP's), "sepcma", "pso" (constriction), "cma-talk", "pso-talk" (the slides' formulas) or "random"
    (a new sample around the start each time). population: individuals a generation. rng: numpy Generator, which the
    strategy takes over. Raises InputError for an unknown method, a sigma not above 0 or a population below 4.
    """
    start = np.asarray(start, np.float64)
    require_choice("search method", method, METHODS)
    if start.ndim != 1 or not start.size or not np.isfinite(start).all():
        raise InputError(f"a search starts from a vector of finite numbers, got shape {start.shape}")
    require_whole("population", population, 4)
    if not (np.isfinite(sigma) and sigma > 0):
        raise InputError(f"a search needs sigma above 0, got {sigma}")
    if method == "cma":
        return CMA(start, sigma, population, rng)
    if method == "sepcma":
        return SeparableCMA(start, sigma, population, rng)
    if method == "cma-talk":
        return TalkCMA(start, sigma, population, rng)
    if method == "random":
        return RandomSearch(start, sigma, population, rng)
    chi, c = (1.0, 2.0) if method == "pso-talk" else (0.7298, 2.05)
    return PSO(start, sigma, population, rng, chi=chi, c=c)


class Strategy:
    """What all strategies share: the random generator, and a state named by attributes."""

    arrays = ()  # attributes that are arrays
    numbers = ()  # attributes that are plain numbers

    def state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """(meta, arrays): JSON-able dict and dict of arrays from which `restore` goes on, bit for bit."""
        meta = {name: float(getattr(self, name)) for name in self.numbers}
        return ({**meta, "random": self.rng.bit_generator.state},
                {name: np.array(getattr(self, name)) for name in self.arrays})

    def restore(self, meta: dict, arrays: dict[str, np.ndarray]) -> None:
        """Take over what `state` returned; the strategy was made by `make` with the same arguments."""
        for name in self.numbers:
            setattr(self, name, type(getattr(self, name))(meta[name]))
        for name in self.arrays:
            setattr(self, name, np.array(arrays[name]))
        self.rng.bit_generator.state = meta["random"]


class CMA(Strategy, cma.Strategy):
    """DEAP's cma.Strategy, drawing from its own generator."""

    arrays = ("centroid", "C", "pc", "ps")
    numbers = ("sigma", "update_count")

    def __init__(self, start: np.ndarray, sigma: float, population: int, rng: np.random.Generator) -> None:
        cma.Strategy.__init__(self, start, float(sigma), lambda_=population)
        self.rng = rng

    def generate(self, ind_init: Callable) -> list:
        """The next individuals, `ind_init` of each."""
        z = self.rng.standard_normal((self.lambda_, self.dim))
        return [ind_init(x) for x in self.centroid + self.sigma * (z @ self.BD.T)]

    def update(self, population: Sequence) -> None:
        """Learn from individuals whose fitness is set."""
        cma.Strategy.update(self, population)
        self.sigma = float(self.sigma)

    def restore(self, meta: dict, arrays: dict[str, np.ndarray]) -> None:
        super().restore(meta, arrays)
        self.diagD, self.B = np.linalg.eigh(self.C)  # as at the end of DEAP's update, which keeps them
        order = np.argsort(self.diagD)
        self.cond = self.diagD[order[-1]] / self.diagD[order[0]]
        self.diagD, self.B = self.diagD[order] ** 0.5, self.B[:, order]
        self.BD = self.B * self.diagD


class SeparableCMA(Strategy):
    """CMA-ES whose covariance is the diagonal `c`: O(N) memory and time. Source: Ros and Hansen, 2008."""

    arrays = ("centroid", "c", "pc", "ps")
    numbers = ("sigma", "update_count")

    def __init__(self, start: np.ndarray, sigma: float, population: int, rng: np.random.Generator) -> None:
        self.centroid, self.sigma, self.lambda_, self.rng = start.copy(), float(sigma), population, rng
        n = self.dim = len(start)
        self.update_count = 0
        self.c, self.pc, self.ps = np.ones(n), np.zeros(n), np.zeros(n)
        self.mu = population // 2
        weights = np.log(self.mu + 0.5) - np.log(np.arange(1, self.mu + 1))
        self.weights = weights / weights.sum()
        mueff = self.mueff = 1 / (self.weights ** 2).sum()
        self.cs, self.cc = (mueff + 2) / (n + mueff + 3), 4 / (n + 4)
        self.damps = 1 + 2 * max(0, np.sqrt((mueff - 1) / (n + 1)) - 1) + self.cs
        faster = (n + 2) / 3  # fewer numbers to learn
        self.ccov1 = min(1, faster * 2 / ((n + 1.3) ** 2 + mueff))
        self.ccovmu = min(1 - self.ccov1, faster * 2 * (mueff - 2 + 1 / mueff) / ((n + 2) ** 2 + mueff))
        self.chiN = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n ** 2))

    def generate(self, ind_init: Callable) -> list:
        """The next individuals, `ind_init` of each."""
        z = self.rng.standard_normal((self.lambda_, self.dim))
        return [ind_init(x) for x in self.centroid + self.sigma * np.sqrt(self.c) * z]

    def update(self, population: Sequence) -> None:
        """Learn from individuals whose fitness is set."""
        best = np.array(_ranked(population)[:self.mu])
        old, self.centroid = self.centroid, self.weights @ best
        y = (self.centroid - old) / self.sigma
        self.ps = (1 - self.cs) * self.ps + np.sqrt(self.cs * (2 - self.cs) * self.mueff) * y / np.sqrt(self.c)
        self.update_count += 1
        length = np.linalg.norm(self.ps) / self.chiN
        hsig = length / np.sqrt(1 - (1 - self.cs) ** (2 * self.update_count)) < 1.4 + 2 / (self.dim + 1)
        self.pc = (1 - self.cc) * self.pc + hsig * np.sqrt(self.cc * (2 - self.cc) * self.mueff) * y
        kept = 1 - self.ccov1 - self.ccovmu + (1 - hsig) * self.ccov1 * self.cc * (2 - self.cc)
        self.c = (kept * self.c + self.ccov1 * self.pc ** 2
                  + self.ccovmu * self.weights @ ((best - old) / self.sigma) ** 2)
        self.sigma = float(self.sigma * np.exp((length - 1) * self.cs / self.damps))


class TalkCMA(Strategy):
    """The slides' CMA-ES: plain mean of the N_best, their covariance about the OLD mean, no step size, no paths.

    A draw of N(mean, C) with C = A A^T is mean + A z, A (N, N_best) being (x_i - old mean) / sqrt(N_best): C itself is
    never formed. Its rank is N_best, so that from the second generation on the search stays in the span of the first
    generation's best. Source: the talk's slide on CMA-ES.
    """

    arrays = ("mean", "A")

    def __init__(self, start: np.ndarray, sigma: float, population: int, rng: np.random.Generator) -> None:
        self.mean, self.lambda_, self.rng, self.n_best = start.copy(), population, rng, population // 2
        self.sigma, self.A = sigma, np.zeros((len(start), 0))  # no columns: the first generation is isotropic

    def generate(self, ind_init: Callable) -> list:
        """The next individuals, `ind_init` of each."""
        if not self.A.shape[1]:
            steps = self.sigma * self.rng.standard_normal((self.lambda_, len(self.mean)))
        else:
            steps = self.rng.standard_normal((self.lambda_, self.n_best)) @ self.A.T
        return [ind_init(x) for x in self.mean + steps]

    def update(self, population: Sequence) -> None:
        """Learn from individuals whose fitness is set."""
        best = np.array(_ranked(population)[:self.n_best])
        self.A = (best - self.mean).T / np.sqrt(self.n_best)
        self.mean = best.mean(axis=0)


class PSO(Strategy):
    """Particle swarm, global best: v = chi (v + c r1 (own best - x) + c r2 (swarm's best - x)), x = x + v.

    chi: constriction, 0.7298 with c = 2.05 converges (Clerc and Kennedy); the slide prints the formula without it,
    which is chi = 1, c1 and c2 unnamed (2 here, as usual) and no inertia weight: such a swarm flies apart unless its
    speed is limited, so the speed limit of `limit` sigmas a coordinate holds for both.
    """

    arrays = ("x", "v", "own", "own_fitness")

    def __init__(self, start: np.ndarray, sigma: float, population: int, rng: np.random.Generator,
                 *, chi: float = 0.7298, c: float = 2.05, limit: float = 2.0) -> None:
        self.rng, self.chi, self.c, self.limit = rng, chi, c, limit * sigma
        shape = (population, len(start))
        self.x = start + sigma * rng.standard_normal(shape)
        self.x[0] = start
        self.v = sigma * rng.uniform(-1, 1, shape)
        self.own, self.own_fitness = self.x.copy(), np.full(population, -np.inf)

    def generate(self, ind_init: Callable) -> list:
        """The particles where they are, `ind_init` of each."""
        return [ind_init(x) for x in self.x]

    def update(self, population: Sequence) -> None:
        """Move the particles; `population` in the order in which `generate` gave it."""
        values = np.array([individual.fitness.values[0] for individual in population])
        better = values > self.own_fitness
        self.own[better], self.own_fitness[better] = self.x[better], values[better]
        best = self.own[self.own_fitness.argmax()]
        r1, r2 = self.rng.random((2, *self.x.shape))
        v = self.chi * (self.v + self.c * r1 * (self.own - self.x) + self.c * r2 * (best - self.x))
        self.v = np.clip(v, -self.limit, self.limit)
        self.x = self.x + self.v


class RandomSearch(Strategy):
    """The same number of samples around the start and nothing learned: what the others must beat."""

    def __init__(self, start: np.ndarray, sigma: float, population: int, rng: np.random.Generator) -> None:
        self.start, self.sigma, self.lambda_, self.rng = start.copy(), sigma, population, rng

    def generate(self, ind_init: Callable) -> list:
        """Samples of N(start, sigma^2), `ind_init` of each."""
        steps = self.rng.standard_normal((self.lambda_, len(self.start)))
        return [ind_init(x) for x in self.start + self.sigma * steps]

    def update(self, population: Sequence) -> None:
        """Nothing: each generation is drawn as the first was."""


def _ranked(population):
    return sorted(population, key=lambda individual: individual.fitness, reverse=True)

from . import banks, engine, evolution, kernels, networks
from .evolution.fitness import KernelFitness
from .evolution.search import evolve
from .kernels import Kernels
from .networks import network
from .sliced import SlicedClassifier

__all__ = ["KernelFitness", "Kernels", "SlicedClassifier", "banks", "engine", "evolution", "evolve", "kernels",
           "network", "networks"]

from . import backbones, data, files, fused, graphs, gunn, knn_slicing, neighbours, reporting, runtime, training
from .backbones.backbone import Backbone
from .data.dataset import Dataset
from .errors import EnvironmentProblem, FileError, InputError, MxelmError
from .fused.estimators import FusedELMClassifier, FusedELMRegressor
from .fused.row_estimators import ELMClassifier, ELMRegressor
from .knn_slicing.sliced import SlicedClassifier
from .preprocessing import Preprocessing

__all__ = ["Backbone", "Dataset", "ELMClassifier", "ELMRegressor", "EnvironmentProblem", "FileError",
           "FusedELMClassifier", "FusedELMRegressor", "InputError", "MxelmError", "Preprocessing", "SlicedClassifier",
           "backbones", "data", "files", "fused", "graphs", "gunn", "knn_slicing", "neighbours", "reporting",
           "runtime", "training"]

from . import (
           backbones,
           data,
           early_exit,
           feature_maps,
           files,
           fused,
           graphs,
           gunn,
           knn_slicing,
           neighbours,
           reporting,
           runtime,
           training,
)
from .backbones.backbone import Backbone
from .backbones.loading import load_backbone
from .data.dataset import Dataset
from .data.loading import load_data
from .early_exit.estimator import EarlyExitClassifier
from .errors import EnvironmentProblem, FileError, InputError, MxelmError
from .feature_maps.match import MatchingClassifier
from .fused.estimators import FusedELMClassifier, FusedELMRegressor
from .fused.row_estimators import ELMClassifier, ELMRegressor
from .knn_slicing.sliced import SlicedClassifier
from .preprocessing import Preprocessing

__all__ = ["Backbone", "Dataset", "ELMClassifier", "ELMRegressor", "EarlyExitClassifier", "EnvironmentProblem",
           "FileError", "FusedELMClassifier", "FusedELMRegressor", "InputError", "MatchingClassifier", "MxelmError",
           "Preprocessing", "SlicedClassifier", "backbones", "data", "early_exit", "feature_maps", "files", "fused",
           "graphs", "gunn", "knn_slicing", "load_backbone", "load_data",
           "neighbours", "reporting", "runtime", "training"]

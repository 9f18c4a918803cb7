from .dataset import Dataset
from .finding import fetch, find
from .known import KNOWN
from .loading import load

__all__ = ["Dataset", "KNOWN", "fetch", "find", "load"]

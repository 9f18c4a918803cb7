"""Images in: `load` gives one Dataset type for every format, with iterators for Module and for Gluon."""
from mxelm.data.dataset import Dataset
from mxelm.data.finding import fetch, find
from mxelm.data.known import KNOWN
from mxelm.data.loading import load

__all__ = ["Dataset", "KNOWN", "fetch", "find", "load"]

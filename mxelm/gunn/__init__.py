"""Paper 3: layers that update their channels gradually (GUNN), as one teaches them, and the same functions fast."""
from mxelm.gunn.fast import FastGunn2D
from mxelm.gunn.layer import Gunn2D, Sunn2D
from mxelm.gunn.networks import count_parameters, gunn15, original_gunn15, original_gunn18, save, summary
from mxelm.gunn.original import FastOriginalGunn, OriginalGunn, OriginalSunn

__all__ = ["FastGunn2D", "FastOriginalGunn", "Gunn2D", "OriginalGunn", "OriginalSunn", "Sunn2D", "count_parameters",
           "gunn15", "original_gunn15", "original_gunn18", "save",
           "summary"]

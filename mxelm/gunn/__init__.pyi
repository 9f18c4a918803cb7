from . import tasks
from .fast import FastGunn2D
from .layer import Gunn2D, Sunn2D
from .networks import gunn15, original_gunn15, original_gunn18, save, summary
from .original import FastOriginalGunn, OriginalGunn, OriginalSunn

__all__ = ["FastGunn2D", "FastOriginalGunn", "Gunn2D", "OriginalGunn", "OriginalSunn", "Sunn2D", "gunn15",
           "original_gunn15", "original_gunn18", "save", "summary", "tasks"]

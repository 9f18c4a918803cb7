from .cache import Cache, bytes_of, merge, write
from .gain import DoesNotPay, Gain
from .layers import conv_layers, filters_of, maps_of
from .likeness import Likeness, similar
from .match import Decisions, MatchingClassifier
from .networks import network
from .relearn import map_images
from .search import distance
from .view import contact_sheet, dead, filters_figure, maps_figure

__all__ = ["Cache", "Decisions", "DoesNotPay", "Gain", "Likeness", "MatchingClassifier", "bytes_of", "contact_sheet",
           "conv_layers", "dead", "distance", "filters_figure", "filters_of", "map_images", "maps_figure", "maps_of",
           "merge", "network", "similar", "write"]

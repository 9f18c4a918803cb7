"""Paper 5: feature maps seen, cached, matched and trained on (Anand, Bhupathiraju and Chandrala)."""
from mxelm.feature_maps.cache import Cache, merge, write
from mxelm.feature_maps.layers import conv_layers, filters_of, maps_of
from mxelm.feature_maps.match import MatchingClassifier
from mxelm.feature_maps.networks import network
from mxelm.feature_maps.relearn import map_images
from mxelm.feature_maps.similar import similar
from mxelm.feature_maps.view import contact_sheet, dead, filters_figure, maps_figure

__all__ = ["Cache", "MatchingClassifier", "contact_sheet", "conv_layers", "dead", "filters_figure", "filters_of",
           "map_images", "maps_figure", "maps_of", "merge", "network", "similar", "write"]

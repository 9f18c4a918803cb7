from . import backbone, checkpoint, efficientnet_lite, features, fetching, gluon, inception21k, loading, manifest
from .backbone import Backbone
from .checkpoint import load_checkpoint, save_checkpoint
from .features import features_of
from .fetching import fetch
from .gluon import from_block, zoo
from .loading import load
from .verification import verify

__all__ = ["Backbone", "backbone", "checkpoint", "efficientnet_lite", "features", "features_of", "fetch", "fetching",
           "from_block", "gluon", "inception21k", "load", "load_checkpoint", "loading", "manifest", "save_checkpoint",
           "verify", "zoo"]

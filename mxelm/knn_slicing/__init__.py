"""Paper 2: a k-NN classifier in place of a network's dense layers, its kernels evolved (Radu).

The small engine, which lives here too, runs without MXNet.
"""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

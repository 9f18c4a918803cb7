"""Gluon networks trained: one loop, its checkpoints, the labels it takes, the recipes that papers share."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

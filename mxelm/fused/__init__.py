"""Paper 1: an Extreme Learning Machine fused into a pre-trained network (Arcada)."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

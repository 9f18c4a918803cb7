"""Paper 4: sequential analysis: a network that answers at the first of its exits that is sure (Savchenko)."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

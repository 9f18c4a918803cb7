"""Paper 3: layers that update their channels gradually (GUNN), as one teaches them, and the same functions fast."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

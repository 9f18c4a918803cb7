"""Images in: `load` gives one Dataset type for every format, with iterators for Module and for Gluon."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

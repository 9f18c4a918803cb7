"""mxelm: five works on what to do with a convolutional network's features, rebuilt in Apache MXNet 1.9.1.

Importing mxelm is cheap: MXNet and GluonCV load when a name that needs them is first used. What each package offers
stands in the `.pyi` file beside its `__init__.py`, for editors and for the lazy import alike.
"""
import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

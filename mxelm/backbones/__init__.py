"""Networks in: checkpoints of any age, known weights, the Inception21k symbol, GluonCV's zoo and any HybridBlock."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

"""Paper 5: feature maps seen, cached, matched and trained on (Anand, Bhupathiraju and Chandrala)."""
import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

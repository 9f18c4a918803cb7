"""What goes wrong with files, made to happen."""
import resource
from contextlib import contextmanager


@contextmanager
def full_disk(size):
    """No file of this process may grow beyond `size` bytes: writes fail as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

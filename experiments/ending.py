"""How the scripts end when something is wrong: in one sentence."""
import contextlib
import sys
from pathlib import Path

from mxelm.errors import MxelmError


@contextlib.contextmanager
def in_sentences(resuming="nothing was written"):
    """A context that ends the script: code 1 with what mxelm found wrong, code 130 after ctrl-c with how to go on."""
    script = Path(sys.argv[0]).name
    try:
        yield
    except MxelmError as error:
        sys.exit(f"{script}: {error}")
    except KeyboardInterrupt:
        print(f"{script}: interrupted; {resuming}", file=sys.stderr)
        sys.exit(130)

"""`python -m mxelm` is the command `mxelm`."""
from mxelm.cli import main

raise SystemExit(main())

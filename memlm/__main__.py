"""`python -m memlm` is the same as the command `memlm`."""

from memlm.cli import main

raise SystemExit(main())

"""`python -m pd_trl` is the `pd-trl` command."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m ltx_models``: the command line."""

import sys

from ltx_models.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m mlip`: the command line of one interpreter, whatever is on the PATH."""

import sys

from mlip.cli import main

if __name__ == "__main__":
    sys.exit(main())

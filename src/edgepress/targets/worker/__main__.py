"""`python -m edgepress.targets.worker`: answer requests on stdin until it ends."""

import sys

from edgepress.targets.worker.serve import main

if __name__ == "__main__":
    sys.exit(main())

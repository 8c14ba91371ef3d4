"""python -m enhancer"""

import sys

from enhancer.cli import main

if __name__ == "__main__":
    sys.exit(main())

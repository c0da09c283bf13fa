"""``python -m lunet`` is the command ``lunet``."""

import sys

from lunet.cli import main

sys.exit(main())

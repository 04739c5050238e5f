"""``python -m hsplit_flower.cli`` is ``hsplit``."""

import sys

from . import main

sys.exit(main())

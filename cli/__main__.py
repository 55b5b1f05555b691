"""python -m cli: the same as `guardrail`, where nothing is installed."""

import sys

from cli import main

sys.exit(main())

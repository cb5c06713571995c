"""`python -m peftlib.batch`: see `peftlib.batch.front`."""

import sys

from peftlib.batch.front import main

sys.exit(main())

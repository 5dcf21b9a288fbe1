"""The benchmarks: a folder each, found by `registry`.

`$REMEM_BENCHMARKS` names folders (separated as in `$PATH`) that hold more of them.
"""

import os

VARIABLE = "REMEM_BENCHMARKS"
__path__ = [*__path__, *filter(None, os.environ.get(VARIABLE, "").split(os.pathsep))]

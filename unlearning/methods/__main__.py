"""python -m unlearning.methods > docs/methods.md"""

import sys

from unlearning.catalogue import page

if __name__ == "__main__":
    sys.stdout.write(page())

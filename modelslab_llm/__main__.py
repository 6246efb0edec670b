"""Run the command line as `python -m modelslab_llm`; all of it is in `modelslab_llm.cli`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

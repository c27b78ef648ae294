"""`python -m tests.throwaway check`: can this machine run a throwaway Gentoo?"""

import sys

from tests.throwaway.machine import main

sys.exit(main(sys.argv[1:]))

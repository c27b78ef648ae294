"""A throwaway Gentoo: real Portage in a folder, as many as wanted side by side, for tests and the demo.

    with Gentoo.create(home, "alice", settings={"P2PBIN_TRUST": "3"}) as alice:
        alice.emerge("app-misc/hello")
        print(alice.run(["hello"]).output)

All Gentoos of one home see themselves at one path, each in mount namespaces of its own, so that what they build is equal.
Nothing outside their home is changed and nothing is downloaded.
"""

from tests.throwaway.gentoo import Finished, Gentoo, Running
from tests.throwaway.machine import check_machine, missing_programs

__all__ = ["Finished", "Gentoo", "Running", "check_machine", "missing_programs"]

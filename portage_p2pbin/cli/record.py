"""`p2pbin-record`: run by Portage, from etc/portage/bashrc, for each source build.

Prints nothing when all is well, and one line when the build cannot be published.  The merge goes on in any case.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from portage_p2pbin.cli.running import run
from portage_p2pbin.gentoo.record import record_build
from portage_p2pbin.kernel.errors import ExitCode

_DESCRIPTION = """\
Record the source build that is being merged, so that `p2pbin publish` may share it.

Portage runs this; put it into /etc/portage/bashrc with:

    cat /usr/share/portage-p2pbin/bashrc >> /etc/portage/bashrc
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Record the build whose phase this process belongs to.  Return the exit code."""
    parser = argparse.ArgumentParser("p2pbin-record", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--debug", action="store_true", help="show where a failure comes from")
    options = parser.parse_args(arguments)

    def record() -> ExitCode:
        record_build(os.environ)
        return ExitCode.DONE

    return run(record, debug=options.debug)


if __name__ == "__main__":
    sys.exit(main())

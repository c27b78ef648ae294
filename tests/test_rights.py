"""Root, and who is only called so."""

import os
import subprocess
import sys
from pathlib import Path

from portage_p2pbin.rights import is_root

PROJECT = Path(__file__).parents[1]


def test_root_has_others_to_become_and_an_ordinary_user_has_not():
    assert is_root() == (os.geteuid() == 0)


def test_root_of_a_user_namespace_of_its_own_is_an_ordinary_user():
    program = "import os; from portage_p2pbin.rights import is_root; print(os.geteuid(), is_root())"
    asked = ["unshare", "--user", "--map-root-user", sys.executable, "-c", program]
    assert subprocess.run(asked, capture_output=True, text=True, check=True, cwd=PROJECT).stdout == "0 False\n"

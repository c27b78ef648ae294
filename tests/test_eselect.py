import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from portage_p2pbin.cli.levels import MEANINGS
from portage_p2pbin.kernel.model import Level

MODULE = Path(__file__).parents[1] / "etc/eselect/p2pbin.eselect"
LIBRARY = Path(__file__).parent / "eselect_library.bash"


@pytest.fixture
def make_conf(tmp_path):
    """The make.conf of a Gentoo in a folder."""
    path = tmp_path / "etc/portage/make.conf"
    path.parent.mkdir(parents=True)
    path.write_text('CFLAGS="-O2"\n')
    return path


def eselect(make_conf, action, *arguments):
    """Run an action of the module as eselect does: its library first, then the module, then do_ACTION."""
    script = 'source "$1"; source "$2"; shift 2; action=$1; shift; "do_${action}" "$@"'
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORTAGE_OVERRIDE_EPREFIX": str(make_conf.parents[2]),
    }
    bash = shutil.which("bash")
    return subprocess.run(
        [bash, "-c", script, "eselect", LIBRARY, MODULE, action, *arguments], env=environment, capture_output=True, text=True, check=False
    )


def test_list_marks_the_current_level(make_conf):
    make_conf.write_text('P2PBIN_TRUST="3"\n')
    lines = eselect(make_conf, "list").stdout.splitlines()
    assert len(lines) == 7
    assert [line for line in lines if line.endswith("*")] == [f"  [3]   {MEANINGS[Level(3)]} *"]


def test_list_says_what_the_levels_mean_as_p2pbin_does(make_conf):
    lines = eselect(make_conf, "list").stdout.splitlines()[1:]
    assert lines == [f"  [{level:d}]   {MEANINGS[level]}" for level in Level]


@pytest.mark.parametrize(("text", "shown"), [('P2PBIN_TRUST="2"\n', "2"), ("", "(unset)")])
def test_show_the_current_level(make_conf, text, shown):
    make_conf.write_text(text)
    assert eselect(make_conf, "show").stdout.splitlines()[1].strip() == shown


def test_set_changes_make_conf(make_conf):
    done = eselect(make_conf, "set", "4")
    assert done.returncode == 0
    assert make_conf.read_text() == 'CFLAGS="-O2"\nP2PBIN_TRUST="4"\n'


@pytest.mark.parametrize(("arguments", "said"), [((), "what to set"), (("3", "4"), "Too many"), (("7",), "was not changed")])
def test_a_wrong_set_changes_nothing_and_says_so(make_conf, arguments, said):
    done = eselect(make_conf, "set", *arguments)
    assert done.returncode == 249
    assert said in done.stderr
    assert make_conf.read_text() == 'CFLAGS="-O2"\n'


def test_a_threshold_that_is_none_is_an_error(make_conf):
    make_conf.write_text('P2PBIN_TRUST="abc"\n')
    for action in ("list", "show"):
        done = eselect(make_conf, action)
        assert done.returncode == 249
        assert "'abc'" in done.stderr


def test_sourcing_the_module_does_nothing(make_conf):
    done = subprocess.run(["bash", "-c", 'source "$1"', "eselect", MODULE], env={}, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")

"""The lists of names, which belong to the version of the digest."""

import re
from pathlib import Path

import pytest

from portage_p2pbin.binpkg import environment_names as names

SPECIFICATION = Path(__file__).parents[1] / "docs/environment.rst"


@pytest.mark.parametrize("name", ["PER_EVENT", "BUILD_ONLY", "REFUSED_VARIABLES", "KEPT", "REFUSED_FUNCTIONS"])
def test_the_specification_has_the_lists(name):
    blocks = re.findall(r"(?m)(?:^    \S.*\n)+", SPECIFICATION.read_text())
    assert getattr(names, name) in [frozenset(block.encode().split()) for block in blocks]


def test_the_lists_do_not_contradict_each_other():
    lists = (names.PER_EVENT, names.BUILD_ONLY, names.REFUSED_VARIABLES, names.KEPT)
    assert len(frozenset.union(*lists)) == sum(map(len, lists))

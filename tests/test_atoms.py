import pytest

from portage_p2pbin.gentoo.atoms import category, matching
from portage_p2pbin.kernel.errors import SettingsError
from portage_p2pbin.kernel.model import Cpv

CPVS = [Cpv("app-misc/hello-1.0"), Cpv("app-misc/hello-1.1"), Cpv("app-misc/hello-world-1.0"), Cpv("app-misc/hello-1.0")]


@pytest.mark.parametrize(
    ("atom", "found"),
    [
        ("app-misc/hello", CPVS[:2]),
        ("=app-misc/hello-1.0", CPVS[:1]),
        ("app-misc/hello-1.0", CPVS[:1]),
        (">app-misc/hello-1.0", CPVS[1:2]),
        ("app-misc/hello:0::gentoo", CPVS[:2]),
        ("app-misc/hello-world", CPVS[2:3]),
        ("app-misc/other", []),
    ],
)
def test_an_atom_means_what_it_means_to_portage(atom, found):
    assert matching(atom, CPVS) == found


@pytest.mark.parametrize("atom", ["hello", "", "app-misc/", "!app-misc/hello", "app-misc/hello\n", "=app-misc/hello", "../x/y"])
def test_what_is_no_package_is_said(atom):
    with pytest.raises(SettingsError, match="is no package"):
        matching(atom, CPVS)


def test_the_category_of_an_atom():
    assert category(">=app-misc/hello-1") == "app-misc"
    assert category("app-misc/hello-1.0") == "app-misc"

import pytest

from portage_p2pbin.kernel.errors import DecodeError
from portage_p2pbin.kernel.model import Channel
from portage_p2pbin.kernel.targets import page_category, page_file

CHANNEL = Channel("amd64-test")


def test_a_page_has_one_path():
    assert page_file(CHANNEL, "dev-c++") == "index/amd64-test/dev-c++.json"
    assert page_category(CHANNEL, "index/amd64-test/dev-c++.json") == "dev-c++"


@pytest.mark.parametrize("category", ["", "..", ".hidden", "a/b", "a\n", "é", "a" * 101])
def test_no_path_is_made_of_what_is_no_category(category):
    with pytest.raises(DecodeError, match="no category"):
        page_file(CHANNEL, category)


@pytest.mark.parametrize(
    "path",
    [
        "index/other/app-misc.json",
        "app-misc",
        "app-misc.json",
        "index/amd64-test/app-misc",
        "index/amd64-test/a/b.json",
        "index/amd64-test/../roster.json",
        "index/amd64-test/.json",
        "roster.json",
    ],
)
def test_other_paths_are_no_pages(path):
    assert page_category(CHANNEL, path) is None

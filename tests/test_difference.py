from dataclasses import replace

import pytest

from portage_p2pbin.kernel.definition import Dependency, Slot
from portage_p2pbin.kernel.difference import Difference, environment_differences, request_differences
from portage_p2pbin.kernel.model import Cpv, Sha256
from tests.makers import DEFINITION, REQUEST


def test_equal_requests_do_not_differ():
    assert request_differences(REQUEST, replace(REQUEST)) == ()


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        ({"eapi": "7"}, [Difference("eapi", "8", "7")]),
        ({"flags": {"CFLAGS": "-O3"}}, [Difference("flags.CFLAGS", "-O2 -pipe", "-O3")]),
        ({"flags": {}}, [Difference("flags.CFLAGS", "-O2 -pipe", "")]),
        ({"use": ("nls", "static")}, [Difference("use", "", "static")]),
        ({"use": ("doc",)}, [Difference("use", "nls", "doc")]),
        ({"sources": REQUEST.sources | {"ebuild": Sha256("0" * 64)}}, [Difference("sources.ebuild", "e" * 64, "0" * 64)]),
        ({"sources": REQUEST.sources | {"files/a": Sha256("0" * 64)}}, [Difference("sources.files/a", "", "0" * 64)]),
    ],
)
def test_the_field_that_differs_is_named(change, differences):
    assert list(request_differences(REQUEST, replace(REQUEST, **change))) == differences


def test_a_list_in_another_order_is_shown_whole():
    here, there = replace(REQUEST, install_mask=("/a", "/b")), replace(REQUEST, install_mask=("/b", "/a"))
    assert list(request_differences(here, there)) == [Difference("installMask", "/a /b", "/b /a")]


def test_every_field_of_a_request_can_keep_builds_apart():
    changed = replace(
        REQUEST,
        cpv=Cpv("a/b-1"), repository="other", eapi="7", slot="1", use=(), chost="x", cbuild="x", elibc="x", abi="x", eprefix="/x",
        flags={}, features=(), install_mask=("x",), build_path="/x", sources={},
    )  # fmt: skip
    fields = {difference.field.partition(".")[0] for difference in request_differences(REQUEST, changed)}
    assert fields == set(REQUEST.as_json())


def test_packages_and_programs_of_the_environment_are_compared():
    ring = Dependency(Cpv("dev-libs/ring-1.3"), Slot("0/1"), ("static",), Sha256("1" * 64))
    there = replace(DEFINITION, dependencies=(ring,), programs={"cc": Sha256("3" * 64)})
    said = f"slot 0/1, USE static, {'1' * 64}"
    assert list(environment_differences(DEFINITION, there)) == [
        Difference("dependency dev-libs/ring-1.2", said, ""),
        Difference("dependency dev-libs/ring-1.3", "", said),
        Difference("program cc", "2" * 64, "3" * 64),
    ]
    assert environment_differences(DEFINITION, DEFINITION) == ()

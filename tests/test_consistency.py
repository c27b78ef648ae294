from dataclasses import replace

import pytest

from portage_p2pbin.kernel.consistency import check_definition, check_entry
from portage_p2pbin.kernel.errors import RefusedError
from portage_p2pbin.kernel.index import METADATA_KEYS
from portage_p2pbin.kernel.model import Sha256
from tests.makers import DEFINITION, REQUEST

METADATA = {
    "CATEGORY": "app-misc",
    "PF": "hello-2.10-r1",
    "repository": "test",
    "EAPI": "8",
    "SLOT": "0",
    "CHOST": "x86_64-pc-linux-gnu",
    "CBUILD": "x86_64-pc-linux-gnu",
    "CFLAGS": "-O2 -pipe",
    "USE": "abi_x86_64 amd64 nls",
}
EBUILD = Sha256("e" * 64)


def test_a_package_that_is_what_was_built_passes():
    check_definition(DEFINITION, METADATA, EBUILD)
    check_entry(REQUEST.cpv, {"SLOT": "0", "RDEPEND": "a b"}, {"SLOT": "0", "RDEPEND": "a\n\tb"})


@pytest.mark.parametrize("name", [name for name in METADATA if name not in ("CFLAGS", "USE")])
def test_each_key_that_differs_is_refused(name):
    with pytest.raises(RefusedError, match=f"P9.8: {name} is"):
        check_definition(DEFINITION, METADATA | {name: "other"}, EBUILD)


@pytest.mark.parametrize("name", ["CATEGORY", "PF", "repository", "EAPI", "SLOT"])
def test_each_key_that_portage_always_writes_must_be_there(name):
    with pytest.raises(RefusedError, match=f"P9.8: {name} is"):
        check_definition(DEFINITION, {key: value for key, value in METADATA.items() if key != name}, EBUILD)


def test_a_use_flag_that_is_missing_is_refused():
    with pytest.raises(RefusedError, match="USE"):
        check_definition(DEFINITION, METADATA | {"USE": "amd64"}, EBUILD)


def test_another_ebuild_is_refused():
    with pytest.raises(RefusedError, match="ebuild"):
        check_definition(DEFINITION, METADATA, Sha256("0" * 64))


@pytest.mark.parametrize("metadata", [{"SLOT": "1"}, {}])
def test_an_entry_that_says_something_else_is_refused(metadata):
    with pytest.raises(RefusedError, match="SLOT"):
        check_entry(REQUEST.cpv, {"SLOT": "0"}, metadata)


@pytest.mark.parametrize("name", METADATA_KEYS)
def test_an_entry_that_leaves_something_out_is_refused(name):
    with pytest.raises(RefusedError, match=rf"P9\.8: {name} is 'x' in the package, but '' was announced"):
        check_entry(REQUEST.cpv, {"SLOT": "0"} if name != "SLOT" else {}, {"SLOT": "0", name: "x"})


def with_flags(**flags):
    return replace(DEFINITION, request=replace(REQUEST, flags=flags))


MACHINE = "-O2 -march=armv7-a -mcpu=cortex-a8 -mtune=cortex-a8 -mabi=aapcs -mfpu=neon -mfloat-abi=hard"


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param({"CFLAGS": MACHINE}, id="as asked for"),
        pytest.param({"CFLAGS": f"{MACHINE} -fno-strict-aliasing -std=gnu17 -DX=-march=x"}, id="words added"),
        pytest.param({"CFLAGS": "-O1"}, id="words filtered out"),
        pytest.param({"CFLAGS": ""}, id="all unset"),
        pytest.param({"LDFLAGS": f"-Wl,-O1 {MACHINE}", "CXXFLAGS": MACHINE}, id="words in another variable"),
    ],
)
def test_what_an_ebuild_makes_of_flags_passes(flags):
    check_definition(with_flags(CFLAGS=MACHINE, LDFLAGS="-Wl,-O1"), METADATA | flags, EBUILD)


@pytest.mark.parametrize("name", ["ADAFLAGS", "ASFLAGS", "CFLAGS", "CPPFLAGS", "CXXFLAGS", "FCFLAGS", "FFLAGS", "LDFLAGS", "RUSTFLAGS"])
@pytest.mark.parametrize("word", ["-march=native", "-mcpu=x", "-mtune=x", "-mabi=x", "-mfpu=x", "-mfloat-abi=soft"])
def test_a_package_for_another_machine_is_refused(name, word):
    with pytest.raises(RefusedError, match=f"P9.8: {name} is 'with {word}' in the package"):
        check_definition(with_flags(CFLAGS=MACHINE), METADATA | {"CFLAGS": "", name: f"{MACHINE}\t{word}"}, EBUILD)


@pytest.mark.parametrize("name", ["GOAMD64", "GOARM"])
def test_variables_that_are_one_value_are_compared_whole(name):
    check_definition(with_flags(**{name: "v1"}), METADATA | {name: "v1"}, EBUILD)
    with pytest.raises(RefusedError, match=f"P9.8: {name} is 'v3'"):
        check_definition(with_flags(**{name: "v1"}), METADATA | {name: "v3"}, EBUILD)

import pytest

from portage_p2pbin.gentoo.local_changes import HOOK, UNSAID, UNSAID_FEATURES, check_local_changes
from portage_p2pbin.kernel.errors import RefusedError
from tests.finished_build import HandMade


@pytest.fixture
def made(tmp_path):
    return HandMade(tmp_path)


def refused(made, reason):
    with pytest.raises(RefusedError, match=rf"app-misc/hello-2\.10-r1 refused by P1\.3: .*{reason}"):
        check_local_changes(made.build())


def test_a_build_without_changes(made):
    check_local_changes(made.build())


def test_our_hook_is_no_change_with_comments_and_empty_lines(made):
    made.put(made.configuration / "bashrc", f"# a comment\n\n{HOOK}\n\t# another\n")
    check_local_changes(made.build())


@pytest.mark.parametrize(
    "text",
    [HOOK + "X=1\n", "X=1\n", HOOK.replace("p2pbin-record", "p2pbin-record; X=1"), HOOK + HOOK, HOOK.rpartition("fi")[0]],
)
def test_other_code_in_bashrc(made, text):
    made.put(made.configuration / "bashrc", text)
    refused(made, "bashrc has code of your own")


@pytest.mark.parametrize("folder", ["hello", "hello-2.10", "hello-2.10-r1", "hello:0", "hello-2.10:0", "hello-2.10-r1:0"])
@pytest.mark.parametrize("ending", ["patch", "diff"])
def test_a_patch_of_the_user(made, folder, ending):
    made.put(made.configuration / f"patches/app-misc/{folder}/own.{ending}", "")
    refused(made, f"own.{ending}")


def test_patches_that_portage_noted(made):
    made.put(made.folder / "build-info/USER_PATCHES", "0123456789abcdef\n")
    refused(made, "as eapply_user noted")


def test_files_that_are_no_patches_for_it(made):
    for path in ("patches/app-misc/hello/README", "patches/app-misc/hello:1/x.patch", "patches/app-misc/hell/x.patch"):
        made.put(made.configuration / path, "")
    check_local_changes(made.build())


@pytest.mark.parametrize("name", ["hello", "hello:0", "hello-2.10", "hello-2.10-r1"])
def test_code_for_one_package(made, name):
    made.put(made.configuration / "env/app-misc" / name, "X=1\n")
    refused(made, f"env/app-misc/{name} is code of your own")


def test_code_in_the_users_own_profile(made):
    file = made.put(made.configuration / "profile/profile.bashrc", "X=1\n")
    made.bashrcs.append(str(file))
    refused(made, "profile.bashrc is code of your own")


def test_code_in_the_profile_of_a_repository_is_no_change(made):
    made.bashrcs.append(str(made.put(made.repository / "profiles/base/profile.bashrc", "X=1\n")))
    check_local_changes(made.build())


def test_package_env(made):
    made.package_env.append("no-lto")
    refused(made, "package.env gives it no-lto")


def test_another_root(made):
    made.settings["ROOT"] = "/mnt/other/"
    refused(made, "another ROOT, /mnt/other/")


@pytest.mark.parametrize("name", UNSAID)
def test_variables_that_no_definition_says(made, name):
    made.user[name] = "x"
    refused(made, f"{name} is set by you")


@pytest.mark.parametrize("feature", UNSAID_FEATURES)
def test_features_that_no_definition_says(made, feature):
    made.put(made.folder / "build-info/FEATURES", f"sandbox {feature}")
    refused(made, f"FEATURES={feature}")

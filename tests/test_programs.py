import hashlib

import pytest

from portage_p2pbin.gentoo.programs import ON_PATH, toolchain

CC = """\
#!/bin/sh
case $1 in
	-print-prog-name=cc1) echo {folder}/libexec/cc1 ;;
	-print-file-name=libc.so.6) echo {folder}/lib/libc.so.6 ;;
	-print-file-name=crt1.o) echo {folder}/lib/crt1.o ;;
	*) echo "${{1#*=}}" ;;
esac
"""


@pytest.fixture
def folder(tmp_path):
    put(tmp_path / "bin/cc", CC.format(folder=tmp_path))
    put(tmp_path / "bin/make", "make")
    put(tmp_path / "libexec/cc1", "the compiler")
    put(tmp_path / "lib/libc.so.6", "the library")
    put(tmp_path / "portage/ebuild.sh", "portage")
    return tmp_path


def put(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)
    return file


def found(folder, contents=(), path=None):
    return toolchain(path or f"{folder}/bin:/bin/none", folder / "portage", contents)


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_programs_on_the_path_of_the_compiler_and_of_portage(folder):
    assert found(folder) == {
        "cc": sha256(CC.format(folder=folder)),
        "cc1": sha256("the compiler"),
        "ebuild.sh": sha256("portage"),
        "libc.so.6": sha256("the library"),
        "make": sha256("make"),
    }


def test_they_stand_in_order_of_name(folder):
    assert list(found(folder)) == sorted(found(folder))


def test_what_does_not_decide_over_the_result_is_left_out(folder):
    put(folder / "bin/vim", "vim")
    assert "vim" not in found(folder)
    assert "vim" not in ON_PATH


def test_the_first_on_the_path_counts(folder):
    put(folder / "local/make", "another make")
    assert found(folder, path=f"{folder}/local:{folder}/bin")["make"] == sha256("another make")


def test_portages_wrappers_are_not_the_programs(folder):
    put(folder / "portage/ebuild-helpers/make", "a wrapper")
    assert found(folder, path=f"{folder}/portage/ebuild-helpers:{folder}/bin")["make"] == sha256("make")


def test_without_a_compiler_there_is_nothing_to_ask(folder):
    (folder / "bin/cc").unlink()
    assert set(found(folder)) == {"ebuild.sh", "make"}


def owns(*files):
    return "".join(f"obj {file} 0123456789abcdef0123456789abcdef 1700000000\n" for file in files).encode()


def test_what_an_installed_package_owns_is_left_out(folder):
    contents = [b"dir /usr\n", owns("/usr/bin/other", f"{folder}/bin/make", f"{folder}/libexec/cc1")]
    assert set(found(folder, contents)) == {"cc", "ebuild.sh", "libc.so.6"}


def test_a_link_is_owned_with_what_it_leads_to(folder):
    real = (folder / "bin/make").rename(folder / "bin/make-4.4")
    (folder / "bin/make").symlink_to("make-4.4")
    assert "make" not in found(folder, [owns(real)])


def test_owned_under_another_name_of_its_folder(folder):
    """After the merge of /bin and /usr/bin a package may still name the one and PATH the other."""
    (folder / "usr").symlink_to(folder)
    assert "make" not in found(folder, [owns(f"{folder}/usr/bin/make")])


def test_a_file_of_the_same_name_elsewhere_is_not_the_same(folder):
    put(folder / "elsewhere/make", "another")
    assert "make" in found(folder, [owns(f"{folder}/elsewhere/make")])

"""Cleaning leaves what the digest is of, and nothing else (P2.5)."""

from __future__ import annotations

import bz2
import io

import pytest
from portage import gpkg as portage_gpkg

from portage_p2pbin.binpkg.cleaning import clean_package
from portage_p2pbin.binpkg.container import open_package
from portage_p2pbin.binpkg.contents import read_package
from portage_p2pbin.kernel.errors import RefusedError
from tests.handmade import ENVIRONMENT, METADATA, PACKAGE, Gpkg, archive, gzipped, manifest_line, nameless, with_metadata, xpak
from tests.test_container import Settings

DIRTY = with_metadata(
    FEATURES=b"sandbox\n",
    PKGUSE=b"nls -doc\n",
    REPO_REVISIONS=b'{"gentoo":"1"}\n',
    **{"environment.bz2": bz2.compress(ENVIRONMENT.replace(b"\nsrc_", b'\ndeclare -x SECRET_TOKEN="x"\nsrc_'))},
)


def cleaned(package: Gpkg | bytes, prefix: str = "hello-1-2") -> bytes:
    target = io.BytesIO()
    clean_package(package.file() if isinstance(package, Gpkg) else io.BytesIO(package), target, prefix=prefix)
    return target.getvalue()


@pytest.mark.parametrize("package", [PACKAGE, DIRTY])
def test_the_digest_is_that_of_the_cleaned_package(package):
    after = read_package(io.BytesIO(cleaned(package)))
    assert after.droppings == ()
    assert after.manifest == read_package(package.file()).manifest


def test_cleaning_twice_changes_nothing():
    once = cleaned(DIRTY)
    assert cleaned(once) == once


def test_nothing_of_the_builder_stays():
    assert b"SECRET_TOKEN" not in unpacked(cleaned(DIRTY), "environment.bz2")
    assert read_package(io.BytesIO(cleaned(DIRTY))).metadata.keys() == METADATA.keys() - {"environment.bz2", "hello-1.ebuild"}


def unpacked(package: bytes, key: str) -> bytes:
    return bz2.decompress(open_package(io.BytesIO(package)).metadata()[key])


def test_the_order_of_the_metadata_and_times_do_not_matter():
    turned = archive(*(nameless(f"metadata/{key}", METADATA[key], mtime=b"00000000001\0") for key in reversed(METADATA)))
    assert cleaned(PACKAGE.but(metadata=turned)) == cleaned(PACKAGE)


def test_the_image_passes_through_as_it_is():
    image = gzipped(PACKAGE.image)
    assert image in cleaned(PACKAGE.but(image=image, image_name="image.tar.gz"))


@pytest.mark.parametrize(("prefix", "build_id"), [("hello-1-77", "77"), ("hello-1", "1")])
def test_the_folder_and_the_build_id(prefix, build_id):
    package = cleaned(PACKAGE, prefix)
    assert package.startswith(f"{prefix}/gpkg-1".encode() + b"\0")
    assert read_package(io.BytesIO(package)).metadata["BUILD_ID"] == build_id


@pytest.mark.parametrize("prefix", ["hello-2", "hello-1-x", "hello-1-01", "hello-1-1\n", "../hello-1", "", "hello-1-", "hello-1-1-1"])
def test_a_folder_that_is_not_the_package(prefix):
    with pytest.raises(RefusedError) as refused:
        cleaned(PACKAGE, prefix)
    assert refused.value.rule == "P2.5"


def test_signatures_are_stripped():
    parts = PACKAGE.parts()
    lines = [manifest_line(name, content) for name, content in parts]
    signature = nameless("hello-1-1/metadata.tar.sig", b"m"), nameless("hello-1-1/image.tar.sig", b"i")
    signed_lines = [lines[0], lines[1], manifest_line("metadata.tar.sig", b"m"), lines[2], manifest_line("image.tar.sig", b"i")]
    end = "-----BEGIN PGP SIGNATURE-----\n\naGVsbG8=\n-----END PGP SIGNATURE-----\n"
    text = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{''.join(signed_lines)}{end}"
    members = [nameless(f"hello-1-1/{name}", content) for name, content in parts]
    manifest = nameless("hello-1-1/Manifest", text.encode())
    signed = archive(members[0], members[1], signature[0], members[2], signature[1], manifest)
    assert read_package(io.BytesIO(signed)).droppings == ("signature",)
    assert cleaned(signed) == cleaned(PACKAGE)


def test_portage_reads_the_cleaned_package(tmp_path):
    (tmp_path / "p").write_bytes(cleaned(DIRTY))
    package = portage_gpkg.gpkg(Settings(), "hello-1-2", str(tmp_path / "p"))
    assert package.get_metadata("SLOT") == b"0\n"
    package.decompress(str(tmp_path / "unpacked"))
    assert (tmp_path / "unpacked/usr/hello").read_bytes() == b"hello"


def test_a_package_that_is_cut_off():
    with pytest.raises(RefusedError, match="ends in the middle"):
        cleaned(PACKAGE.bytes()[:-10240])


def test_a_manifest_that_disagrees():
    with pytest.raises(RefusedError, match="does not list"):
        cleaned(PACKAGE.but(manifest=""))


def test_an_xpak_is_not_cleaned():
    with pytest.raises(RefusedError) as refused:
        cleaned(xpak(archive()))
    assert refused.value.rule == "P2.5"
    assert "gpkg" in refused.value.reason

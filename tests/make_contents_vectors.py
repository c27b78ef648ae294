"""Make the packages, manifests and digests in tests/vectors/contents: `python -m tests.make_contents_vectors`.

They are there for whoever writes the digest again from docs/contents-digest.rst. A change of any of them is a new version of the digest.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

from portage_p2pbin.binpkg.contents import read_package
from tests.handmade import (
    ENVIRONMENT,
    GNU,
    PACKAGE,
    archive,
    folder,
    gzipped,
    hard_link,
    long_text,
    member,
    symlink,
    with_image,
    with_metadata,
    xpak,
)

FOLDER = Path(__file__).parent / "vectors/contents"
LONG = b"image/" + b"n" * 110
PYC = b"\xa7\r\r\n" + bytes(4) + b"\x01\x02\x03\x04" + b"\x06\0\0\0" + b"code"


def jar() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as target:
        target.writestr(zipfile.ZipInfo("META-INF/MANIFEST.MF", (2001, 2, 3, 4, 5, 6)), "Manifest-Version: 1.0\n")
    return file.getvalue()


def packages() -> dict[str, bytes]:
    everything = with_image(
        folder("image/empty", mode=b"0001777\0"),
        symlink("image/absolute", "/etc/x y=#"),
        member("image/usr/é*[?\\".encode(), b"1", mode=b"0004755\0", uid=b"0000001\0", uname=b"daemon", gid=b"0000002\0", gname=b""),
        hard_link("image/another", "image/usr/hello"),
        long_text(b"L", LONG),
        member(LONG[:100], b"long", magic=GNU),
        folder("image/" + "d" * 60),
        member(b"n" * 50, b"split", prefix=b"image/" + b"d" * 60),
    )
    forgiven = with_image(
        member("image/usr/a.gz", gzip.compress(b"hello", mtime=1_700_000_000)),
        member("image/usr/a.pyc", PYC),
        member("image/usr/a.jar", jar()),
        member("image/usr/executable.gz", gzip.compress(b"hello", mtime=1_700_000_000), mode=b"0000755\0"),
    )
    token = ENVIRONMENT.replace(b"\nsrc_", b'\ndeclare -x SECRET_TOKEN="x"\nsrc_')
    dirty = with_metadata(FEATURES=b"sandbox\n", **{"environment.bz2": bz2.compress(token)})
    records = b"26 SCHILY.xattr.user.a=v1\n"
    zeros = b"0000000\0" * 2
    pax = member("./PaxHeaders/x", records, kind=b"x", uname=b"", gname=b"")
    with_xattr = archive(folder(".", devices=zeros), folder("./usr", devices=zeros), pax, member("./usr/hello", b"hello", devices=zeros))
    return {
        "usual.gpkg.tar": PACKAGE.bytes(),
        "usual-xz.gpkg.tar": PACKAGE.but(image=lzma.compress(PACKAGE.image), image_name="image.tar.xz").bytes(),
        "usual.xpak": xpak(
            gzipped(archive(folder(".", magic=GNU), folder("./usr", magic=GNU), member("./usr/hello", b"hello", magic=GNU)))
        ),
        "everything.gpkg.tar": everything.bytes(),
        "forgiven.gpkg.tar": forgiven.bytes(),
        "dirty.gpkg.tar": dirty.bytes(),
        "xattr.xpak": xpak(gzipped(with_xattr)),
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    digests = []
    for name, content in packages().items():
        reading = read_package(io.BytesIO(content))
        (FOLDER / name).write_bytes(content)
        (FOLDER / f"{name}.mtree").write_bytes(reading.manifest)
        digests.append(f"{reading.digest}  {name}\n")
    (FOLDER / "digests").write_text("".join(digests))


if __name__ == "__main__":
    main()

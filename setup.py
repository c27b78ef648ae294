"""Two packages in one distribution: the client with the kernel that both sides share, and the trust server."""

from setuptools import find_packages, setup

setup(
    packages=find_packages(include=["portage_p2pbin", "portage_p2pbin.*"]) + find_packages("server"),
    package_dir={"p2pbin_server": "server/p2pbin_server"},
)

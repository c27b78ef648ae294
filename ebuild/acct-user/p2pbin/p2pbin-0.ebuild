# Copyright 2026 The portage-p2pbin authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit acct-user

DESCRIPTION="User that the network half of p2pbind and the trust server run as"

ACCT_USER_ID=-1
ACCT_USER_GROUPS=( p2pbin )

acct-user_add_deps

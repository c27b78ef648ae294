# Copyright 2026 The portage-p2pbin authors
# Distributed under the terms of the GNU General Public License v2

EAPI=8

inherit acct-group

DESCRIPTION="Group of the portage-p2pbin daemons"

ACCT_GROUP_ID=-1

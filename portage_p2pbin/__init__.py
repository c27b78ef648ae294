"""Binary packages for Gentoo over BitTorrent, shown to Portage only when independent builders signed for what is inside."""

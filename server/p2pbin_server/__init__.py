"""The trust server: keeps votes, levels, torrents and the tracker."""

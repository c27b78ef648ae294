"""Everything that is asked of Portage; the only place that imports `portage`."""

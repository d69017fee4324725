"""Word-length search: the smallest formats that meet an error target."""

"""Tables from records. Nothing here measures."""

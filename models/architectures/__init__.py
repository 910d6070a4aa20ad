"""One file per architecture (or family of them); `models.get` finds them here."""

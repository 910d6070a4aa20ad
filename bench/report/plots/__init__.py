"""Pictures from records and explanations. Nothing here measures."""

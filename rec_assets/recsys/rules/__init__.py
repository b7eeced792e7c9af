"""A merchandiser's rules: what is never shown, what is favored, and where; after scoring, in batch and API alike."""

"""The files of serving indexes: their format, manifest and self-test, and the folder they are published in."""

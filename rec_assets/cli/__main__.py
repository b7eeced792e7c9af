"""`python -m rec_assets.cli` is `rec-assets`."""

from rec_assets.cli import main

main()

from pathlib import Path

import pytest

from rec_assets.serving.index import Index
from rec_assets_tests.serving import shop


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """The shop's index, as read from its folder."""
    folder: Path = tmp_path_factory.mktemp("index")
    shop.index().save(folder)
    return Index.load(folder)

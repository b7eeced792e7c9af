"""The active recipe: the settings' recipe with the tuned hyper-parameters on top. Reads and writes the tuned recipe.

    REC_HOME/tuning/recipe.json     {"recipe": {"als.rank": 64, …}, "provenance": {"study": …, "trial": 7, …}}

The file contains only tuned hyper-parameters; the settings define the others. Without the file, the settings' recipe
applies.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rec_assets.errors import UserError
from rec_assets.files import one_line, parse_json, read_small_text, write_atomically
from rec_assets.recsys.recipe import Recipe

if TYPE_CHECKING:
    from rec_assets.settings import Settings


MAX_BYTES = 256 * 1024
"""Maximum size of the file; a recipe has some dozen fields."""


class RecipeUnreadable(UserError, RuntimeError):
    """The file of the tuned recipe is invalid; the message names it and what to do."""


@dataclass(frozen=True)
class TunedRecipe:
    """Tuned hyper-parameters and their origin.

    Attributes:
        fields: The tuned hyper-parameters by their dotted names.
        provenance: Origin; contains at least `study` and `trial`.
    """

    fields: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Recipes:
    """Recipes of one deployment. Each call reads the file again.

    Attributes:
        configured: The recipe of the settings. Fields that the user set there override tuned fields.
        file: Path of the tuned recipe, which may not exist.
    """

    configured: Recipe
    file: Path

    @classmethod
    def from_settings(cls, settings: Settings) -> Recipes:
        """The recipes of a deployment."""
        return cls(settings.recipe, settings.tuning / "recipe.json")

    def active(self) -> Recipe:
        """The recipe for training models now.

        Raises:
            RecipeUnreadable: the file of the tuned recipe is invalid.
        """
        tuned = self.tuned()
        return self.configured if tuned is None else self._overlay(tuned)

    def origin(self) -> str:
        """Origin of the active recipe, in one line."""
        tuned = self.tuned()
        if tuned is None:
            return "settings"
        return f"tuned: study {tuned.provenance['study']}, trial {tuned.provenance['trial']}"

    def tuned(self) -> TunedRecipe | None:
        """The tuned recipe; None without its file.

        Raises:
            RecipeUnreadable: as `active`.
        """
        try:
            if not self.file.exists():
                return None
            content = parse_json(read_small_text(self.file, MAX_BYTES, ValueError))
            tuned = TunedRecipe(dict(content["recipe"]), dict(content["provenance"]))
            missing = {"study", "trial"} - tuned.provenance.keys()
            if missing:
                raise ValueError(f"its provenance lacks {' and '.join(sorted(missing))}")
            self._overlay(tuned)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from None
        return tuned

    def adopt(self, tuned: TunedRecipe) -> None:
        """Make a tuned recipe the active one. The file is replaced atomically."""
        self._overlay(tuned)
        text = json.dumps({"recipe": dict(tuned.fields), "provenance": dict(tuned.provenance)}, indent=1)
        write_atomically(self.file, text + "\n")

    def _overlay(self, tuned: TunedRecipe) -> Recipe:
        return self.configured.with_fields({**tuned.fields, **self.configured.chosen_fields()})

    def _unreadable(self, error: Exception) -> RecipeUnreadable:
        if isinstance(error, ValidationError):
            why = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        else:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        why = one_line(why.removeprefix(f"{self.file}: "))
        return RecipeUnreadable(
            f"{self.file}: {why}. Fix the tuned recipe, or delete the file to train with the settings' recipe"
        )

"""The recipe to train with: the settings', with what tuning found laid over it. Reads and writes the tuned recipe.

    REC_HOME/tuning/recipe.json     {"recipe": {"als.rank": 64, …}, "provenance": {"study": …, "trial": 7, …}}

The file holds only what was tuned, so the rest goes on following the settings. Without the file the settings' recipe is
used as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rec_assets.files import write_whole
from rec_assets.recsys.recipe import Recipe
from rec_assets.small_file import one_line, parse_json, read_small_text

if TYPE_CHECKING:
    from rec_assets.settings import Settings


MOST_BYTES = 256 * 1024
"""Of the file: a recipe has some dozen fields."""


class RecipeUnreadable(RuntimeError):
    """The tuned recipe's file can't be used; the message names it and says what to do."""


@dataclass(frozen=True)
class TunedRecipe:
    """What tuning found.

    Attributes:
        fields: The tuned hyper-parameters by their dotted names.
        provenance: Where they come from: at least `study` and `trial`.
    """

    fields: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True)
class Recipes:
    """Recipes of one deployment; the file is looked at anew each time.

    Attributes:
        settings: The recipe of the settings. What was set there by hand wins over what was tuned.
        file: Where the tuned recipe lies, if there is one.
    """

    settings: Recipe
    file: Path

    @classmethod
    def of(cls, settings: Settings) -> Recipes:
        """The recipes of these settings."""
        return cls(settings.recipe, settings.tuning / "recipe.json")

    def to_train(self) -> Recipe:
        """The recipe that models are trained with from now on.

        Raises:
            RecipeUnreadable: there is a tuned recipe and it can't be used.
        """
        tuned = self.tuned()
        return self.settings if tuned is None else self._overlaid(tuned)

    def origin(self) -> str:
        """Where `to_train` comes from, in a line."""
        tuned = self.tuned()
        return (
            "settings"
            if tuned is None
            else f"tuned: study {tuned.provenance['study']}, trial {tuned.provenance['trial']}"
        )

    def tuned(self) -> TunedRecipe | None:
        """What tuning found; None without its file.

        Raises:
            RecipeUnreadable: as `to_train`.
        """
        try:
            if not self.file.exists():
                return None
            content = parse_json(read_small_text(self.file, MOST_BYTES, ValueError))
            tuned = TunedRecipe(dict(content["recipe"]), dict(content["provenance"]))
            missing = {"study", "trial"} - tuned.provenance.keys()
            if missing:
                raise ValueError(f"its provenance lacks {' and '.join(sorted(missing))}")
            self._overlaid(tuned)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from None
        return tuned

    def adopt(self, tuned: TunedRecipe) -> None:
        """Train with this from now on. The file is replaced whole: whoever reads it sees the old one or the new one."""
        self._overlaid(tuned)
        text = json.dumps({"recipe": dict(tuned.fields), "provenance": dict(tuned.provenance)}, indent=1)
        write_whole(self.file, text + "\n")

    def _overlaid(self, tuned: TunedRecipe) -> Recipe:
        return self.settings.with_fields({**tuned.fields, **self.settings.chosen_fields()})

    def _unreadable(self, error: Exception) -> RecipeUnreadable:
        if isinstance(error, ValidationError):
            why = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        else:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        why = one_line(why.removeprefix(f"{self.file}: "))
        return RecipeUnreadable(
            f"{self.file}: {why}. Fix the tuned recipe, or delete the file to train with the settings' recipe"
        )

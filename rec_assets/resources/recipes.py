"""The active recipe: defaults, then what follows from the shop's purchases, then what was tuned, then the settings.

    REC_LAKE/recipe                 the asset `recipe`: name, value, …
    REC_HOME/tuning/recipe.json     {"recipe": {"als.rank": 64, …}, "provenance": {"study": …, "trial": 7, …}}

Both contain only some hyper-parameters. This module also writes the tuned recipe.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from rec_assets.errors import UserError
from rec_assets.files import one_line, parse_json, read_small_text, write_atomically
from rec_assets.recsys.recipe import Recipe
from rec_assets.resources.lake import Lake, open_lake

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
        configured: The recipe of the settings. Fields that the user set there override all others.
        file: Path of the tuned recipe, which may not exist.
        lake: The lake with the asset `recipe`.
    """

    configured: Recipe
    file: Path
    lake: Lake

    @classmethod
    def from_settings(cls, settings: Settings) -> Recipes:
        """The recipes of a deployment."""
        return cls(settings.recipe, settings.tuning / "recipe.json", open_lake(settings.lake))

    def active(self, day: dt.date) -> Recipe:
        """The recipe for the models of a day.

        Raises:
            RecipeUnreadable: the file of the tuned recipe is invalid.
        """
        tuned, (_, of_shop) = self.tuned(), self._of_shop(day)
        return self._overlay({**of_shop, **(tuned.fields if tuned else {})})

    def fixed_fields(self) -> set[str]:
        """Names of the hyper-parameters that the settings or tuning set. Raises as `active`."""
        tuned = self.tuned()
        return {*self.configured.chosen_fields(), *(tuned.fields if tuned else {})}

    def origin(self, day: dt.date) -> str:
        """Origin of the active recipe of a day, in one line."""
        tuned, (as_of, of_shop) = self.tuned(), self._of_shop(day)
        origins = [
            f"tuned: study {tuned.provenance['study']}, trial {tuned.provenance['trial']}" if tuned else "",
            f"purchases up to {as_of}" if of_shop else "",
        ]
        return "; ".join(filter(None, origins)) or "defaults and settings"

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
            self._overlay(tuned.fields)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise self._unreadable(error) from None
        return tuned

    def adopt(self, tuned: TunedRecipe) -> None:
        """Make a tuned recipe the active one. The file is replaced atomically."""
        self._overlay(tuned.fields)
        text = json.dumps({"recipe": dict(tuned.fields), "provenance": dict(tuned.provenance)}, indent=1)
        write_atomically(self.file, text + "\n")

    def _overlay(self, fields: Mapping[str, Any]) -> Recipe:
        return self.configured.with_fields({**fields, **self.configured.chosen_fields()})

    def _of_shop(self, day: dt.date) -> tuple[dt.date, dict[str, float]]:
        """The newest day of the asset `recipe` up to this day, and its hyper-parameters that this version has."""
        table = self.lake.table("recipe")
        if not (days := [each for each in table.days if each <= day]):
            return day, {}
        rows, known = table.pandas([days[-1]], columns=["name", "value"]), self.configured.fields()
        values = zip(rows["name"], rows["value"].tolist(), strict=True)
        return days[-1], {name: value for name, value in values if name in known}

    def _unreadable(self, error: Exception) -> RecipeUnreadable:
        if isinstance(error, ValidationError):
            why = "; ".join(f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}" for detail in error.errors())
        else:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        why = one_line(why.removeprefix(f"{self.file}: "))
        return RecipeUnreadable(f"{self.file}: {why}. Fix the tuned recipe, or delete the file to train without tuning")

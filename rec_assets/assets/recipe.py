"""Asset `recipe` of the group `models`: hyper-parameters that follow from how the customers of the shop buy."""

import dagster as dg
import numpy as np
import pandas as pd

from rec_assets.assets.models import GROUP, OWNERS
from rec_assets.partitions import DayPartitions, as_of_day
from rec_assets.recsys.spark.arrow_rows import LazyArrowRows
from rec_assets.recsys.tuning.rules_of_thumb import choose
from rec_assets.recsys.tuning.shop_profile import ShopProfile, profile_shop
from rec_assets.resources.recipes import Recipes


def recipe_assets(days: DayPartitions) -> list[dg.AssetsDefinition]:
    """The asset."""

    @dg.asset(
        group_name=GROUP, owners=OWNERS, kinds={"spark"}, partitions_def=days.partitions, code_version="1"
    )  # fmt: skip
    def recipe(
        context: dg.AssetExecutionContext, recipes: dg.ResourceParam[Recipes], customer_histories: LazyArrowRows
    ) -> pd.DataFrame:
        """Hyper-parameters for this shop, by rules of thumb from its purchases. Settings and tuning come first."""
        profile = profile_shop(customer_histories)
        chosen, fixed = choose(profile), recipes.fixed_fields()
        context.log.info(f"{as_of_day(context)}: {in_words(profile)}")
        context.add_output_metadata(
            {
                "purchases": dg.MetadataValue.md(in_words(profile)),
                "chosen": dg.MetadataValue.md(_table(chosen[~chosen["name"].isin(fixed)])),
                **({"set_by_settings_or_tuning": ", ".join(sorted(fixed))} if fixed else {}),
            }
        )
        return chosen

    return [recipe]


def in_words(profile: ShopProfile) -> str:
    """The profile as sentences."""
    if not profile.customers:
        return "Nobody has bought anything."
    days = "day" if profile.days == 1 else "days"
    every = "" if np.isnan(profile.interval_days) else f", with {profile.interval_days:.1f} days in between"
    return (
        f"{profile.customers:,} customers have bought, on {profile.days:.1f} {days} each{every}. A basket has "
        f"{profile.basket:.1f} products; the customer had bought {profile.repeat_share:.0%} of them before."
    )


def _table(chosen: pd.DataFrame) -> str:
    if chosen.empty:
        return "The defaults suit this shop."
    shown = chosen.assign(value=chosen["value"].map("{:g}".format), default=chosen["default"].map("{:g}".format))
    return str(shown.rename(columns={"name": "hyper-parameter"}).to_markdown(index=False))

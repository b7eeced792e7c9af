"""Settings of training, evaluation and release."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings

from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.release.limits import GateLimits


class RetrainingSettings(BaseModel):
    """Conditions for new models, as `REC_RETRAINING__…`."""

    model_config = ConfigDict(frozen=True)

    new_interactions_share: float = Field(
        0.05, gt=0, description="Retrain if new interactions reach this share of those of the last training."
    )
    unknown_product_share: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Retrain if a larger share of a week's purchase lines is for products without ALS factors.",
    )
    unknown_customer_share: float = Field(
        0.4,
        gt=0,
        le=1,
        description="Retrain if a larger share of a week's purchase lines is from customers without a list.",
    )


class FeedbackSettings(BaseModel):
    """Training weights of signs of interest, as `REC_FEEDBACK__…`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    click: float = Field(
        0.1, ge=0, lt=1, description="Training weight of a click on a recommendation, relative to a purchase (1)."
    )
    view: float = Field(0.1, ge=0, lt=1, description="Training weight of a view of a product's page.")
    wishlist: float = Field(0.3, ge=0, lt=1, description="Training weight of adding a product to the wishlist.")
    cart: float = Field(
        0.3, ge=0, lt=1, description="Training weight of adding a product to the cart, relative to a purchase (1)."
    )
    max_products_per_day: int = Field(
        300, ge=1, description="A visitor with more products in a day counts as a robot and is ignored on that day."
    )

    @property
    def weights(self) -> dict[str, float]:
        """Event type → weight."""
        return {"click": self.click, "view": self.view, "wishlist": self.wishlist, "cart": self.cart}


class ModelSettings(BaseSettings):
    """Training, evaluation and release."""

    lookback_days: int = Field(365, ge=1, description="Number of days of purchases that models train on.")
    horizon_days: int = Field(
        28, ge=1, description="Number of days after an as-of day whose purchases label and evaluate its lists."
    )
    model_reuse_days: int = Field(
        7, ge=1,
        description="Maximum age in days of the models that make lists until the first release, and of the "
        "lists in `live_accuracy`.",
    )  # fmt: skip
    gate_days: int = Field(
        7, ge=1, description="Number of days after training whose purchases compare a challenger with the champion."
    )
    evaluation_customers: int = Field(
        20_000, ge=1, description="Maximum number of customers in reports and the gate; a larger shop uses a sample."
    )
    gate: GateLimits = Field(GateLimits(), description="Limits that a challenger must keep to be promoted.")
    retraining: RetrainingSettings = Field(
        RetrainingSettings(), description="Conditions under which the sensor starts a retraining."
    )
    recipe: Recipe = Field(Recipe(), description="Hyper-parameters of the models.")
    feedback: FeedbackSettings = Field(FeedbackSettings(), description="Training weights of clicks and carts.")
    encoder: str = Field(
        "packaged-minilm",
        description="Text encoder: the packaged all-MiniLM-L6-v2, or a sentence-transformers path or model name.",
    )

"""Request and response bodies of the API, the source of its OpenAPI schema. Unknown fields are rejected."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Json,
    StringConstraints,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from rec_assets.recsys.data.attributes import Conditions
from rec_assets.recsys.events import MAX_ID_LENGTH

_MAX_FIELDS = 30
MAX_K, MAX_EXCLUDED, MAX_SESSION_EVENTS, MAX_EVENTS = 100, 500, 100, 1000
MAX_QUANTITY = 10_000
"""A larger quantity on an order line counts as a mistake or an attack."""

_NOT_BLANK = r"^[^\x00\ufffd]*[^\s\x00\ufffd][^\x00\ufffd]*$"
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=_NOT_BLANK)]
"""1 to MAX_ID_LENGTH characters, not all blank, without NUL and without replacement characters (from invalid UTF-8)."""

Id = Annotated[Text, BeforeValidator(lambda value: str(value) if type(value) is int else value)]
"""An id from the shop's data. JSON integers are converted to text."""

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MAX_K, description="Number of products.")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > _MAX_FIELDS:  # each unknown field would add an error
            raise ValueError(f"has {len(value)} fields; the maximum is {_MAX_FIELDS}")
        return value


# A new filter is a field here, in CustomerQuery (and to_body), in RecommendationRequest (and is_filtered), and lines
# in _build_request (recommendations.py), in Responder._allowed and, if its values are names, in Responder.normalize.
class Filters(_Strict):
    """Filters on the recommended products."""

    categories: list[Text] | None = Field(None, min_length=1, max_length=50, description="Only these categories.")
    brands: list[Text] | None = Field(None, min_length=1, max_length=50, description="Only these brands.")
    attributes: Conditions = Field(
        {},
        description='Attribute → values, of which the product must have one, or a range: `{"color": ["red"], "margin": '
        '{"gte": 0.3}}`.',
    )
    price_min: Amount | None = Field(None, description="Minimum price.")
    price_max: Amount | None = Field(None, description="Maximum price.")

    @model_validator(mode="after")
    def _in_order(self) -> Filters:
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise ValueError("price_min must not be above price_max")
        return self


class SessionEvent(_Strict):
    """An event of the current session that is sent with the request. The API does not store it."""

    type: Literal["click", "view", "wishlist", "cart", "removal", "dismissal", "purchase"]
    product_id: Id


class _RecommendationOptions(_Strict):
    k: Count = 10
    mode: Literal["all", "discover", "buy_again"] = Field(
        "all",
        description="`discover`: only products that the customer has not bought. `buy_again`: only products that the "
        "customer has bought.",
    )
    session_id: Id | None = Field(
        None, description="Id of the current session. Its stored events count, even before the visitor signs in."
    )
    fallback_category: Text | None = Field(None, description="Category of the best sellers for an unknown visitor.")
    exclude: list[Id] = Field([], max_length=MAX_EXCLUDED, description="Products to leave out.")
    diversity: Share = Field(0.0, description="Penalty for items that are similar to a higher-ranked item.")
    exploration: Share = Field(0.0, description="Degree of randomization of the ranking; 0: none.")


class RecommendationBody(_RecommendationOptions):
    """A recommendation request."""

    customer_id: Id | None = Field(
        None, description="As in the purchase logs. Leave it out for a visitor who is not signed in."
    )
    events: list[SessionEvent] = Field([], max_length=MAX_SESSION_EVENTS, description="Oldest first.")
    filters: Filters = Filters()


class CustomerQuery(_RecommendationOptions):
    """A recommendation request as URL parameters. Repeat `category`, `brand` and `exclude` for several values."""

    category: list[Text] = Field([], max_length=50, description="Only this category.")
    brand: list[Text] = Field([], max_length=50, description="Only this brand.")
    attributes: Json[Conditions] = Field({}, description='JSON, such as `{"color": ["red"]}`; see the POST request.')
    price_min: Amount | None = None
    price_max: Amount | None = None

    def to_body(self, customer_id: str) -> RecommendationBody:
        """The same request as a body. Raises ValidationError if fields contradict each other."""
        filters = Filters(
            categories=self.category or None, brands=self.brand or None, attributes=self.attributes,
            price_min=self.price_min, price_max=self.price_max,
        )  # fmt: skip
        options = {name: getattr(self, name) for name in _RecommendationOptions.model_fields}
        return RecommendationBody(customer_id=customer_id, filters=filters, **options)


class ProductQuery(_Strict):
    """Parameters of a request for related products."""

    k: Count = 10


class TrendingQuery(ProductQuery):
    """Parameters of a request for trending products."""

    category: Text | None = None


class Item(BaseModel):
    """One product of a list."""

    product_id: str
    rank: int = Field(description="From 1.")
    score: float = Field(description="Comparable within one response and `source`; six decimals.")
    source: str = Field(description="The candidate source that contributed most, `best_sellers` or `pinned`.")
    reason: str = Field(description="The source as a sentence for the shopper.")
    title: str
    category: str
    brand: str
    variant_id: str | None = Field(
        description="The variant to show: in the size that the customer buys in this category, else the best seller; "
        "null if the product has no variants. Price, image, link and attributes are those of the variant."
    )
    image: str | None = Field(description="URL of a picture.")
    link: str | None = Field(description="URL of the product's page.")
    attributes: dict[str, str | float | list[str]] = Field(description="From the catalog.")
    price: float | None = Field(
        description="Rounded to cents: the catalog's price, else the mean price paid; null if both are unknown."
    )
    rule: str | None = Field(
        None, description="The merchandising rule that raised or pinned the item: `boosted by rule summer-stock`."
    )


class ProductList(BaseModel):
    """Products, best first."""

    recommendation_id: str = Field(description="Send it with the events that follow from this response.")
    model_version: int = Field(description="Version in the model registry.")
    as_of: dt.date = Field(description="As-of day of the index: the last day of purchases that it knows.")
    items: list[Item]


class Recommendations(ProductList):
    """Recommendations for a shopper."""

    answered_by: Literal["customer", "session", "popular_in_category", "popular", "holdout"] = Field(
        description="What the response is based on: `customer`: the customer's history; `session`: the current "
        "session; `popular_in_category`: best sellers of a category; `popular`: best sellers; `holdout`: an experiment "
        "shows this shopper no recommendations."
    )
    experiments: dict[str, str] = Field(
        {}, description="Experiments that this response is part of, with the shopper's variant."
    )


class NewEvent(_Strict):
    """An action of a shopper. Events with the same `event_id` count once."""

    event_id: Id = Field(
        description="Created by the client, for example a random UUID. All keys of the shop's servers share one "
        "namespace of ids; with a public key, each customer or session has its own."
    )
    type: Literal["impression", "click", "view", "wishlist", "cart", "removal", "dismissal", "purchase", "return"] = (
        Field(
            description="`view`: of a product's page; `removal`: from the cart; `dismissal`: don't show this product."
        )
    )
    product_id: Id
    customer_id: Id | None = None
    session_id: Id | None = None
    time: AwareDatetime | None = Field(None, description="With a time zone; default: the time of arrival.")
    order_id: Id | None = None
    quantity: Annotated[float, Field(gt=0, le=MAX_QUANTITY, allow_inf_nan=False)] | None = None
    unit_price: Amount | None = Field(None, description="In the catalog's currency, not in cents.")
    recommendation_id: Id | None = Field(None, description="Of the response that showed the product.")
    position: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="Its rank in that response.")

    @model_validator(mode="after")
    def _has_shopper(self) -> NewEvent:
        if self.customer_id is None and self.session_id is None:
            raise ValueError("customer_id or session_id is required")
        return self


@dataclass(frozen=True)
class InvalidEvent:
    """An item of a batch that is not a valid event."""

    reason: str


def _event_or_reason(value: object, _: object) -> NewEvent | InvalidEvent:
    try:
        return NewEvent.model_validate(value)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        reasons = (f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}" for each in errors)
        return InvalidEvent("; ".join(each.removeprefix(": ") for each in reasons))


class EventBatch(_Strict):
    """Events in any order. An invalid event does not affect the others."""

    events: list[Annotated[NewEvent | SkipJsonSchema[InvalidEvent], WrapValidator(_event_or_reason)]] = Field(
        min_length=1, max_length=MAX_EVENTS
    )


class RejectedEvent(BaseModel):
    """An event that was not stored. Do not send it again unchanged."""

    index: int = Field(description="Position in the batch, from 0.")
    message: str


class EventResult(BaseModel):
    """Result of a batch. New events are on disk."""

    new: int
    duplicates: int = Field(description="Events that were stored before, with the same event_id and content.")
    rejected: list[RejectedEvent] = Field([], description="Events that were not stored.")


class Availability(_Strict):
    """Whether a product may be shown."""

    available: bool


class ProductAvailability(Availability):
    """The product's availability after the change."""

    product_id: str
    in_catalog: bool = Field(description="Whether the current index has the product.")


class ForgottenCustomer(BaseModel):
    """Result of an erasure request."""

    customer_id: str
    events_deleted: int
    in_index: bool = Field(description="Whether the current index has a history of the customer.")


class Health(BaseModel):
    """Whether the API can respond to requests."""

    status: Literal["ok", "not ready"]
    missing: dict[str, str] = Field({}, description="What prevents responses, by name.")
    warnings: dict[str, str] = Field({}, description="Problems that do not prevent responses, by name.")
    model_version: int | None = None
    as_of: dt.date | None = None


class ErrorResponse(BaseModel):
    """Why the API rejected a request, and how to fix it."""

    error: str = Field(description="Error code.")
    message: str
    fields: list[dict[str, str]] = Field([], description="`field` and `message` of each invalid field.")

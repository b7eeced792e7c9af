"""What the API takes and gives, typed: the source of its OpenAPI pages. Unknown fields are refused."""

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
    StringConstraints,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from rec_assets.recsys.events import LONGEST_ID

_MOST_FIELDS = 30
MOST_K, MOST_EXCLUDED, MOST_SESSION_EVENTS, MOST_EVENTS = 100, 500, 100, 1000
MOST_PIECES = 10_000
"""More of a product on one order line is taken for a mistake, or an attack."""

Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00\ufffd]*[^\s\x00\ufffd][^\x00\ufffd]*$"),
]
"""As the shop writes it: up to LONGEST_ID characters, not all of them blank, no NUL and nothing that was no UTF-8."""

Id = Annotated[Text, BeforeValidator(lambda given: str(given) if type(given) is int else given)]
"""An id, as the shop writes it; a whole number in JSON is taken by its digits."""

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_K, description="How many products.")]
Mode = Literal["all", "discover", "buy_again"]
_MODE = Field(description="`discover` leaves out what was bought before, `buy_again` everything else.")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _has_few_fields(cls, given: object) -> object:
        if isinstance(given, dict) and len(given) > _MOST_FIELDS:  # each would be an error of its own
            raise ValueError(f"has {len(given)} fields, and none here takes more than {_MOST_FIELDS}")
        return given


class Filters(_Strict):
    """Which products may be in the answer."""

    categories: list[Text] | None = Field(None, min_length=1, max_length=50, description="Only these categories.")
    price_min: Amount | None = Field(None, description="Only products that cost at least this much.")
    price_max: Amount | None = Field(None, description="Only products that cost at most this much.")

    @model_validator(mode="after")
    def _in_order(self) -> Filters:
        if self.price_min is not None and self.price_max is not None and self.price_min > self.price_max:
            raise ValueError("price_min must not be above price_max")
        return self


class SessionEvent(_Strict):
    """What the visitor has just done, said with the question; it is not kept."""

    type: Literal["click", "cart", "purchase"]
    product_id: Id


class RecommendationBody(_Strict):
    """Whom to recommend to, and what."""

    customer_id: Id | None = Field(None, description="As in the purchase logs; none for someone not signed in.")
    session_id: Id | None = Field(None, description="The visit; its events count even before anybody signs in.")
    events: list[SessionEvent] = Field([], max_length=MOST_SESSION_EVENTS, description="Oldest first.")
    k: Count = 10
    mode: Annotated[Mode, _MODE] = "all"
    segment: Text | None = Field(None, description="Category whose best sellers someone unknown is shown.")
    filters: Filters = Filters()
    exclude: list[Id] = Field([], max_length=MOST_EXCLUDED, description="Products to leave out.")
    diversity: Share = Field(0.0, description="How much a product loses by being like one before it.")
    exploration: Share = Field(0.0, description="How much chance has a say in the order.")


class CustomerQuery(_Strict):
    """The same as a URL's parameters."""

    k: Count = 10
    mode: Annotated[Mode, _MODE] = "all"
    session_id: Id | None = None
    segment: Text | None = None
    category: list[Text] = Field([], max_length=50, description="Only this category; may be repeated.")
    price_min: Amount | None = None
    price_max: Amount | None = None
    exclude: list[Id] = Field([], max_length=MOST_EXCLUDED, description="A product to leave out; may be repeated.")
    diversity: Share = 0.0
    exploration: Share = 0.0

    def question(self, customer_id: str) -> RecommendationBody:
        """As a question about a customer. Raises ValidationError where its fields don't go together."""
        return RecommendationBody(
            customer_id=customer_id,
            session_id=self.session_id,
            k=self.k,
            mode=self.mode,
            segment=self.segment,
            filters=Filters(categories=self.category or None, price_min=self.price_min, price_max=self.price_max),
            exclude=self.exclude,
            diversity=self.diversity,
            exploration=self.exploration,
        )


class ProductQuery(_Strict):
    """How many products that go with one."""

    k: Count = 10


class TrendingQuery(ProductQuery):
    """Which products that are on the rise."""

    category: Text | None = None


class Item(BaseModel):
    """One product of an answer."""

    product_id: str
    rank: int = Field(description="From 1.")
    score: float = Field(description="Comparable within one answer and `source`; six decimals.")
    source: str = Field(description="What speaks for it most: own, als, co_purchase, content, segment …")
    reason: str = Field(description="The same in words for the shopper.")
    title: str
    category: str
    price: float | None = Field(
        description="To the cent: the catalog's price; without one, the mean of what was paid. Null where unknown."
    )
    rule: str | None = Field(None, description="The shop's rule that put it there: `boosted by rule summer-stock`.")


class ProductList(BaseModel):
    """Products, best first, and where they come from."""

    recommendation_id: str = Field(description="Send it back with the events that follow from this answer.")
    model_version: int = Field(description="Version in the model registry.")
    as_of: dt.date = Field(description="Last day of purchases that the models know.")
    items: list[Item]


class Recommendations(ProductList):
    """An answer to a question about a shopper."""

    answered_by: Literal["customer", "session", "segment", "popular", "holdout"] = Field(
        description="What it rests on: the customer's history, this session, a category's or everybody's best sellers; "
        "`holdout`: an experiment shows this shopper nothing."
    )
    experiments: dict[str, str] = Field(
        {}, description="Experiments that this answer is part of, each with the shopper's variant."
    )


class NewEvent(_Strict):
    """Something a visitor did. The same event sent again, by its `event_id`, counts once."""

    event_id: Id = Field(
        description="Made by the client, such as a random UUID. All keys of the shop's servers share their ids; those "
        "of a public key are each customer's or session's own."
    )
    type: Literal["impression", "click", "cart", "purchase", "return"]
    product_id: Id
    customer_id: Id | None = None
    session_id: Id | None = None
    time: AwareDatetime | None = Field(None, description="With its zone; default: when it arrives.")
    order_id: Id | None = None
    quantity: Annotated[float, Field(gt=0, le=MOST_PIECES, allow_inf_nan=False)] | None = None
    unit_price: Amount | None = Field(None, description="In the catalog's currency, not in cents.")
    recommendation_id: Id | None = Field(None, description="Of the answer that showed the product.")
    position: Annotated[int, Field(ge=1, le=10_000)] | None = Field(None, description="Its rank there.")

    @model_validator(mode="after")
    def _by_somebody(self) -> NewEvent:
        if self.customer_id is None and self.session_id is None:
            raise ValueError("customer_id or session_id must say whose event it is")
        return self


@dataclass(frozen=True)
class WrongEvent:
    """Something in a batch that is no event, and why."""

    why: str


def _event_or_why(given: object, _: object) -> NewEvent | WrongEvent:
    try:
        return NewEvent.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        said = (".".join(map(str, each["loc"])) + ": " + each["msg"].removeprefix("Value error, ") for each in found)
        return WrongEvent("; ".join(each.removeprefix(": ") for each in said))


class EventBatch(_Strict):
    """Events, in any order. Each stands for itself: one that is wrong doesn't take the others along."""

    events: list[Annotated[NewEvent | SkipJsonSchema[WrongEvent], WrapValidator(_event_or_why)]] = Field(
        min_length=1, max_length=MOST_EVENTS
    )


class RefusedEvent(BaseModel):
    """An event of a batch that was not taken. Sent again as it is, it is refused again."""

    number: int = Field(description="Its place in the batch, from 0.")
    message: str


class Recorded(BaseModel):
    """What became of a batch: what is new is on disk."""

    new: int
    known: int = Field(description="Sent before, by their event_id and with the same content.")
    refused: list[RefusedEvent] = Field([], description="Which were not taken, and why; the others were.")


class Availability(_Strict):
    """Whether a product may be shown."""

    available: bool


class ProductAvailability(Availability):
    """What is now so."""

    product_id: str
    in_catalog: bool = Field(description="Whether the index knows the product.")


class Forgotten(BaseModel):
    """Whom, and what was deleted."""

    customer_id: str
    events_deleted: int
    in_index: bool = Field(description="Whether the current index knows the customer.")


class Health(BaseModel):
    """Whether requests can be answered."""

    status: Literal["ok", "not ready"]
    missing: dict[str, str] = {}
    warnings: dict[str, str] = Field(
        {}, description="What doesn't keep requests from being answered but should be looked at, by name."
    )
    model_version: int | None = None
    as_of: dt.date | None = None


class Problem(BaseModel):
    """What was wrong with a request, and what to do."""

    error: str
    message: str
    fields: list[dict[str, str]] = Field([], description="`field` and `message`, where single fields are wrong.")

"""Routes with the tag `administration`: availability of products, and erasure of customers."""

import datetime as dt
from typing import Annotated

from fastapi import Depends, FastAPI

from rec_assets.serving.database.tables import ADMIN
from rec_assets.serving.http import schemas
from rec_assets.serving.http.dependencies import Caller, CustomerId, ProductId, WorkerState, require_scope
from rec_assets.serving.http.errors import ERROR_RESPONSES


def add_administration_routes(app: FastAPI, state: WorkerState) -> None:
    """Add the routes to the app."""
    runtime, online, may_administer = state.runtime, state.runtime.online, Depends(require_scope(state, ADMIN))

    @app.put("/v1/products/{product_id:id}/availability", tags=["administration"], responses=ERROR_RESPONSES)
    def set_availability(
        product_id: ProductId, body: schemas.Availability, caller: Annotated[Caller, may_administer]
    ) -> schemas.ProductAvailability:
        """Remove a product from all responses immediately, or add it again."""
        runtime.database_guard.write(lambda: online.set_available(product_id, body.available))
        in_catalog = runtime.engine is not None and product_id in runtime.engine.recommender.positions
        return schemas.ProductAvailability(product_id=product_id, available=body.available, in_catalog=in_catalog)

    @app.delete("/v1/customers/{customer_id:id}", tags=["administration"], responses=ERROR_RESPONSES)
    def forget_customer(
        customer_id: CustomerId, caller: Annotated[Caller, may_administer]
    ) -> schemas.ForgottenCustomer:
        """Forget a customer: delete their events, and stop using their history in responses immediately."""
        deleted = runtime.database_guard.write(lambda: online.forget(customer_id, dt.datetime.now(dt.timezone.utc)))
        in_index = runtime.engine is not None and runtime.engine.responder.is_known(customer_id)
        return schemas.ForgottenCustomer(customer_id=customer_id, events_deleted=deleted, in_index=in_index)

"""Columns of the tables: type and description, which Delta, the Dagster UI and docs/tables.md show.

A table is written with these types. A column that is not here keeps the type that its asset gave it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from rec_assets.recsys.spark.arrow_rows import arrow_type, spark_type

Column = tuple[str, str]
"""Type in Spark SQL, and description."""

SHARED: dict[str, Column] = {
    "customer_id": ("string", "Id of the customer."),
    "product_id": ("string", "Id of the product."),
    "order_id": ("string", "Id of the order."),
    "session_id": ("string", "Id of the browser session."),
    "recommendation_id": ("string", "Id of the API response."),
    "source_file": ("string", "Landed file of the line."),
    "source_row": ("bigint", "Row in that file, from 1."),
    "event_time": ("timestamp", "Time of the event (UTC)."),
    "quantity": ("double", "Number of units."),
    "unit_price": ("double", "Price of one unit."),
    "rating": ("double", "Rating given by the customer, null if none."),
    "title": ("string", "Name of the product."),
    "category": ("string", "Category of the product."),
    "brand": ("string", "Brand of the product."),
    "text": ("string", "Text of the product that is embedded."),
    "price": ("double", "Price of the product."),
    "image": ("string", "URL of a picture."),
    "link": ("string", "URL of the product's page."),
    "attributes": (
        "string",
        "Attributes from the catalog, as a JSON object. Names of those that are not shown begin with `_`.",
    ),
    "taste": ("string", "Attribute values that customers have a taste for, as a JSON list of `attribute=value`."),
    "variants": ("string", "Variants as a JSON list of objects, best sellers first; null without variants."),
    "in_stock": ("boolean", "Whether the catalog has the product, or a variant of it, in stock."),
    "variant_id": ("string", "Id of the variant, null if the product has none."),
    "wrong_size": ("boolean", "Whether the line is a return because of its size, or for an unknown reason."),
    "excluded": ("boolean", "Whether the shop excludes the product from recommendations."),
    "content_hash": ("string", "SHA-256 of the text; key of the embedding."),
    "buyers": ("bigint", "Customers who bought the product in the lookback."),
    "new_buyers": ("bigint", "Customers whose first purchase of the product is recent."),
    "repeat_share": ("double", "Share of buyers who bought the product on more than one day."),
    "version": ("bigint", "Version number in the MLflow model registry."),
    "als_as_of": ("date", "As-of day of the ALS model."),
    "graph_as_of": ("date", "As-of day of the co-purchase graph."),
    "ranker_as_of": ("date", "As-of day of the ranker."),
    "recipe": ("string", "Hyper-parameters as JSON."),
    "experiment": ("string", "Name of the experiment."),
    "variant": ("string", "Name of the variant."),
    "simulated": ("boolean", "Whether the traffic is simulated."),
    "metric": ("string", "Name of the metric."),
    "rank": ("int", "Position in the list, from 1."),
    "score": (
        "float",
        "Score; higher is better. In a list, `rank` decides: rules move items without changing their score.",
    ),
    "reason": ("string", "Reason of the recommendation as a sentence."),
}
"""Columns with the same meaning in all tables."""

_RAW: dict[str, Column] = {
    "is_return": ("boolean", "Whether the line is a return."),
    "was_returned": ("boolean", "Whether the purchase was returned later."),
    "excluded_by": ("string", "Filter of the data source that excludes the line, empty if none."),
    "variant_of": ("string", "Product that `product_id` is a variant of, null if it is none."),
    "line": ("string", "The landed line as it was."),
}

_STATISTICS: dict[str, Column] = {
    "order_lines": ("bigint", "Order lines of the product in the lookback: an order with two lines counts twice."),
    "recent_order_lines": ("bigint", "Order lines of the product in the recent days."),
    "recent_buyers": ("bigint", "Customers with a recent purchase."),
    "interval_days": ("double", "Mean days between the purchases of repeat buyers."),
    "returns": ("bigint", "Return lines in the lookback."),
}

_ROWS = ", by their rows in this table, from 0"

_FEATURES: dict[str, str] = {
    "repeat_score": "Time-decayed purchases of the product by the customer.",
    "repeat_score_share": "Share of `repeat_score` in the customer's total.",
    "repeat_decayed_30": "Purchases, decayed with a half-life of 30 days.",
    "repeat_decayed_240": "Purchases, decayed with a half-life of 240 days.",
    "repeat_order_lines": "Order lines of the customer with the product.",
    "repeat_days": "Days on which the customer bought the product.",
    "repeat_last_age": "Days since the customer last bought the product.",
    "repeat_first_age": "Days since the customer first bought the product.",
    "repeat_interval": "Mean days between the customer's purchases of the product.",
    "repeat_due": "`repeat_last_age` divided by `repeat_interval`.",
    "repeat_orders_since": "Orders of the customer since the last one with the product.",
    "als_score": "Dot product of the ALS factors.",
    "als_relative": "`als_score` divided by the customer's highest.",
    "same_basket": "Co-purchase score: bought on the same day as profile items.",
    "next_basket": "Co-purchase score: bought in the orders after profile items.",
    "co_purchase_relative": "Sum of both co-purchase scores, divided by the customer's highest.",
    "same_basket_last_visit": "`same_basket` from the last order or session only.",
    "next_basket_last_visit": "`next_basket` from the last order or session only.",
    "ease_score": "EASE score.",
    "ease_relative": "EASE score divided by the customer's highest.",
    "ease_last_visit": "EASE score from the last order or session only.",
    "text_score": "Text similarity to profile items.",
    "text_relative": "Text similarity divided by the customer's highest.",
    "text_last_visit": "Text similarity to the last order or session only.",
    "text_orders_since": "Orders of the customer since the last one with a product of this text.",
    "text_lines": "Decayed lines of the customer's history with this text; a click has a smaller weight.",
    "text_products": "Products with this text in the customer's history.",
    "text_share": "The product's share in the order lines of all products with its text.",
    "text_expected": "`text_lines` times `text_share`.",
    "text_expected_recent": "`text_lines` times the product's share in the recent order lines of its text.",
    "category_affinity": "Share of the category in the customer's decayed history; 0 without recent order lines.",
    "category_score": "`category_affinity` times the product's share in its category.",
    "category_orders_since": "Orders of the customer since the last one in this category.",
    "category_lines": "Decayed lines of the customer's history in this category; a click has a smaller weight.",
    "category_products": "Products of this category in the customer's history.",
    "category_expected": "`category_lines` times the product's share in the recent order lines of its category.",
    "brand_affinity": "Share of the brand in the customer's purchases.",
    "brand_orders_since": "Orders of the customer since the last one of this brand.",
    "popularity": "Logarithm of the product's order lines (`order_lines` of `product_statistics`).",
    "recent_popularity": "Logarithm of the product's recent order lines.",
    "trend": "Logarithm of the share of recent order lines, relative to the share of all order lines.",
    "buyers": "Logarithm of the customers who bought the product in the lookback.",
    "new_buyers": "Logarithm of the customers whose first purchase of the product is recent.",
    "repeat_share": "Share of buyers who bought the product on more than one day.",
    "product_interval": "Mean days between purchases of the product by its repeat buyers.",
    "price": "Price of the product.",
    "price_relative": "Logarithm of the price, relative to what the customer usually pays.",
    "product_age": "Days since the product was first seen.",
    "customer_orders": "Orders of the customer.",
    "customer_days": "Days on which the customer bought.",
    "customer_last_age": "Days since the customer's last order.",
    "customer_lines_per_order": "Mean lines per order of the customer.",
    "customer_repeat": "Mean order lines per distinct product of the customer.",
}
"""Features of the ranker, in the order of the columns."""


def _columns(names: str, own: Mapping[str, Column]) -> dict[str, Column]:
    """The columns of a table in order: its own, and SHARED ones."""
    return {name: own.get(name) or SHARED[name] for name in names.split()}


TABLES: dict[str, dict[str, Column]] = {
    "raw_purchase_logs": _columns(
        "source_file source_row order_id customer_id product_id event_time quantity unit_price rating "
        "is_return was_returned wrong_size excluded_by title category brand text variant_of line",
        _RAW,
    ),
    "rejected_purchases": _columns(
        "source_file source_row order_id customer_id product_id event_time quantity unit_price rating "
        "is_return was_returned wrong_size excluded_by title category brand text variant_of line reasons",
        {
            **_RAW,
            "reasons": ("string", "Names of the cleaning rules that reject the line, comma-separated."),
        },
    ),
    "raw_product_catalog": _columns(
        "product_id title category brand text price available_from image link attributes taste variant_of in_stock "
        "excluded source_file source_row",
        {
            "variant_of": _RAW["variant_of"],
            "available_from": ("date", "First day on which the product is sold."),
        },
    ),
    "catalog_ids": _columns("product_id variant_of excluded", {"variant_of": _RAW["variant_of"]}),
    "raw_feedback_events": _columns(
        "event_id type customer_id session_id product_id time order_id quantity unit_price recommendation_id "
        "position received sender source_file source_row",
        {
            "event_id": ("string", "Id of the event, unique per sender."),
            "type": (
                "string",
                "Event type: impression, click, view, wishlist, cart, removal, dismissal, purchase or return.",
            ),
            "time": ("timestamp", "Time of the event (UTC)."),
            "position": ("bigint", "Rank of the product in the list, from 1."),
            "received": ("double", "Time at which the API received the event (seconds since 1970)."),
            "sender": ("string", "Shopper who sent the event with a public key; null for the shop's own keys."),
        },
    ),
    "experiment_exposures": _columns(
        "recommendation_id experiment variant time customer_id session_id model_version mode exploration "
        "filtered answered_by products propensities teams simulated source_file source_row",
        {
            "time": ("timestamp", "Time of the response (UTC)."),
            "model_version": ("bigint", "Model version that made the response."),
            "mode": ("string", "Requested mode (all, discover or buy_again), or that of the variant."),
            "exploration": ("double", "Strength of the randomized ranking."),
            "filtered": ("boolean", "Whether the request had filters or events, or merchandising rules were active."),
            "answered_by": (
                "string",
                "What the response is based on: customer, session, popular_in_category, popular or holdout.",
            ),
            "products": ("array<string>", "Recommended products, rank 1 first."),
            "propensities": ("array<double>", "Probability of each product at its rank, null if unknown."),
            "teams": ("array<string>", "Variant of each product in an interleaved list."),
        },
    ),
    "cleaned_interactions": _columns(
        "line_id order_id customer_id product_id variant_id event event_time weight quantity net_quantity unit_price "
        "rating wrong_size title category brand text",
        {
            "line_id": ("string", "Id of the line: file and row."),
            "event": (
                "string",
                "Event type: purchase, return, dismissal, or a sign of interest: click, view, wishlist or cart.",
            ),
            "weight": (
                "double",
                "Training weight: 1 for a purchase or return, less for a sign of interest, 0 for a bulk order, −0.5 "
                "for a dismissal.",
            ),
            "net_quantity": ("double", "Quantity without returned units."),
        },
    ),
    "products": _columns(
        "product_id title category brand text content_hash price first_seen image link attributes taste variants "
        "in_stock in_catalog excluded",
        {
            "first_seen": ("date", "First day with a purchase of the product, or the catalog's date."),
            "in_catalog": ("boolean", "Whether the newest catalog contains the product."),
        },
    ),
    "customer_histories": _columns(
        "customer_id product_id variant_id order_id event age_days weight quantity unit_price rating wrong_size",
        {
            "event": (
                "string",
                "Event type: purchase, return, dismissal, or a sign of interest: click, view, wishlist or cart.",
            ),
            "age_days": ("int", "Days before the as-of day."),
            "weight": (
                "double",
                "1 for a purchase, 0 for a bulk order, −1 for a return, −0.5 for a dismissal, between 0 and 1 for a "
                "sign of interest.",
            ),
            "quantity": ("double", "Units kept of a purchase, or returned."),
        },
    ),
    "product_statistics": _columns(
        "product_id order_lines recent_order_lines recent_buyers new_buyers buyers repeat_share interval_days "
        "price revenue returns",
        {
            **_STATISTICS,
            "revenue": ("double", "Sales value in the lookback."),
        },
    ),
    "als_model": _columns(
        "kind id factors",
        {
            "kind": ("string", "`customer` or `product`."),
            "id": ("string", "Id of the customer or product."),
            "factors": ("array<float>", "ALS factors."),
        },
    ),
    "co_purchase_graph": _columns(
        "kind product_id neighbor_id weight support",
        {
            "kind": ("string", "Relation: same basket, next basket or same customers (EASE)."),
            "neighbor_id": ("string", "Id of the related product."),
            "weight": ("float", "Weight of the relation."),
            "support": (
                "int",
                "Number of days (same basket), pairs of orders (next basket) or customers (EASE) with both.",
            ),
        },
    ),
    "product_embeddings": _columns(
        "content_hash vector",
        {
            "vector": ("array<float>", "Unit vector of the text."),
        },
    ),
    "similar_texts": _columns(
        "content_hash similar_texts similar_texts_weight center changed",
        {
            "similar_texts": ("array<int>", f"The most similar texts{_ROWS}."),
            "similar_texts_weight": ("array<float>", "Their squared cosines."),
            "center": (
                "array<float>",
                "Mean embedding when all texts were looked up, which was subtracted; only in the first row.",
            ),
            "changed": ("bigint", "Texts added and removed since all were looked up; the same in all rows."),
        },
    ),
    "product_snapshot": _columns(
        "product_id title category brand image link attributes taste variants in_stock price list_price age_days "
        "order_lines recent_order_lines recent_buyers new_buyers buyers returns repeat_share interval_days factors "
        "same_basket same_basket_weight next_basket next_basket_weight ease ease_weight text_row embedding "
        "similar_texts similar_texts_weight als_as_of graph_as_of",
        {
            **_STATISTICS,
            "price": ("double", "Mean unit price paid in the lookback, else `list_price`."),
            "list_price": ("double", "Current price: from the catalog, else the mean price of all days."),
            "age_days": ("int", "Days since the product was first seen."),
            "factors": ("array<float>", "ALS factors, empty if the product has none."),
            "same_basket": ("array<int>", f"Products bought on the same day{_ROWS}."),
            "same_basket_weight": ("array<float>", "Their weights."),
            "next_basket": ("array<int>", f"Products bought in the customers' next orders{_ROWS}."),
            "next_basket_weight": ("array<float>", "Their weights."),
            "ease": ("array<int>", f"Products of the same customers (EASE){_ROWS}."),
            "ease_weight": ("array<float>", "Their weights."),
            "text_row": ("int", "Number of the product's text, from 0; null without a text."),
            "embedding": ("array<float>", "Unit vector of the text; only at the first product with this text."),
            "similar_texts": (
                "array<int>",
                "The most similar texts by their `text_row`; only at the first product with this text.",
            ),
            "similar_texts_weight": ("array<float>", "Their squared cosines."),
        },
    ),
    "candidates": _columns(
        "customer_id product_id co_purchase_anchor text_anchor return_rate complement "
        f"{' '.join(_FEATURES)} als_as_of graph_as_of",
        {
            **{name: ("float", text) for name, text in _FEATURES.items()},
            "co_purchase_anchor": ("string", "Profile item with the highest co-purchase weight, empty if none."),
            "text_anchor": ("string", "Profile item with the most similar text, empty if none."),
            "return_rate": (
                "float",
                "Expected share of returns: the smoothed rate of the product, adjusted by the customer's rate.",
            ),
            "complement": (
                "float",
                "Same-basket weight with the last order; 0 for its own products, and after a later session.",
            ),
        },
    ),
    "ranker": _columns(
        "model features recipe",
        {
            "model": ("binary", "Serialized XGBoost model."),
            "features": ("array<string>", "Feature names in the model's order."),
        },
    ),
    "hybrid_scores": _columns(
        "customer_id list rank product_id score source reason rule rules_version als_as_of ranker_as_of",
        {
            "list": ("string", "`all`, or `discover` without products that the customer bought in the lookback."),
            "source": (
                "string",
                "Source that contributed most to the score, among those that can explain the item; or `pinned`.",
            ),
            "rule": ("string", "Merchandising rule that raised or pinned the item, null if none."),
            "rules_version": ("string", "Version of the rule set, empty without rules."),
        },
    ),
    "recommendations_export": _columns(
        "table customers",
        {
            "table": ("string", "SQL table that has the lists."),
            "customers": ("bigint", "Rows of the table."),
        },
    ),
    "similar_products": _columns(
        "product_id kind rank similar_product_id score reason",
        {
            "kind": ("string", "`substitute` or `complement`."),
            "similar_product_id": ("string", "Id of the similar product."),
            "score": (
                "double",
                "Score; higher is better. In a list, `rank` decides: rules move items without changing their score.",
            ),
        },
    ),
    "evaluation_report": _columns(
        "slice model metric k value ci_low ci_high customers baseline",
        {
            "slice": ("string", "Group of customers or purchases that is evaluated."),
            "model": ("string", "The hybrid lists or a baseline."),
            "k": ("bigint", "Number of ranks that the metric uses."),
            "value": ("double", "Value of the metric, or difference from the baseline."),
            "ci_low": ("double", "Lower end of the 95% confidence interval."),
            "ci_high": ("double", "Upper end of the 95% confidence interval."),
            "customers": ("bigint", "Number of evaluated customers."),
            "baseline": ("string", "Baseline of a difference, null for a metric."),
        },
    ),
    "live_accuracy": _columns(
        "customers hit_rate precision lines unknown_products unknown_customers",
        {
            "customers": ("bigint", "Buyers of the day who had a list."),
            "hit_rate": ("double", "Share of buyers who bought an item of their list."),
            "precision": ("double", "Share of the items of these lists that were bought."),
            "lines": ("bigint", "Number of purchase lines of the day."),
            "unknown_products": ("double", "Share of lines for products without ALS factors."),
            "unknown_customers": ("double", "Share of lines from customers without a list."),
        },
    ),
    "challenger": _columns(
        "version as_of index_as_of als_as_of graph_as_of ranker_as_of recipe content data_fingerprint dagster_run_id "
        "git_commit table_versions model_fingerprints",
        {
            "as_of": ("string", "As-of day of the release."),
            "index_as_of": ("string", "As-of day of the products and customers in the registered model."),
            "als_as_of": ("string", "As-of day of the ALS model."),
            "graph_as_of": ("string", "As-of day of the co-purchase graph."),
            "ranker_as_of": ("string", "As-of day of the ranker."),
            "content": ("string", "SHA-256 of the models and the recipe."),
            "data_fingerprint": ("string", "Fingerprint of the training data."),
            "dagster_run_id": ("string", "Dagster run that registered the version."),
            "git_commit": ("string", "Git commit of the code."),
            "table_versions": ("string", "Version in the lake of each table that the release was made from, as JSON."),
            "model_fingerprints": ("string", "Fingerprint of each of its models, as JSON."),
        },
    ),
    "release_gate": _columns(
        "version name value limit passed message",
        {
            "name": ("string", "Name of the gate check."),
            "value": ("double", "Measured value."),
            "limit": ("double", "Limit for the value."),
            "passed": ("boolean", "Whether the check passed."),
            "message": ("string", "Result as a sentence."),
        },
    ),
    "champion": _columns(
        "version",
        {},
    ),
    "serving_index": _columns(
        "version path",
        {
            "path": ("string", "Folder name of the serving index."),
        },
    ),
    "business_kpis": _columns(
        "kpi value numerator denominator",
        {
            "kpi": ("string", "Name of the KPI."),
            "value": ("double", "Numerator divided by denominator."),
            "numerator": ("double", "Numerator of the value."),
            "denominator": ("double", "Denominator of the value."),
        },
    ),
    "experiment_report": _columns(
        "experiment variant metric verdict message is_main simulated units control control_error treatment "
        "treatment_error difference error low high always_low always_high p_value always_p_value "
        "variance_reduction sample_ratio_p detectable_effect days_left",
        {
            "verdict": ("string", "Verdict on the experiment."),
            "message": ("string", "Verdict as a sentence."),
            "is_main": ("boolean", "Whether the metric is the main metric."),
            "units": ("bigint", "Number of units in the experiment."),
            "control": ("double", "Mean of the control."),
            "control_error": ("double", "Standard error of the control's mean."),
            "treatment": ("double", "Mean of the variant."),
            "treatment_error": ("double", "Standard error of the variant's mean."),
            "difference": ("double", "Variant minus control."),
            "error": ("double", "Standard error of the difference."),
            "low": ("double", "Lower end of the confidence interval, at the significance level of the experiment."),
            "high": ("double", "Upper end of the confidence interval, at the significance level of the experiment."),
            "always_low": ("double", "Lower end of the always-valid interval."),
            "always_high": ("double", "Upper end of the always-valid interval."),
            "p_value": ("double", "p-value of the difference."),
            "always_p_value": ("double", "Always-valid p-value."),
            "variance_reduction": ("double", "Share of variance that CUPED removes."),
            "sample_ratio_p": ("double", "p-value of the sample ratio test."),
            "detectable_effect": (
                "double",
                "Smallest effect that the traffic so far could show, relative to the control.",
            ),
            "days_left": ("double", "Days until the planned `minimum_detectable_effect` is detectable."),
        },
    ),
    "recipe": _columns(
        "name value default why",
        {
            "name": ("string", "Hyper-parameter by its dotted name, such as `als.half_life_days`."),
            "value": ("double", "Its value for this shop."),
            "default": ("double", "Its default."),
            "why": ("string", "Why this value suits the shop."),
        },
    ),
    "tuned_recipe": _columns(
        "origin study trial value base_value as_of recipe",
        {
            "origin": ("string", "`settings`, or the study and trial of the recipe."),
            "study": ("string", "Name of the Optuna study, null without one."),
            "trial": ("bigint", "Number of the trial."),
            "value": ("double", "Mean NDCG@10 of the trial."),
            "base_value": ("double", "Mean NDCG@10 of the recipe that was active before."),
            "as_of": ("string", "Last day that the study used."),
        },
    ),
}


def stored_schema(table: str, schema: pa.Schema) -> pa.Schema:
    """The columns of a frame as a table stores them: with declared types, and descriptions as comments."""
    declared = TABLES.get(table, {})
    fields = []
    for field in schema:
        type_, text = declared.get(field.name, (spark_type(field.type), ""))
        fields.append(pa.field(field.name, arrow_type(type_), metadata={"comment": text} if text else None))
    return pa.schema(fields)

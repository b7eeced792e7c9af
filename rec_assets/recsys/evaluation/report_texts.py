"""Names of slices and metrics in the evaluation report, and one sentence about each metric."""

from rec_assets.recsys.evaluation.evaluate import ACTIVITY, ALL, COLD_PRODUCTS, NEW_CUSTOMERS, NOVEL

TITLES = {
    ALL: "All purchases",
    NOVEL: "Novel purchases",
    NEW_CUSTOMERS: "New customers",
    COLD_PRODUCTS: "Cold products",
} | {group: group.capitalize() for group in ACTIVITY}

ACCURACY = {
    "ndcg": ("NDCG", "Counts hits with a weight that falls with the rank. 1 is the best possible list."),
    "precision": ("Precision", "The share of the shown products that the customer bought later."),
    "recall": ("Recall", "The share of the products bought later that the list shows."),
    "map": ("MAP", "The mean precision at the ranks of the hits. It is high if hits are at the top."),
    "mrr": ("MRR", "1 divided by the rank of the first hit: 1 for rank 1, 1/2 for rank 2, 0 without a hit."),
    "hit_rate": ("Hit rate", "The share of customers who bought at least one of the shown products."),
}
"""Metric → name and description."""

BEYOND_ACCURACY = {
    "catalog_coverage": ("Coverage", "The share of the catalog that is shown to at least one customer."),
    "gini": (
        "Gini",
        "How unevenly positions are distributed over products: 0 if all are shown equally often, close to 1 if a few "
        "products take almost all positions.",
    ),
    "novelty": (
        "Novelty",
        "How far the lists are from best sellers. One bit more means products bought by half as many customers.",
    ),
    "intra_list_diversity": (
        "Diversity",
        "How different the product texts of one list are: 0 if all are equal, about 1 if they have nothing in common.",
    ),
}
"""Metric → name and description."""

"""Fold-in: customer vectors from histories and fixed product factors. This is half a step of ALS, in numpy.

Because of it, scoring uses new histories without training, and the API uses the last click of a visitor. The factors
are trained in `als.py`.
"""

from __future__ import annotations

import numpy as np

from rec_assets.recsys.arrays import Floats
from rec_assets.recsys.data.histories import Histories
from rec_assets.recsys.data.product_snapshot import ProductSnapshot
from rec_assets.recsys.recipe import AlsRecipe


def fold_in(histories: Histories, snapshot: ProductSnapshot, recipe: AlsRecipe) -> Floats:
    """(n, k) customer vectors: the least-squares solution of ALS for these histories.

    If the histories have ratings r, the explicit problem min Σ (r − x·y)² + ρ·|x|² is solved. Otherwise it is the
    implicit one, min Σ c (p − x·y)² + ρ·|x|², with confidence c = 1 + α·r of decayed orders and interest r. ρ is
    `AlsRecipe.ridge` of the number of the customer's products with factors. Sources: Hu, Koren, Volinsky 2008; Zhou et
    al. 2008 for λ times that number.

    Customers without such products get zeros.
    """
    factors = snapshot.factors
    n, k = len(histories.customer_ids), factors.shape[1]
    vectors = np.zeros((n, k), np.float32)
    explicit = bool(np.isfinite(histories.rating).any())
    strength = histories.rating if explicit else histories.interest(recipe.half_life_days)
    usable = np.isfinite(strength) & snapshot.has_factors[histories.product]
    customer, product, strength = histories.customer[usable], histories.product[usable], strength[usable]
    gram = np.zeros((k, k)) if explicit else snapshot.gram
    bounds = np.searchsorted(customer, np.arange(n + 1))
    identity = np.eye(k)
    for row in np.flatnonzero(np.diff(bounds)):
        pairs = slice(bounds[row], bounds[row + 1])
        y, r = factors[product[pairs]].astype(np.float64), strength[pairs].astype(np.float64)
        extra, target = (np.ones_like(r), r) if explicit else (recipe.alpha * r, 1 + recipe.alpha * r)
        system = gram + (y * extra[:, None]).T @ y + recipe.ridge(len(r)) * identity
        vectors[row] = np.linalg.solve(system, y.T @ target)
    return vectors

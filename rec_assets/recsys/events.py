"""Types of events, by the names that purchase logs and the API use, and limits on texts."""

IMPRESSION, CLICK, CART, PURCHASE, RETURN = ("impression", "click", "cart", "purchase", "return")
VIEW, WISHLIST, REMOVAL, DISMISSAL = ("view", "wishlist", "removal", "dismissal")

EVENT_TYPES = (IMPRESSION, CLICK, VIEW, WISHLIST, CART, REMOVAL, DISMISSAL, PURCHASE, RETURN)
"""All types. A `view` is of a product's page, a `removal` from the cart. A `dismissal` says "don't show me this"."""

DISMISSED = -0.5
"""The weight of a dismissal in histories: between that of a return, −1, and that of a bulk order, 0."""

MONEY = (PURCHASE, RETURN)
"""Events with an amount of money."""

MAX_ID_LENGTH = 512
"""Maximum number of characters of an id. In any script, it fits into an index of PostgreSQL (2,704 bytes)."""

MAX_NAME_LENGTH = 512
"""Maximum number of characters of a title, category or brand; longer ones are cut."""

MAX_TEXT_LENGTH = 10_000
"""Maximum number of characters of a product text; longer ones are cut. The encoder reads the first few hundred."""

"""Types of events, by the names that purchase logs and the API use, and limits on texts."""

IMPRESSION, CLICK, CART, PURCHASE, RETURN = EVENT_TYPES = ("impression", "click", "cart", "purchase", "return")

INTEREST = (CLICK, CART)
"""Signs of interest: they show what a customer likes, and are no purchases."""

MONEY = (PURCHASE, RETURN)
"""Events with an amount of money."""

MAX_ID_LENGTH = 512
"""Maximum number of characters of an id. In any script, it fits into an index of PostgreSQL (2,704 bytes)."""

MAX_NAME_LENGTH = 512
"""Maximum number of characters of a title, category or brand; longer ones are cut."""

MAX_TEXT_LENGTH = 10_000
"""Maximum number of characters of a product text; longer ones are cut. The encoder reads the first few hundred."""

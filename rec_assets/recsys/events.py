"""What may happen with a product, by the names that logs and API use."""

IMPRESSION, CLICK, CART, PURCHASE, RETURN = EVENT_TYPES = ("impression", "click", "cart", "purchase", "return")

INTEREST = (CLICK, CART)
"""Signs of interest: they tell what a customer likes, and are nothing bought."""

MONEY = (PURCHASE, RETURN)
"""Events that tell what was paid, or paid back."""

LONGEST_ID = 512
"""Characters of the longest id: so long, it still fits into an index of PostgreSQL (2,704 bytes) in any script."""

LONGEST_NAME = 512
"""Characters of the longest title, category and brand; longer ones are cut."""

LONGEST_TEXT = 10_000
"""Characters of the longest text of a product; longer ones are cut. The encoder reads the first few hundred."""

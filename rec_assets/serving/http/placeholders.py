"""Drawn pictures of categories, for the demo shop: its products may have no pictures."""

from __future__ import annotations

import hashlib
import re
from typing import NamedTuple


class _Shape(NamedTuple):
    """SVG paths of a thing and of a detail of it, such as its label; and words in the names of its categories."""

    body: str
    detail: str
    words: str = "$^"


_SHAPES = (
    _Shape(
        "M88 30h24v26q16 12 16 34v74q0 8-8 8H80q-8 0-8-8V90q0-22 16-34z", "M78 104h44v36H78z",
        "drink|beer|wine|water|juice|soda|oil|sauce|dressing|syrup|vinegar|liquor",
    ),
    _Shape("M70 66l16-28h28l16 28v104H70z", "M86 38v-10h28v10z M78 96h44v42H78z", "milk|cream|egg|dairy|yogurt|butter"),
    _Shape("M66 56q34-16 68 0v96q-34 16-68 0z", "M66 80h68v50H66z", "canned|soup|bean|tuna|cat food|dog food|paint"),
    _Shape(
        "M46 112q-10-46 54-46t54 46v38q0 8-8 8H54q-8 0-8-8z",
        "M74 86l-8 22h8l8-22z M102 84l-8 24h8l8-24z M130 86l-8 22h8l8-22z",
        "bread|bak|cake|cookie|roll|bun|donut|pastr|pizza|cracker",
    ),
    _Shape(
        "M100 70q-40-18-50 26 0 50 34 68 16 6 16-2 0 8 16 2 34-18 34-68-10-44-50-26z", "M98 66q0-22 20-28-2 22-16 28z",
        "fruit|apple|berr|banana|tomato|salad|potato|onion|produce|vegetable|grape|citrus|melon|pepper|carrot|tropical",
    ),
    _Shape(
        "M62 48h76l8 118q-46 14-92 0z", "M62 48l6-12h64l6 12z M76 84h48v44H76z",
        "chip|snack|candy|popcorn|nut|frozen|rice|pasta|cereal|chocolate|pet|seafood|meat|chicken|beef|pork",
    ),
    _Shape(
        "M70 78h60q8 6 8 16v68q0 8-8 8H70q-8 0-8-8V94q0-10 8-16z M92 60h16V42h30v-8H92z",
        "M84 60h32v14H84z M72 108h56v34H72z",
        "soap|shampoo|hair|makeup|make up|deodorant|clean|detergent|lotion|oral|health|vitamin|cold|hygiene|laundry",
    ),
    _Shape(
        "M70 62h60q10 8 10 22v76q0 10-10 10H70q-10 0-10-10V84q0-14 10-22z", "M74 40h52v18H74z M60 96h80v40H60z",
        "cheese|jam|jelly|honey|peanut|spread|pickle|spice|season|baby|coffee|tea|skin",
    ),
    _Shape("M96 92h8v78h-8z M100 150q22-4 30-24-22 0-30 16z",
           "M100 56a15 15 0 1 1 22 18 15 15 0 1 1-12 24 15 15 0 1 1-20 0 15 15 0 1 1-12-24 15 15 0 1 1 22-18z",
           "flower|garden|floral|plant|greeting"),
)  # fmt: skip
_BOX = _Shape("M52 66l48-20 48 20v78l-48 22-48-22z", "M52 66l48 20 48-20-8-4-40 16-40-16z")


def draw_category(category: str) -> str:
    """A still life as SVG: a shape that fits the words of the category, in a color of its own."""
    number = int(hashlib.sha256(category.encode()).hexdigest()[:8], 16)
    fits = (shape for shape in _SHAPES if re.search(rf"\b(?:{shape.words})", category, re.IGNORECASE))
    shape, hue, other = next(fits, _BOX), number % 360, number // 360 % 60 + 20
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200" width="200" height="200">'
        f'<rect width="200" height="200" fill="hsl({hue} 28% 93%)"/>'
        f'<rect y="150" width="200" height="50" fill="hsl({hue} 22% 87%)"/>'
        f'<ellipse cx="100" cy="168" rx="56" ry="7" fill="hsl({hue} 20% 78%)"/>'
        f'<path d="{shape.body}" fill="hsl({hue} 38% 58%)"/>'
        f'<path d="{shape.detail}" fill="hsl({hue + other} 45% 88%)"/></svg>'
    )

"""Pictures of the synthetic fashion shop, drawn as SVG."""

from __future__ import annotations

from typing import NamedTuple


class Color(NamedTuple):
    """A color of a variant."""

    name: str
    code: str


COLORS = (
    Color("black", "#2b2b2f"), Color("white", "#f4f2ec"), Color("red", "#b3343c"), Color("blue", "#32538f"),
    Color("green", "#4d6b4c"), Color("beige", "#d3bf9f"), Color("pink", "#d99aa9"), Color("yellow", "#dcb34b"),
)  # fmt: skip

_SHAPES = {
    "T-shirts": "M60 60 L85 48 Q100 62 115 48 L140 60 L160 92 L138 102 L134 92 L134 156 L66 156 L66 92 "
                "L62 102 L40 92 Z",
    "Knitwear": "M58 58 L84 46 Q100 58 116 46 L142 58 L158 140 L138 144 L132 104 L132 160 L68 160 L68 104 L62 144 "
                "L42 140 Z",
    "Dresses": "M80 40 L90 40 Q100 52 110 40 L120 40 L122 84 L150 164 L50 164 L78 84 Z",
    "Jackets": "M58 56 L86 44 L100 60 L114 44 L142 56 L156 136 L136 140 L132 112 L132 164 L102 164 L102 70 L98 70 "
               "L98 164 L68 164 L68 112 L64 140 L44 136 Z",
    "Trousers": "M70 38 L130 38 L138 166 L110 166 L100 82 L90 166 L62 166 Z",
    "Sneakers": "M36 128 L40 96 L62 92 Q76 110 100 100 L128 118 Q160 122 166 136 L166 148 L36 148 Z",
    "Boots": "M70 40 L110 40 L112 112 Q150 122 160 138 L160 154 L70 154 Z",
    "Bags": "M50 84 L150 84 L160 158 L40 158 Z M74 84 Q76 46 100 46 Q124 46 126 84 L116 84 Q114 58 100 58 "
            "Q86 58 84 84 Z",
    "Lipstick": "M86 96 L86 60 L104 44 L114 54 L114 96 Z M80 100 L120 100 L120 160 L80 160 Z",
    "Skin care": "M84 40 L116 40 L116 58 L84 58 Z M76 62 L124 62 Q136 70 136 84 L136 160 L64 160 L64 84 Q64 70 76 62 Z",
}  # fmt: skip
_BACKGROUNDS = ("#efece6", "#e6ecef", "#efe8ec", "#e9efe6", "#f1efe4", "#e9e6ef")


def draw(category: str, color: Color, background: int) -> str:
    """A product as a filled shape on a plain background."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200" width="400" height="400">'
        f'<rect width="200" height="200" fill="{_BACKGROUNDS[background % len(_BACKGROUNDS)]}"/>'
        f'<path d="{_SHAPES[category]}" fill="{color.code}" fill-rule="evenodd" stroke="#00000033" stroke-width="1.5" '
        'stroke-linejoin="round"/></svg>'
    )

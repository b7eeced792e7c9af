"""Pictures, links, attributes, variants and stock in the catalog."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from rec_assets.sources.catalog import CATALOG_SCHEMA, read_catalog
from rec_assets.sources.errors import SourceError
from rec_assets_tests.sources.reading import shop, write


def read(folder: Path, content: str, fields: str, attributes: str = "{}", format: str = "csv") -> pd.DataFrame:
    name = "products.csv" if format == "csv" else "products.jsonl"
    write(folder, content, name)
    rest = (
        f"catalog: {{path: {name}, format: {format}, columns: {{product_id: sku, {fields}}}, attributes: {attributes}}}"
    )
    table = read_catalog(shop(folder, rest=rest))
    assert table.schema.equals(CATALOG_SCHEMA)
    return table.to_pandas().set_index("product_id")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("https://cdn.example/tea.jpg?w=200", "https://cdn.example/tea.jpg?w=200"),
        ("HTTP://cdn.example/tea.jpg", "HTTP://cdn.example/tea.jpg"),
        ("//cdn.example/tea.jpg", "//cdn.example/tea.jpg"),
        ("/images/tea.jpg", "/images/tea.jpg"),
        ("images/tea.jpg", "images/tea.jpg"),
        ('"https://a.example/1.jpg, https://a.example/2.jpg"', "https://a.example/1.jpg"),
        ("https://a.example/1.jpg|https://a.example/2.jpg", "https://a.example/1.jpg"),
        ('"[""https://a.example/1.jpg"", ""https://a.example/2.jpg""]"', "https://a.example/1.jpg"),
        ("javascript:alert(1)", None),
        (" JavaScript:alert(1)", None),
        ('"data:image/svg+xml;base64,AAAA"', None),
        ("vbscript:x", None),
        ("\x01javascript:alert(1)", None),
        ("https://a.example/\x07x", None),
        ("file:///etc/passwd", None),
        ("https://", None),
        ("", None),
        (f"https://a.example/{'x' * 2100}", None),
    ],
)
def test_an_image_is_a_url_that_a_browser_can_load(tmp_path: Path, written: str, expected: str | None) -> None:
    good = "https://shop.example/x"
    content = f"sku,pic,page\n1,{written},{good}\n2,{good},{good}\n3,{good},{written}\n"
    found = read(tmp_path, content, "image: pic, link: page")
    assert found.loc["1", "image"] == expected and found.loc["3", "link"] == expected
    assert found.loc["2", "image"] == good


def test_a_column_that_has_no_links_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"products\.csv: column 'pic': 2 of 3 values are not links .* in row 1"):
        read(tmp_path, "sku,pic\n1,javascript:a\n2,javascript:b\n3,/c\n", "image: pic")


def test_attributes_have_types(tmp_path: Path) -> None:
    content = (
        "sku,Colour,sizes,Margin %,since\n"
        "1, red ,S|M | L|M,0.3,2024-01-31T10:00\n"
        '2,,"[""S"", 42]","1,200",31.1.2024\n'
        "3,null,,,\n"
        "4,blue,S,0.1,2024-02-01\n"
    )
    attributes = (
        "{color: {type: text, column: Colour, taste: true}, sizes: {type: list, taste: true}, "
        'margin: {type: number, column: "Margin %", shown: false}, since: date}'
    )
    found = read(tmp_path, content, "", attributes)
    stored: dict[str, Any] = {key: value and json.loads(value) for key, value in found["attributes"].items()}
    assert stored == {
        "1": {"color": "red", "sizes": ["S", "M", "L"], "_margin": 0.3, "since": "2024-01-31"},
        "2": {"sizes": ["S", "42"], "_margin": 1200.0},
        "3": None,
        "4": {"color": "blue", "sizes": ["S"], "_margin": 0.1, "since": "2024-02-01"},
    }
    assert json.loads(found.loc["1", "taste"]) == ["color=red", "sizes=S", "sizes=M", "sizes=L"]
    assert found.loc["3", "taste"] is None


def test_lists_of_json_files_are_lists(tmp_path: Path) -> None:
    rows = [{"sku": "1", "sizes": ["S", "M"], "about": {"color": "red"}}, {"sku": "2"}]
    attributes = "{sizes: list, color: {type: text, column: about.color}}"
    found = read(tmp_path, "\n".join(map(json.dumps, rows)), "", attributes, format="jsonl")
    assert json.loads(found.loc["1", "attributes"]) == {"sizes": ["S", "M"], "color": "red"}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("{margin: number}", "column 'margin': 2 of 3 values are not numbers, for example 'high' in row 1"),
        ("{since: date}", "column 'since': 2 of 3 values are not ISO dates"),
        ("{fabric: text}", "column 'fabric' is missing"),
        ("{color: shade}", "catalog.attributes.color.type"),
        ("{margin: {type: number, taste: true}}", "`taste` is only for text and list, not for number"),
        ("{_margin: number}", "catalog.attributes"),
        ("{color: {type: text, colum: x}}", "did you mean column?"),
        ("{size: text}", "set `columns.size` or the attribute `size`, not both"),
    ],
)
def test_attributes_that_can_not_be_read_are_an_error(tmp_path: Path, attributes: str, message: str) -> None:
    content = "sku,margin,since,size\n1,high,soon,S\n2,low,later,M\n3,0.3,2024-01-01,L\n"
    with pytest.raises(SourceError) as error:
        read(tmp_path, content, "size: size", attributes)
    assert message in str(error.value)


def test_variants_name_their_product(tmp_path: Path) -> None:
    content = "sku,style,dim\nshirt,,\nM,shirt,M\nL,shirt,L\nown,own,\nbag-red,bag,\nXL,L,XL\nnone,null,\n"
    found = read(tmp_path, content, "variant_of: style, size: dim")
    assert found["variant_of"].where(found["variant_of"].notna(), None).to_dict() == {
        "shirt": None, "M": "shirt", "L": "shirt", "own": None, "bag-red": "bag", "XL": "shirt", "none": None,
    }  # fmt: skip
    assert json.loads(found.loc["XL", "attributes"]) == {"size": "XL"}


@pytest.mark.parametrize("ring", ["a,b\nb,a", "a,b\nb,c\nc,a", "x,a\na,b\nb,a"])
def test_products_that_are_variants_of_each_other_are_an_error(tmp_path: Path, ring: str) -> None:
    with pytest.raises(SourceError, match=r"products\.csv: column 'style': a → b → .*a: products must not be variants"):
        read(tmp_path, f"sku,style\n{ring}\n", "variant_of: style")


@pytest.mark.parametrize(
    ("written", "in_stock"),
    [("3", True), ("0", False), ("-1", False), ("", True), ("yes", True), ("No", False), ("0.0", False),
     ("out of stock", False), ("0 pcs", False), ("12 pcs", True), ('"0,00"', False), ("Discontinued", False),
     ("in stock", True), ("preorder", True), ("FALSE", False), ("1e3", True)],
)  # fmt: skip
def test_stock_is_a_number_or_yes_and_no(tmp_path: Path, written: str, in_stock: bool) -> None:
    assert read(tmp_path, f"sku,units\n1,{written}\n", "stock: units").loc["1", "in_stock"] == in_stock

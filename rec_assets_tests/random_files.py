"""Read random changes of a file that people write, with limits of time and memory.

Run `python -m rec_assets_tests.random_files KIND FOLDER CHANGES`. The process ends if one change takes seconds or too
much memory.
"""

from __future__ import annotations

import re
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rec_assets.recsys.experiments.experiments_file import ExperimentsError, models_in, read_experiments
from rec_assets.recsys.recipe import Recipe
from rec_assets.recsys.rules.rules_file import RulesError, read_rules
from rec_assets.resources.lake import Lake
from rec_assets.resources.recipes import Recipes, RecipeUnreadable
from rec_assets.sources.errors import SourceError
from rec_assets.sources.spec import load_data_source

SECONDS = 5
"""Limit for one change on a busy machine; it normally takes milliseconds."""

MAX_EXTRA_BYTES = 200 * 2**20
"""Limit of additional memory."""

SOURCE = """
name: shop
time_zone: Europe/Berlin
first_day: 2016-03-01
last_day: 2019-12-31
purchases:
  path: "{home}/landing/shop/{date:%Y/%m/%d}/*.csv.gz"
  delimiter: ;
  decimal: ","
  encoding: latin-1
  time_format: "%d.%m.%Y %H:%M"
  columns:
    customer_id: Customer
    product_id: SKU
    time: Bought at
    order_id: Receipt
    quantity: Qty
    unit_price: Price
    title: [Product, Variant]
  order_columns: [State]
  bulk_quantity: 500
  exclude:
    SKU: [POSTAGE, "007"]
returns:
  negative_quantity: true
  status: {column: State, values: [returned], line_type: purchase}
catalog:
  path: products/*.csv
  columns: {product_id: SKU, title: [Product, Variant], price: List price}
"""

RULES = """
default: house
rule_sets:
  house:
    - {name: recalled, kind: exclude, products: {file: list.csv, categories: [tea]}}
    - name: from-two
      kind: min_price
      price: 2
    - {name: margin, kind: weight, value_file: list.csv, strength: 0.4}
    - {name: net, kind: returns_penalty, cost: 0.3}
    - name: tail
      kind: boost
      products:
        slow_movers: 0.3
      slots: 2
    - {name: enough, kind: frequency_cap, max_impressions: 4}
    - {name: launch, kind: pin, product_id: 0123, rank: 1}
  bare: []
"""

EXPERIMENTS = """
experiments:
  - name: diversity
    question: Does a little chance help?
    start: 2026-03-02
    end: 2026-03-29
    guardrails: {return_rate: 0.1}
    attribution_days: 7
    variants:
      control: {share: 0.4}
      chance: {share: 0.4, exploration: 0.2}
  - name: models
    start: 2026-04-02
    end: 2026-04-29
    variants:
      control:
        share: 0.5
      other:
        share: 0.5
        model: challenger
"""

LIST = 'product_id,value,why\n0123,2.5,"old, sold"\n7,1,\n"p ""9""",3,x\n'

RECIPE = '{\n "recipe": {\n  "als.rank": 64,\n  "als.alpha": 2.5\n },\n "provenance": {"study": "a", "trial": 7}\n}\n'

_VALUES = (
    ".nan", "nan", ".inf", "1e400", "-0", "9" * 5000, "0x1F", "9999-12-31", "0001-01-01", "2026-13-45", "~", "''", "[]",
    "{}", "[[a]]", "{a: b}", "!!int 3", "!!binary aGE=", "!!python/name:os.system", "!x y", "&a b", "*a", "&a [*a]",
    "&a {b: *a}", "[" * 50, "[" * 5000, "{a: " * 40, "x" * 150_000, '"\\0"', '"\\x85"', '"\\ud800"', "'a", '"a', "|",
    ">-", "- - - a", "? a", "<<", "@", "`", "%d", "{date:%Y}", "../../etc", "/dev/zero", "none", "champion", "\u202e",
    "\U0001f375", "é", "NaN", "1_000",
)  # fmt: skip
_LINES = (
    "---", "...", "%YAML 9.9", "%TAG ! x", "<<: *a", "<<: {a: b}", "\tx: y", "? [a]", ": b", "- ", "&a", "*a", "#", "",
    "a: &a [x, x, x]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\nd: [*c, *c, *c]",
    "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
    "".join(f"k{i}: {i}\n" for i in range(20_000)),
    "".join(f"  - {{name: n{i}, start: 2026-01-01}}\n" for i in range(2_000)),
)  # fmt: skip
_BYTES = (b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc3", b"\t", b"\r", b"\r\n", b"\x1b", b"\xe2\x80\xa8", b'"', b"'", b":")

_VALUE = re.compile(r"(?<=[:,\[] )[^\n,{}\[\]]+|(?<=,)[^\n,]+")

Change = Callable[[np.random.Generator, bytes], bytes]


def _change_lines(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.decode("utf-8", "replace").split("\n")
    at, other = (int(rng.integers(len(lines))) for _ in range(2))
    match int(rng.integers(8)):
        case 0:
            lines.insert(other, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at] = " " * int(rng.integers(1, 5)) + lines[at]
        case 3:
            lines[at] = lines[at][int(rng.integers(1, 5)) :]
        case 4:
            lines[at], lines[other] = lines[other], lines[at]
        case 5:
            lines.insert(at, _LINES[int(rng.integers(len(_LINES)))])
        case 6:
            lines[at] = lines[at].replace(": ", f": {rng.choice(['&a', '*a', '!!str', '!t'])} ", 1)
        case _:
            depth = int(rng.choice([1, 5, 31, 40, 1000, 50_000]))
            lines[at] = lines[at].replace(": ", ": " + "[" * depth, 1) + "]" * depth
    return "\n".join(lines).encode()


def _change_value(rng: np.random.Generator, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    values = [result.span() for result in _VALUE.finditer(text)]
    if not values:
        return content
    begin, end = values[int(rng.integers(len(values)))]
    return (text[:begin] + _VALUES[int(rng.integers(len(_VALUES)))] + text[end:]).encode()


def _change_bytes(rng: np.random.Generator, content: bytes) -> bytes:
    at = int(rng.integers(len(content) + 1))
    until = at + int(rng.integers(1, 20))
    match int(rng.integers(5)):
        case 0:
            return content[:at] + bytes(rng.integers(0, 256, 1, dtype=np.uint8)) + content[at + 1 :]
        case 1:
            return content[:at] + _BYTES[int(rng.integers(len(_BYTES)))] + content[at:]
        case 2:
            return content[:at] + content[until:]
        case 3:
            return content[:at] + content[at:until] * int(rng.integers(2, 2_000)) + content[until:]
        case _:
            return content[:at] if at % 5 else content.decode("utf-8", "replace").encode("utf-16")


_CHANGES: tuple[Change, ...] = (_change_lines, _change_value, _change_value, _change_bytes)


def change(content: str, seed: int) -> bytes:
    """Change the content at one or two random places."""
    rng = np.random.default_rng(seed)
    result = content.encode()
    for _ in range(int(rng.integers(1, 3))):
        result = _CHANGES[int(rng.integers(len(_CHANGES)))](rng, result)
    return result


def _use_source(path: Path) -> None:
    source = load_data_source(str(path), path.parent)
    assert source.version and source.glob(source.purchases.path)


def _use_rules(path: Path) -> None:
    rules = read_rules(path)
    assert rules.default in rules.sets and all(isinstance(rules.version(name), str) for name in rules.sets)


def _use_list(path: Path) -> None:
    (path.parent / "rules.yaml").write_text(RULES)
    _use_rules(path.parent / "rules.yaml")


def _use_experiments(path: Path) -> None:
    result = read_experiments(path)
    assert isinstance(models_in(result.experiments), set)
    assert all(each.traffic_days(each.last_purchase_day) > 0 for each in result.experiments)


def _use_recipe(path: Path) -> None:
    Recipes(Recipe(), path, Lake(path.parent)).tuned()


KINDS: dict[str, tuple[str, str, Callable[[Path], None], type[Exception]]] = {
    "source": ("shop.yaml", SOURCE, _use_source, SourceError),
    "rules": ("rules.yaml", RULES, _use_rules, RulesError),
    "list": ("list.csv", LIST, _use_list, RulesError),
    "experiments": ("experiments.yaml", EXPERIMENTS, _use_experiments, ExperimentsError),
    "recipe": ("recipe.json", RECIPE, _use_recipe, RecipeUnreadable),
}


def main(kind: str, folder: Path, changes: int) -> None:
    """Read all changes, and print how many are valid."""
    name, content, use, expected = KINDS[kind]
    path, valid = folder / name, 0
    (folder / "list.csv").write_text(LIST)
    path.write_text(content)
    use(path)  # unchanged
    memory = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (memory + MAX_EXTRA_BYTES,) * 2)
    for seed in range(changes):
        path.write_bytes(change(content, seed))
        signal.alarm(SECONDS)  # ends the process, also in native code
        try:
            use(path)
            valid += 1
        except expected as error:
            message = str(error)
            is_short_line = message.startswith(str(folder)) and message.isprintable() and len(message) < 4_000
            assert is_short_line, f"change {seed}: {message[:4000]!r}"
        except BaseException:
            print(f"change {seed} of {kind}", file=sys.stderr)
            raise
        finally:
            signal.alarm(0)
    print(valid)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

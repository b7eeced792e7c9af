"""The how-to page about a new rule kind, followed to the end in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "how-to" / "add-a-merchandising-rule.md"

USE = """
import sys
from pathlib import Path

import pytest
import numpy as np
from rec_assets.recsys.rules.compiled import compile_rules
from rec_assets.recsys.rules.effects import ScoredCandidates
from rec_assets.recsys.rules.rerank import rerank
from rec_assets.recsys.rules.rules_file import read_rules
from rec_assets_tests.serving import shop

rules = compile_rules(read_rules(Path("rules.yaml")), "house", shop.product_snapshot())
best_seller_last = np.array([30, 20, 0])
scored = ScoredCandidates(best_seller_last, np.array([0.3, 0.3, 0.3]), np.zeros(3), np.zeros(3), np.nan)
product, _, rule = rerank(rules, scored, 3, lambda _: False)
print(product.tolist(), rules.messages[rule[0]])
"""


@pytest.mark.integration
def test_the_example_of_the_page_adds_a_rule_kind(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    new_class, registration = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (rules,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    shutil.copytree(REPOSITORY / "rec_assets", tmp_path / "rec_assets", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "rec_assets" / "recsys" / "rules" / "rule_kinds.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{new_class}\n\n{registration}")
    (tmp_path / "rules.yaml").write_text(rules, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPOSITORY)])}
    run = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.stdout.strip() == "[0, 20, 30] raised by rule best-sellers", run.stderr

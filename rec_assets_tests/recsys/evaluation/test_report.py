"""The evaluation report: its text, tables and plots."""

import re
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from rec_assets.recsys.evaluation.evaluate import ACTIVITY, ALL_PURCHASES, NEW_CUSTOMERS, NOVEL_PURCHASES, SLICES
from rec_assets.recsys.evaluation.plots import headline_figure, to_svg
from rec_assets.recsys.evaluation.report import (
    ExampleCustomer,
    ExampleProduct,
    ReportContext,
    render_report,
    summary_table,
)

ACCURACY = ("precision", "recall", "ndcg", "map", "mrr", "hit_rate")
BEYOND = ("catalog_coverage", "gini", "novelty", "intra_list_diversity")
LEVELS = {"hybrid": 0.41, "own purchases": 0.40, "popularity": 0.17}


@pytest.fixture(scope="module")
def evaluation() -> pd.DataFrame:
    """Three models on all slices; "own purchases" has no discover lists."""
    rows = [
        (name, model, metric, k, level, level - 0.01, level + 0.01, 120)
        for name in SLICES
        for model, level in LEVELS.items()
        for metric in ACCURACY
        for k in (5, 10, 20)
        if not (model == "own purchases" and name in (NOVEL_PURCHASES, "cold products"))
    ]
    rows += [
        (name, model, metric, k, level, np.nan, np.nan, 120)
        for name in (ALL_PURCHASES, NOVEL_PURCHASES)
        for model, level in LEVELS.items()
        for metric in BEYOND
        for k in (5, 10, 20)
        if not (model == "own purchases" and name == NOVEL_PURCHASES)
    ]
    return pd.DataFrame(rows, columns=["slice", "model", "metric", "k", "value", "ci_low", "ci_high", "customers"])


@pytest.fixture(scope="module")
def differences() -> pd.DataFrame:
    rows = [
        (ALL_PURCHASES, "hybrid", "own purchases", "ndcg", 10, 0.01, 0.004, 0.016, 120),
        (ALL_PURCHASES, "hybrid", "popularity", "ndcg", 10, 0.24, 0.23, 0.25, 120),
        (NOVEL_PURCHASES, "hybrid", "popularity", "ndcg", 10, 0.24, -0.01, 0.25, 120),
    ]
    columns = ["slice", "model", "baseline", "metric", "k", "value", "ci_low", "ci_high", "customers"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def context() -> ReportContext:
    return ReportContext(
        source="The Corner Shop",
        as_of=date(2017, 12, 3),
        horizon_days=28,
        buyers=1234,
        customers=1234,
        purchases=56789,
        catalog_size=65425,
        models={model: f"What {model} means." for model in LEVELS},
        slices={name: f"What {name} means." for name in SLICES},
        examples=[
            ExampleCustomer(
                "1228",
                "12 orders, mostly tea.",
                [
                    ExampleProduct("Green tea & honey", "you buy this every 3 weeks", bought=True),
                    ExampleProduct("<script>alert(1)</script>", 'similar to "<b>tea</b>"', bought=False),
                ],
            )
        ],
        data_fingerprint="sha256:0123",
        model_days={"als_model": "2017-12-03"},
        settings={"lookback": 365},
    )


def render(evaluation, differences, context) -> str:
    return render_report(evaluation, differences, context=context)


@pytest.fixture(scope="module")
def page(evaluation, differences, context) -> str:
    return render(evaluation, differences, context)


def seen(page: str) -> str:
    """The visible text of the page, with single spaces."""
    without_style = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    pieces: list[str] = []
    parser = HTMLParser()
    parser.handle_data = pieces.append
    parser.feed(without_style)
    return " ".join("".join(pieces).split())


def test_the_page_compares_the_reference_with_the_best_baseline(page):
    text = seen(page)
    assert "For all purchases, the hybrid is better than the best baseline." in text
    assert "new to the customer, it is not significantly different from the best baseline" in text
    assert "Difference: +0.0100 (+2.5%)" in text
    assert "+0.0040 to +0.0160, which excludes 0" in text
    assert "−0.0100 to +0.2500, which includes 0" in text


def test_equal_verdicts_are_one_sentence(evaluation, differences, context):
    losing = differences.assign(value=-0.1, ci_low=-0.2, ci_high=-0.05)
    text = seen(render(evaluation, losing, context))
    assert "The hybrid is worse than the best baseline for all purchases and for products that are new" in text


def test_the_page_has_the_evaluated_days_and_the_versions(page):
    text = seen(page)
    for fact in (
        "up to and including 3 December 2017",
        "from 4 December 2017 to 31 December 2017",
        "1,234",
        "56,789",
        "65,425",
        "sha256:0123",
        "als_model as of",
        "lookback",
    ):
        assert fact in text


def test_each_slice_and_model_is_on_the_page_with_a_description(page):
    text = seen(page)
    for name in (*SLICES, *LEVELS):
        assert f"What {name} means." in text
    for title in ("All purchases", "Novel purchases", "New customers", "Cold products", "Low activity"):
        assert f"{title}: lists of 10" in text
        assert f"{title}: lists of 5" in text


def test_only_the_best_value_of_a_column_is_bold(page):
    table = page[page.index("All purchases: lists of 10</caption>") :]
    table = table[: table.index("</table>")]
    assert table.count("<strong>0.4100</strong>") == 6
    assert table.count("<strong>") == 6


def test_an_example_has_reasons_and_ticks_for_bought_products(page):
    text = seen(page)
    assert "Customer 1228 12 orders, mostly tea. 1 of 2 bought" in text
    assert "Green tea & honey you buy this every 3 weeks ✓ bought" in text
    assert text.count("✓ bought") == 1


def test_text_from_the_shop_is_escaped(evaluation, differences, context):
    hostile = replace(
        context,
        source="<script>alert(2)</script>",
        settings={"<script>": "<img src=x onerror=alert(3)>"},
        models={"hybrid": "<script>alert(4)</script>"},
    )
    renamed = {"popularity": '"><script>alert(5)</script>'}
    page = render(evaluation.replace(renamed), differences.replace(renamed), hostile)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_has_no_external_resources(page):
    assert "http" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page)
    assert not re.search(r"url\((?!#)", page)


def test_plots_have_descriptions_and_tables_have_captions(page):
    svgs = re.findall(r"<svg[^>]*>", page)
    assert len(svgs) == 4
    assert all('role="img"' in svg and "aria-label=" in svg for svg in svgs)
    assert "hybrid 0.4100, own purchases 0.4000, popularity 0.1700" in page
    assert page.count("<table>") == page.count("<caption>") > len(SLICES)


def test_ids_are_unique(page):
    ids = re.findall(r'\sid="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_the_same_input_gives_the_same_bytes(evaluation, differences, context, page):
    assert render(evaluation, differences, context) == page


def test_a_slice_without_customers_is_reported_as_empty(evaluation, differences, context):
    nobody = evaluation["slice"] == NEW_CUSTOMERS
    values = ["value", "ci_low", "ci_high"]
    emptied = evaluation.assign(customers=evaluation["customers"].where(~nobody, 0))
    emptied[values] = emptied[values].mask(nobody)
    text = seen(render(emptied, differences, context))
    assert "What new customers means. 0 customers evaluated. There are no such purchases in the horizon." in text
    assert "nan" not in text.lower()


def test_a_shop_without_returning_customers_has_a_page(evaluation, differences, context):
    values = ["value", "ci_low", "ci_high"]
    nobody = evaluation.assign(customers=0, **dict.fromkeys(values, np.nan))
    nothing = differences.assign(customers=0, **dict.fromkeys(values, np.nan))
    text = seen(render(nobody, nothing, replace(context, examples=[])))
    assert "cannot be evaluated" in text
    assert "nan" not in text.lower()


def test_an_activity_group_without_customers_is_an_empty_row_in_the_plot(evaluation, differences, context):
    group = evaluation["slice"] == ACTIVITY[1]
    values = ["value", "ci_low", "ci_high"]
    emptied = evaluation.assign(customers=evaluation["customers"].where(~group, 0))
    emptied[values] = emptied[values].mask(group)
    assert "medium activity" in seen(render(emptied, differences, context))


# Table and figure


def test_the_summary_ranks_models_and_has_a_dash_for_missing_lists(evaluation):
    table = summary_table(evaluation)
    assert table.index.tolist() == ["hybrid", "own purchases", "popularity"]
    assert table.loc["hybrid", "all NDCG@10"] == "0.4100 [0.4000, 0.4200]"
    assert table.loc["hybrid", "all P@10"] == "0.4100"
    assert table.loc["own purchases", "novel NDCG@10"] == "–"
    assert table.loc["popularity", "all coverage@10"] == "17.00%"


def test_figures_do_not_use_pyplot(evaluation):
    headline_figure(evaluation)
    assert pyplot.get_fignums() == []


def test_names_of_models_are_escaped_in_plots(evaluation):
    figure = headline_figure(evaluation.replace({"popularity": "cheap $1$ <&>"}))
    svg = to_svg(figure, 'say "hi" <&>')
    assert "cheap $1$ &lt;&amp;&gt;" in svg
    assert 'aria-label="say &#34;hi&#34; &lt;&amp;&gt;"' in svg


def test_the_page_lists_missing_models(evaluation, differences, context, page):
    assert "Missing models" not in seen(page)
    without_models = replace(context, missing_models=["no text similarity: no product has a text", "no ranker"])
    text = seen(render(evaluation, differences, without_models))
    assert "Missing models as of 3 December 2017: no text similarity: no product has a text; no ranker." in text


def test_the_summary_without_customers_has_only_dashes(evaluation):
    table = summary_table(evaluation.assign(customers=0, value=np.nan, ci_low=np.nan, ci_high=np.nan))
    assert set(table.to_numpy().ravel()) == {"–"}

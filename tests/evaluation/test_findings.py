import base64
import html as entities
import io
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.figure
import numpy as np
import pytest
import torch
from confident_ode.evaluation import tables
from confident_ode.evaluation.benchmark import (
    MEASURES,
    Measured,
    best_of,
    interval,
    joined,
    over_damages,
    resamples,
    statistics,
)
from confident_ode.evaluation.figures import bars, convergence, tradeoff
from confident_ode.evaluation.findings import _varied, findings
from confident_ode.evaluation.frechet import Gaussian, frechet_distance
from confident_ode.evaluation.methods import methods_of
from confident_ode.evaluation.report import Figure, Grid, Heading, Table, Text, html, markdown
from matplotlib.collections import PolyCollection
from PIL import Image

# 4 pictures for each of 3 damages, of which 3 are of the first two photos and 2 of each other
PICTURES, PHOTOS, FEATURES = 4, 5, 2
# as of corruptions that were named without regard to their families
FAMILIES = {"noise": {"a": 0, "c": 2}, "masks": {"b": 1}}
CODE = [{"name": "DDIM", "updates": 0}, {"name": "CODE"}]
SDEDIT = {"name": "SDEdit", "method": "sdedit", "depth": [0.1, 0.2, 0.3], "samples": 2}
UPDATES = {"name": "CODE by updates", "updates": [0, 5, 9]}


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured_of(seed, count=1, damages=3):
    """A Measured of anything; each damage has PSNRs about ten times its place."""
    shape = PICTURES, damages, count
    scores = {
        name: 1 + drawn(*shape, seed=100 * seed + i).abs() + 10 * torch.arange(damages)[:, None]
        for i, name in enumerate(MEASURES)
    }
    calls = torch.full(shape, float(seed), dtype=torch.float64)
    features, inception = (drawn(*shape, n, seed=100 * seed + 20) for n in (FEATURES, 3))
    photos = (torch.arange(PICTURES * damages) % PHOTOS).view(damages, PICTURES).T[..., None].expand(shape)
    return Measured(scores, calls, calls / 8, features, inception, photos)


@pytest.fixture
def references():
    return drawn(20, FEATURES, seed=7)


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(resamples, "__defaults__", (20, 0))


@pytest.fixture
def report(few, references):
    """report(tables of methods) -> (the parts, {method: Measured}, what was asked to be shown)."""

    def made(methods, against="CODE", families=FAMILIES, inception=None, beside=()):
        methods, asked = [method for table in methods for method in methods_of(table, {})], []
        counts = {"Original": 1, "Damaged": 1, **{method.name: method.samples for method in methods}}
        measured = {name: measured_of(i, count) for i, (name, count) in enumerate(counts.items())}

        def cell(name, damage):
            asked.append((name, damage))
            return (name, damage)

        beside = [method for method in methods if method.name in beside]
        parts = findings(measured, methods, families, references, inception, against, 3, cell, beside)
        return parts, measured, asked

    return made


def of_kind(parts, kind):
    return [part for part in parts if part.kind == kind]


def after(parts, heading, kind):
    """The first part of a kind below a heading."""
    texts = [part.text if part.kind == "heading" else None for part in parts]
    return next(part for part in parts[texts.index(heading) :] if part.kind == kind)


# tables


@pytest.fixture
def measured():
    return {"Damaged": measured_of(1), "DDIM": measured_of(2), "CODE": measured_of(3, 2)}


@pytest.fixture
def found(measured, references):
    return {name: statistics(each, resamples(PHOTOS, 9), Gaussian(references)) for name, each in measured.items()}


def test_the_overall_table_has_a_row_for_each_method(found):
    head, *rows = tables.overall(found, {"Damaged": 0.0, "DDIM": 12.0, "CODE": 2.5})
    assert [row[:2] for row in rows] == [["Damaged", "0"], ["DDIM", "12"], ["CODE", "2.5"]]
    assert {len(row) for row in (head, *rows)} == {7}
    assert head[2] == "PSNR to clean, dB"
    estimate, low, high = interval(found["CODE"]["psnr_to_clean"])
    assert rows[2][2] == f"{estimate:.2f} [{low:.2f}, {high:.2f}]"
    assert rows[2][-1].startswith(f"{found['CODE']['fd'][0]:.3f} [")


def test_differences_are_on_the_same_photos(found):
    head, *rows = tables.differences(found, "CODE")
    assert head[0] == "minus CODE"
    assert [row[0] for row in rows] == ["Damaged", "DDIM"]
    estimate, low, high = interval(found["DDIM"]["fd"] - found["CODE"]["fd"])
    assert rows[1][-1] == f"{estimate:.3f} [{low:.3f}, {high:.3f}]"
    (same,) = tables.differences({"CODE": found["CODE"], "again": found["CODE"]}, "CODE")[1:]
    assert same[1] == "0.00 [0.00, 0.00]"
    assert same[-1] == "0.000 [0.000, 0.000]"


def test_the_papers_table_has_deviations_over_damages_and_counts_pictures(measured, references):
    head, *rows = tables.as_in_paper(measured, resamples(PHOTOS, 9), Gaussian(references))
    assert (head[1], head[-1]) == ("n", "FD-flowers")
    assert [row[:2] for row in rows] == [["Damaged", "12"], ["DDIM", "12"], ["CODE", "24"]]
    mean, deviation = over_damages(measured["CODE"], "psnr_to_input")
    assert rows[2][head.index("PSNR to input, dB")] == f"{mean:.2f} ({deviation:.2f})"
    # of all that was made at once
    distance = frechet_distance(measured["CODE"].features.flatten(0, 2), references)
    assert float(rows[2][-1].split()[0]) == pytest.approx(distance, abs=2e-3)
    # thousands are told apart
    (_, large) = tables.as_in_paper({"A": measured_of(1, 200)}, torch.ones(3, PHOTOS).double(), Gaussian(references))
    assert large[1] == "2,400"


def test_the_papers_table_has_lpips_and_fid_where_they_are_to_be_had(measured, references):
    for each in measured.values():
        each.scores["lpips"] = drawn(PICTURES, 3, each.calls.shape[2], seed=5).abs()
    known = drawn(20, 3, seed=8)
    head, *rows = tables.as_in_paper(measured, resamples(PHOTOS, 9), Gaussian(references), known)
    assert (head[2], *head[-2:]) == ("LPIPS to clean", "FD-flowers", "FID")
    assert {len(row) for row in rows} == {len(head)}
    for row, each in zip(rows, measured.values(), strict=True):
        mean, deviation = over_damages(each, "lpips")
        assert row[2] == f"{mean:.3f} ({deviation:.3f})"
        assert float(row[-1]) == pytest.approx(frechet_distance(each.inception.flatten(0, 2), known), abs=0.006)
    assert "FID" not in tables.as_in_paper(measured, resamples(PHOTOS, 9), Gaussian(references))[0]


def test_families_are_of_their_damages_alone(measured, references):
    head, *rows = tables.by_family(measured, FAMILIES, Gaussian(references))
    assert head == ["FD-flowers", "noise, n = 8", "masks, n = 4"]
    assert [row[0] for row in rows] == [*measured]
    for row, each in zip(rows, measured.values(), strict=True):
        for text, places in zip(row[1:], ([0, 2], [1]), strict=True):
            distance = frechet_distance(each.features[:, places].flatten(0, 2), references)
            assert float(text) == pytest.approx(distance, abs=2e-3)


def test_damages_have_a_row_each(measured):
    head, *rows = tables.by_damage(measured, ["a", "b", "c"], "ssim_to_clean")
    assert head == ["SSIM to clean", "Damaged", "DDIM", "CODE"]
    for place, (name, *means) in enumerate(rows):
        assert name == "abc"[place]
        for text, each in zip(means, measured.values(), strict=True):
            assert text == f"{each.scores['ssim_to_clean'][:, place].mean():.3f}"


def test_speeds_are_means(measured):
    head, *rows = tables.speeds(measured)
    assert [row[:3] for row in rows] == [["Damaged", "1", "0.125"], ["DDIM", "2", "0.250"], ["CODE", "3", "0.375"]]
    mean = measured["CODE"].scores["l2_to_input"].mean()
    assert rows[2][head.index("L2 to input")] == f"{mean:.3f}"


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (2.0, "^At CODE's distance from the input, L2 2.00, SDEdit has FD-flowers 5.000 "),
        (0.5, "^At CODE's distance from the input, L2 0.50, SDEdit has FD-flowers 8.000 "),
        (9.0, "^SDEdit goes no farther from the input than L2 4.00, and CODE 9.00; there it has FD-flowers 1.000 "),
    ],
)
def test_the_sentence_says_at_which_distance(distance, words):
    def of(distance, fd):
        return {"l2_to_input": torch.full((5,), distance), "fd": torch.full((5,), fd)}

    found = {"CODE": of(distance, 3.0), "Damaged": of(0.0, 9.0), "SDEdit 0.1": of(1.0, 7.0), "SDEdit 0.5": of(4.0, 1.0)}
    sentence = tables.matched(found, "CODE", ["SDEdit 0.1", "SDEdit 0.5"], "SDEdit")
    assert re.search(words, sentence)
    assert sentence.endswith("SDEdit is most real as SDEdit 0.5.")
    if distance == 2.0:
        assert "CODE minus SDEdit is -2.000 [-2.000, -2.000]" in sentence


# figures


def names_in(axes):
    return axes.get_legend_handles_labels()[1]


def statistics_of(names, resampled=30):
    """Statistics of anything, farther and more real from name to name."""
    return {
        name: {
            "l2_to_input": i + 0.1 * drawn(1 + resampled, seed=i).abs(),
            "fd": 9 - i + 0.1 * drawn(1 + resampled, seed=50 + i).abs(),
        }
        for i, name in enumerate(names)
    }


def test_a_tradeoff_has_dots_of_families_with_a_regression_and_points_of_the_others():
    families = {"SDEdit": ["S 1", "S 2", "S 3", "S 4"], "few": ["F 1", "F 2"]}
    found = statistics_of(["Damaged", "CODE", *families["SDEdit"], *families["few"]])
    (axes,) = tradeoff(found, families).axes
    assert sorted(names_in(axes)) == ["CODE", "Damaged", "SDEdit", "few"]
    dots = {line.get_label(): line for line in axes.lines}
    for title, names in families.items():
        assert dots[title].get_xdata().tolist() == [found[name]["l2_to_input"][0].item() for name in names]
        assert dots[title].get_ydata().tolist() == [found[name]["fd"][0].item() for name in names]
    # two dots make no parabola
    (band,) = (each for each in axes.collections if isinstance(each, PolyCollection))
    curve = next(line for line in axes.lines if len(line.get_xdata()) == 60)
    x, y = (dots["SDEdit"].get_data(orig=True)[i] for i in range(2))
    expected = np.polyval(np.polyfit(x, y, 2), curve.get_xdata())
    np.testing.assert_allclose(curve.get_ydata(), expected, rtol=1e-6)
    assert (curve.get_xdata().min(), curve.get_xdata().max()) == (x.min(), x.max())
    heights = band.get_paths()[0].vertices[:, 1]
    assert heights.min() < curve.get_ydata().min()
    assert heights.max() > curve.get_ydata().max()
    points = {each.get_label(): each.lines[0].get_xydata()[0].tolist() for each in axes.containers}
    assert points == {
        name: [found[name]["l2_to_input"][0].item(), found[name]["fd"][0].item()] for name in ("Damaged", "CODE")
    }


def test_convergence_is_of_both_over_the_setting():
    found = statistics_of(["C 0", "C 5", "C 9"])
    figure = convergence(found, {"C 0": 0, "C 5": 5, "C 9": 9}, "step_size")
    for axes, key in zip(figure.axes, ("fd", "l2_to_input"), strict=True):
        (line,) = axes.lines
        assert line.get_xdata().tolist() == [0, 5, 9]
        assert line.get_ydata().tolist() == [found[name][key][0].item() for name in found]
        assert axes.get_xlabel() == "step size"
        _, low, high = interval(found["C 5"][key])
        at_five = [y for x, y in axes.collections[0].get_paths()[0].vertices if x == 5]
        assert (min(at_five), max(at_five)) == pytest.approx((low, high))


@pytest.mark.parametrize("minus", [None, "Damaged"])
def test_bars_are_as_long_as_the_means(measured, minus):
    (axes,) = bars(measured, ["a", "b", "c"], "ssim_to_clean", minus).axes
    means = {name: each.scores["ssim_to_clean"].mean((0, 2)).numpy() for name, each in measured.items()}
    shown = [name for name in measured if name != minus]
    assert names_in(axes) == shown
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b", "c"]
    middles = []
    for name, each in zip(shown, axes.containers, strict=True):
        lengths = [bar.get_width() for bar in each]
        assert lengths == pytest.approx((means[name] - (means[minus] if minus else 0)).tolist())
        middles.append([bar.get_y() + bar.get_height() / 2 for bar in each])
    # about the row of the damage, and beside each other
    assert np.mean(middles, 0).tolist() == pytest.approx([0, 1, 2])
    assert len({middle for each in middles for middle in each}) == 3 * len(shown)
    assert axes.yaxis_inverted()


# the report


class Page(HTMLParser):
    """What is in a page: its tags with their attributes, and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def values(self, *names):
        return [value for _, attributes in self.tags for name, value in attributes.items() if name in names]


def picture(seed):
    """A smooth image, which WEBP leaves nearly as it is."""
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((32, 16), Image.Resampling.BILINEAR)


def figure(title):
    made = matplotlib.figure.Figure(figsize=(2, 2))
    axes = made.subplots()
    axes.plot([0, 1], [1, 0], "o-", label=title)
    axes.legend()
    return made


@pytest.fixture(scope="module")
def parts():
    return [
        Text('A <b>lead</b> & "more".'),
        Heading("One"),
        Table([["method", "<i>PSNR</i>"], ["CODE & co", 1.5], ["<script>alert(1)</script>", 2]]),
        Figure(figure("first"), "The first <figure>.", "first.png"),
        Heading("Two & three"),
        Figure(figure("second"), "The second.", "second.png"),
        Grid(["A", "B < C"], [("row <1>", [picture(0), None]), ("row 2", [picture(1), picture(2)])], "Some pictures."),
    ]


@pytest.fixture(scope="module")
def page(parts):
    return html("What <was> found", parts)


def test_a_page_needs_nothing_but_itself(page):
    seen = Page(page)
    ids = {*seen.values("id")}
    assert all(value.startswith("data:image/webp;base64,") for value in seen.values("src"))
    assert {value[0] for value in seen.values("href", "xlink:href")} == {"#"}
    assert {value[1:] for value in seen.values("href", "xlink:href")} <= ids
    targets = re.findall(r"url\(([^)]*)\)", page)
    assert targets
    assert {target.strip("'\"").removeprefix("#") for target in targets} <= ids
    assert "@import" not in page
    assert not {tag for tag, _ in seen.tags} & {"script", "link", "iframe", "object", "embed", "base", "video", "image"}
    # but for the names of formats and what matplotlib says of itself, which nothing fetches
    assert "http" not in re.sub(r'<metadata>.*?</metadata>|xmlns(:\w+)?="[^"]*"', "", page, flags=re.DOTALL)
    assert not seen.values("srcset", "poster", "background", "data", "action")


def test_a_page_escapes_what_it_is_given(page):
    seen = Page(page)
    assert not {tag for tag, _ in seen.tags} & {"b", "i", "script", "was"}
    for text in ('A <b>lead</b> & "more".', "<i>PSNR</i>", "<script>alert(1)</script>", "B < C", "row <1>"):
        assert text in seen.text
        assert entities.escape(text, quote=False) in page.replace("&#34;", '"').replace("&#39;", "'")
    assert seen.text.count("What <was> found") == 2
    assert "The first <figure>." in seen.values("aria-label")


def test_a_page_has_every_part_in_its_order(page, parts):
    seen = Page(page)
    places = [seen.text.index(text) for text in ("A <b>lead", "<i>PSNR", "The first", "The second", "row <1>", "Some")]
    assert places == sorted(places)
    headings = {attributes["id"] for attributes in seen.all("h2")}
    assert [link["href"] for link in seen.all("a")] == ["#part-1", "#part-2"]
    assert headings == {"part-1", "part-2"}
    assert re.search(r'<a href="#part-2">Two &amp; three</a>', page)
    assert re.search(r'<h2 id="part-2">Two &amp; three</h2>', page)
    assert len(seen.all("svg")) == 2
    images = [Image.open(io.BytesIO(base64.b64decode(each["src"].split(",")[1]))) for each in seen.all("img")]
    for image, expected in zip(images, (picture(0), picture(1), picture(2)), strict=True):
        assert image.size == expected.size
        assert np.abs(np.asarray(image.convert("RGB"), int) - np.asarray(expected, int)).mean() < 8
    # one cell of the grid is empty
    assert page.count("<td></td>") == 1


def test_a_browser_shows_all_of_it_without_a_network(page, tmp_path):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no chromium on the PATH")
    asked = (
        "<script>onload = () => document.body.dataset.found = JSON.stringify({"
        "fetched: performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length,"
        "broken: [...document.images].filter(image => image.naturalWidth != 32).length,"
        "drawn: [...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 100).length,"
        "headings: document.querySelectorAll('h2').length})</script></body>"
    )
    file = tmp_path / "report.html"
    file.write_text(page.replace("</body>", asked), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shown = subprocess.run(
        [chromium, *options, "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    ).stdout
    (said,) = Page(shown).values("data-found")
    assert said == '{"fetched":0,"broken":0,"drawn":2,"headings":2}'


def test_markdown_has_all_but_the_grids(parts):
    text = markdown(parts)
    assert "## One\n\n| method | <i>PSNR</i> |\n|---|---|\n| CODE & co | 1.5 |\n" in text
    assert "\n\n![The first <figure>.](first.png)\n\n## Two & three\n\n![The second.](second.png)\n" in text
    assert text.startswith('A <b>lead</b> & "more".\n\n')
    assert "row" not in text
    assert "Some pictures" not in text


def test_a_figure_is_a_png_too(parts):
    image = Image.open(io.BytesIO(parts[3].png))
    assert (image.format, image.size) == ("PNG", (220, 220))
    assert parts[3].svg.startswith("<svg")


# findings


def test_quality_is_drawn_over_network_calls(report):
    parts, measured, _ = report([*CODE, SDEDIT, UPDATES])
    drawn = after(parts, "Over network calls", "figure").figure
    for axes, key in zip(drawn.axes, ("psnr_to_clean", "fd"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        # Original makes no calls
        assert [*lines] == ["SDEdit", "CODE by updates", "Damaged", "DDIM", "CODE"]
        names = [name for name in measured if name.startswith("SDEdit")]
        assert lines["SDEdit"].get_xdata().tolist() == [measured[name].calls.mean().item() for name in names]
        if key == "psnr_to_clean":
            means = [measured[name].scores[key].mean().item() for name in names]
            assert lines["SDEdit"].get_ydata() == pytest.approx(means)


def test_of_one_number_of_calls_nothing_is_drawn(report, references):
    alike = {name: replace(each, calls=torch.full_like(each.calls, 7.0)) for name, each in report(CODE)[1].items()}
    methods = [method for table in CODE for method in methods_of(table, {})]
    parts = findings(alike, methods, FAMILIES, references, None, "CODE", 0, lambda name, damage: None)
    assert "Over network calls" not in [part.text for part in of_kind(parts, "heading")]


def test_the_honest_comparison_comes_first(report, references):
    parts, measured, _ = report([*CODE, SDEDIT])
    headings = [part.text for part in of_kind(parts, "heading")]
    assert headings == [
        "One setting, nothing chosen",
        "With the paper's oracle",
        "Over network calls",
        "Damage by damage",
        "Pictures",
    ]
    first = after(parts, headings[0], "table")
    assert [row[0] for row in first.rows[1:]] == [*measured]
    assert [row[1] for row in first.rows[1:]] == [str(i) for i in range(len(measured))]
    # photos are what is drawn, not pictures
    for row, each in zip(first.rows[1:], measured.values(), strict=True):
        found = statistics(each, resamples(PHOTOS, 20, seed=3), Gaussian(references))
        assert row[2:] == [tables.shown(found[key], key) for key in tables.SHOWN]
    texts = [part.text for part in of_kind(parts, "text")]
    assert any("of 20 other photos" in text for text in texts)
    assert any("where n is below 10 with care" in text for text in texts)
    assert not any(re.search(r"[{}]", text) for text in texts)
    (sentence,) = (text for text in texts if "distance from the input, L2" in text or "goes no farther" in text)
    assert "SDEdit is most real as SDEdit 0." in sentence
    differences = of_kind(parts, "table")[1]
    assert [row[0] for row in differences.rows] == ["minus CODE", *(name for name in measured if name != "CODE")]


def test_the_oracle_is_of_the_best_four_of_a_family_and_says_of_how_many(report, references):
    parts, measured, _ = report([*CODE, SDEDIT, {"name": "two", "depth": [0.1, 0.2], "samples": 2}])
    _, *rows = after(parts, "With the paper's oracle", "table").rows
    # a family of four has no choice, and has no row
    assert [row[0] for row in rows] == ["Inputs", "DDIM", "CODE", "SDEdit, best 4 of 6"]
    assert [row[1] for row in rows] == ["12", "12", "12", "48"]
    kept = best_of(joined([measured[f"SDEdit {depth}"] for depth in (0.1, 0.2, 0.3)], 2))
    distance = frechet_distance(kept.features.flatten(0, 2), references)
    assert float(rows[3][-1].split()[0]) == pytest.approx(distance, abs=2e-3)
    mean, deviation = over_damages(measured["Damaged"], "ssim_to_input")
    assert f"{mean:.3f} ({deviation:.3f})" in rows[0]
    parts, _, _ = report([*CODE, SDEDIT], inception=drawn(20, 3, seed=8))
    assert after(parts, "With the paper's oracle", "table").rows[0][-2:] == ["FD-flowers", "FID"]


def test_a_family_over_updates_is_a_figure_of_its_own(report):
    parts, _, asked = report([*CODE, UPDATES, {**UPDATES, "name": "again"}, SDEDIT])
    names = [part.name for part in of_kind(parts, "figure")]
    assert names == ["tradeoff.png", "updates.png", "updates-2.png", "calls.png", "gains.png", "features.png"]
    assert after(parts, "Over the number of updates", "figure").name == "updates.png"
    updates = of_kind(parts, "figure")[1]
    assert updates.text.startswith("CODE by updates: ")
    assert [axes.lines[0].get_xdata().tolist() for axes in updates.figure.axes] == [[0, 5, 9]] * 2
    # and in nothing else
    assert not any("CODE by updates" in str(part.rows) for part in of_kind(parts, "table"))
    assert not any("CODE by updates" in name for name, _ in asked)
    assert "CODE by updates" not in names_in(of_kind(parts, "figure")[0].figure.axes[0])
    # one that varies more is a family like others
    parts, _, _ = report([*CODE, {"name": "both", "updates": [0, 5], "depth": [0.1, 0.2]}])
    assert [part.name for part in of_kind(parts, "figure")] == [
        "tradeoff.png",
        "calls.png",
        "gains.png",
        "features.png",
    ]
    assert "both 0, 0.1" in str(after(parts, "One setting, nothing chosen", "table").rows)


def test_pictures_are_of_each_damage_and_each_method_the_most_real_of_a_family(report, references):
    parts, measured, asked = report([*CODE, SDEDIT])
    noise, masks, depths = of_kind(parts, "grid")
    everything = {name: each.features.flatten(0, 2) for name, each in measured.items()}
    real = {name: frechet_distance(features, references) for name, features in everything.items()}
    most = min((f"SDEdit {depth}" for depth in (0.1, 0.2, 0.3)), key=real.get)
    columns = ["Original", "Damaged", "DDIM", "CODE", most]
    for grid, family in ((noise, "noise"), (masks, "masks")):
        assert grid.columns == columns
        assert family in grid.text
        assert grid.rows == [(damage, [(name, damage) for name in columns]) for damage in FAMILIES[family]]
    assert depths.columns == ["Damaged", "0.1", "0.2", "0.3"]
    assert "SDEdit, over depth" in depths.text
    names = ["Damaged", "SDEdit 0.1", "SDEdit 0.2", "SDEdit 0.3"]
    assert sorted(depths.rows) == [(damage, [(name, damage) for name in names]) for damage in "abc"]
    assert len(asked) == 3 * 5 + 3 * 4
    _, *rows = of_kind(parts, "table")[-1].rows
    assert len(rows) == 3


def test_beside_the_authors_code_is_a_table_of_times(report):
    parts, _, _ = report([*CODE, SDEDIT], beside=("DDIM", "CODE"))
    assert [row[0] for row in after(parts, "Beside the authors' code", "table").rows[1:]] == ["DDIM", "CODE"]


def test_of_many_damages_some_are_shown_over_a_setting(report):
    families = {"noise": {f"d{i}": i for i in range(3)}}
    parts, _, _ = report([*CODE, SDEDIT], families=families)
    assert len(of_kind(parts, "grid")[-1].rows) == 3
    damages = [f"d{i}" for i in range(13)]
    (grid,) = _varied({"SDEdit": methods_of(SDEDIT, {})}, damages, lambda *_: None)
    assert [name for name, _ in grid.rows] == ["d0", "d3", "d6", "d9", "d12"]


def test_rows_of_damages_are_those_of_their_places(report):
    parts, measured, _ = report(CODE)
    (head, *rows) = of_kind(parts, "table")[-1].rows
    assert head == ["PSNR to clean, dB", "Damaged", "DDIM", "CODE"]
    means = measured["CODE"].scores["psnr_to_clean"].mean((0, 2))
    assert {row[0]: row[3] for row in rows} == {name: f"{means[i]:.2f}" for i, name in enumerate("abc")}
    gains = after(parts, "Damage by damage", "figure").figure.axes[0]
    lengths = [bar.get_width() for bar in gains.containers[1]]
    labels = [label.get_text() for label in gains.get_yticklabels()]
    before = measured["Damaged"].scores["psnr_to_clean"].mean((0, 2))
    expected = {name: (means - before)[i].item() for i, name in enumerate("abc")}
    assert dict(zip(labels, lengths, strict=True)) == pytest.approx(expected)


def test_any_method_can_be_compared_with(report):
    parts, _, _ = report([*CODE, UPDATES, SDEDIT], against="CODE by updates 5")
    assert of_kind(parts, "table")[1].rows[0][0] == "minus CODE by updates 5"

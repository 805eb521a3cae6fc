"""A report of tables, sentences and pictures: as Markdown, and as a page that needs nothing else.

Its parts are Heading, Text, Table, Figure and Grid, in the order in which they are read.
"""

import base64
import io
from dataclasses import dataclass

from jinja2 import Environment
from matplotlib import rc_context

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
:root { color-scheme: light dark; --rule: #8884; --quiet: #777 }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 90rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--rule) }
p, figcaption { max-width: 50rem }
nav a { margin-right: 1.2em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0 }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap }
th { vertical-align: bottom; white-space: normal }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: Canvas }
tbody tr:hover td { background: #8882 }
figure { margin: 1.5rem 0 }
figure svg { max-width: 100%; height: auto; background: white }
figcaption { color: var(--quiet) }
.grid td, .grid th { border: 0; padding: .2em .4em; text-align: center; font-weight: normal; font-size: 13px }
.grid td:first-child, .grid th:first-child { text-align: right }
.grid img { height: 96px; image-rendering: pixelated; display: block }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<nav>
{% for part in parts if part.kind == "heading" %}
<a href="#part-{{ loop.index }}">{{ part.text }}</a>
{% endfor %}
</nav>
{% set count = namespace(of=0) %}
{% for part in parts %}
{% if part.kind == "heading" %}
{% set count.of = count.of + 1 %}
<h2 id="part-{{ count.of }}">{{ part.text }}</h2>
{% elif part.kind == "text" %}
<p>{{ part.text }}</p>
{% elif part.kind == "table" %}
<div class="wide"><table>
<thead><tr>{% for cell in part.rows[0] %}<th>{{ cell }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in part.rows[1:] %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div>
{% elif part.kind == "figure" %}
<figure role="img" aria-label="{{ part.text }}">{{ part.svg | safe }}<figcaption>{{ part.text }}</figcaption></figure>
{% else %}
<figure><div class="wide"><table class="grid">
<thead><tr><th></th>{% for name in part.columns %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for name, row in part.rows %}
<tr><th>{{ name }}</th>
{% for cell in row %}<td>{% if cell %}<img alt="" src="{{ cell | embedded }}">{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table></div><figcaption>{{ part.text }}</figcaption></figure>
{% endif %}
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Text:
    text: str
    kind = "text"


class Heading(Text):
    kind = "heading"


@dataclass(frozen=True)
class Table:
    """rows: of anything that can be written, the first is the head."""

    rows: list
    kind = "table"


@dataclass(frozen=True)
class Figure:
    """A drawing, of matplotlib, and what it shows; name: of its file in the Markdown."""

    figure: object
    text: str
    name: str
    kind = "figure"

    @property
    def svg(self):
        # the same report has the same bytes
        with rc_context({"svg.hashsalt": self.name}):
            text = self._saved(format="svg", metadata={"Date": None}).decode()
        return text[text.index("<svg") :]

    @property
    def png(self):
        return self._saved(format="png", dpi=110)

    def _saved(self, **how):
        file = io.BytesIO()
        self.figure.savefig(file, **how)
        return file.getvalue()


@dataclass(frozen=True)
class Grid:
    """Pictures in rows and columns: rows are pairs (name, images of PIL or None)."""

    columns: list
    rows: list
    text: str = ""
    kind = "grid"


def markdown(parts):
    """The parts as Markdown; pictures are left out, but for the files of figures."""
    written = {
        "heading": lambda part: f"## {part.text}",
        "text": lambda part: part.text,
        "table": lambda part: _table(part.rows),
        "figure": lambda part: f"![{part.text}]({part.name})",
    }
    return "\n\n".join(written[part.kind](part) for part in parts if part.kind in written) + "\n"


def _table(rows):
    head, *rest = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *rest])


def html(title, parts):
    """The parts as a page of HTML, with all pictures in it."""
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["embedded"] = _embedded
    return environment.from_string(PAGE).render(title=title, parts=parts)


def _embedded(image):
    file = io.BytesIO()
    image.save(file, "WEBP", quality=92)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

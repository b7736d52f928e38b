"""Real texts: this project's own, a page, and grade-school problems where they are at hand."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import limiter

ROOT = Path(limiter.__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
STORED = (ROOT / "lua" / "README.md").read_text("utf-8")

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
    <meta charset="utf-8">
    <title>River levels</title>
    <style>
        body { font-family: sans-serif; color: #333 }
    </style>
    <script>window.tracking = "<p>not a word of the page</p>";</script>
</head>
<body class="wide">
    <!-- navigation -->
    <nav>
        <ul>
            <li><a href="/">Home</a></li>
            <li><a href="/levels?sort=asc">All levels</a></li>
            <li><a href="/about">About the gauges</a></li>
        </ul>
    </nav>

    <main>
        <h1>Levels&nbsp;today</h1>

        <p>The Elbe stands at <b>4.12&nbsp;m</b> &mdash; where a<b and c>d hold, &lt;warn&gt; is
           shown. <img src="data:image/png;base64,iVBORw0KGgoAAAANSUhEUg==" alt="A rising line"></p>

        <table class="levels">
            <tr><th>Gauge</th><th>Level</th></tr>
            <tr><td>Dresden</td><td>4.12</td></tr>
            <tr><td>Magdeburg</td><td>3.07</td></tr>
        </table>

        <pre><code>
levels  =  read()

    for   each in levels:   print(each)
        </code></pre>

        <p>Numbers are checked by hand twice a day.</p>
        <p>Numbers are checked by hand twice a day.</p>
    </main>

    <footer>
        <p>Accept all cookies</p>
        <p>&copy; 2024 River Service</p>
    </footer>
</body>
</html>
"""

PAGE_CODE = """<pre><code>
levels  =  read()

    for   each in levels:   print(each)
        </code></pre>"""

# What a reader of the page sees, in its order.
PAGE_WORDS = re.findall(
    r"\S+",
    "River levels Home All levels About the gauges Levels today The Elbe stands at 4.12 m — where "
    "a<b and c>d hold, &lt;warn&gt; is shown. A rising line Gauge Level Dresden 4.12 Magdeburg "
    "3.07 Numbers are checked by hand twice a day. Numbers are checked by hand twice a day. Accept "
    "all cookies © 2024 River Service",
)


def problems() -> list[str]:
    """Return the problems, or nothing where the file is not there."""
    home = os.environ.get("LIMITER_SHARED_DATA")
    data = Path(home) if home else Path(__file__).parents[2].parent / "shared" / "data"
    file = data / "gsm8k_test.jsonl"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return [f"{row['question']}\n\n{row['answer']}" for row in map(json.loads, lines)]

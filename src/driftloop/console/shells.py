"""The static documents of the pages: head, landmarks, and the module that fills them."""

import html
from dataclasses import dataclass


@dataclass(frozen=True)
class Page:
    """One page: where it is, what its tab says, and which module of `assets/js/pages` fills it."""

    name: str
    path: str
    title: str
    charts: bool = False


PAGES = (
    Page("fleets", "/", "Fleets"),
    Page("fleet", "/fleets/{fleet}", "Fleet"),
    Page("unit", "/fleets/{fleet}/units/{unit:path}", "Unit", charts=True),
    Page("plan", "/fleets/{fleet}/plan", "Plan"),
    Page("loop", "/fleets/{fleet}/loop", "Loop", charts=True),
    Page("models", "/fleets/{fleet}/models", "Models"),
    Page("data", "/fleets/{fleet}/data", "Data"),
    Page("events", "/fleets/{fleet}/events", "Events"),
    Page("platform", "/platform", "Platform"),
    Page("login", "/login", "Sign in"),
)
_SHARED = ("dom", "format", "words", "api", "live", "shell", "states", "act")
"""Modules that every page needs, fetched at once instead of one after another."""
_CHARTS = """<link rel="stylesheet" href="/assets/vendor/uPlot.min.css">
<script defer src="/assets/vendor/uPlot.iife.min.js"></script>
"""
_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} · driftloop</title>
<link rel="icon" href="/assets/icon.svg" type="image/svg+xml">
{charts}<link rel="stylesheet" href="/assets/console.css">
<script src="/assets/js/theme.js"></script>
{preloads}
<script type="module" src="/assets/js/pages/{name}.js"></script>
</head>
<body data-page="{name}">
<a class="skip" href="#main">Skip to the content</a>
<header class="top" id="top"></header>
<nav class="nav" id="nav" aria-label="Pages"></nav>
<main id="main" tabindex="-1">
<h1 class="visually-hidden">{title}</h1>
<p class="state" role="status">Loading…</p>
<noscript><p class="state"><span>These pages need JavaScript. What they show the API answers too: see
<a href="/api/docs">/api/docs</a>.</span></p></noscript>
</main>
</body>
</html>
"""


def shell(page: Page) -> str:
    """The document of a page."""
    preloads = "\n".join(f'<link rel="modulepreload" href="/assets/js/{name}.js">' for name in _SHARED)
    return _SHELL.format(
        title=html.escape(page.title), name=page.name, charts=_CHARTS if page.charts else "", preloads=preloads
    )

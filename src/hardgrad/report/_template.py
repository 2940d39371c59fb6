"""The page: its frame and its style. No script, no font, no picture from outside."""

from __future__ import annotations

from collections.abc import Mapping

from ._text import escape

# The policy forbids a browser to fetch or run anything, whatever a run's files have in them.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<p class="kind">hardgrad · report of a {kind}</p>
<h1>{title}</h1>
<p class="outcome"><span class="badge {badge}">{status}</span> {reason}</p>
{description}
<nav aria-label="Sections">{navigation}</nav>
</header>
<main>
{sections}
</main>
<footer>{footer}</footer>
</body>
</html>
"""

_STYLE = """
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1f2328; --soft: #59636e; --line: #d9dee3;
  --link: #005a8f; --good: #116b47; --good-card: #dcf3e8; --note: #0b4f80; --note-card: #dcecf8;
  --warn: #7a4a00; --warn-card: #fbeccd; --bad: #a12a12; --bad-card: #fbe3dc;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #0f1216; --card: #181c22; --ink: #e4e8ec; --soft: #9aa5b1; --line: #30363e;
    --link: #7cc0ee; --good: #7fdcb4; --good-card: #12382a; --note: #9bd0f5; --note-card: #12304a;
    --warn: #f4c878; --warn-card: #3d2d0c; --bad: #ffab95; --bad-card: #45190f;
  }
  /* Our curves turn with the page: light and dark swap, hues stay, black becomes the card. */
  .turns { filter: invert(1) hue-rotate(180deg); mix-blend-mode: screen; }
  /* A picture whose colours mean something keeps them, on paper. */
  .stays { background: #ffffff; border-radius: 6px; filter: brightness(.92); }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 50rem; background: var(--page); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Helvetica, Arial, sans-serif;
  overflow-wrap: anywhere;
}
a { color: var(--link); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .7rem; }
h2 { font-size: 1.2rem; margin: 0 0 .8rem; }
h3 { font-size: 1rem; margin: 1.3rem 0 .5rem; }
p { margin: 0 0 .7rem; }
.kind { color: var(--soft); font-size: .85rem; margin: 0 0 .3rem; }
.note, figcaption { color: var(--soft); font-size: .85rem; margin: .4rem 0 0; }
.outcome { display: flex; flex-wrap: wrap; gap: .3rem .7rem; align-items: baseline; }
.badge { padding: .1rem .65rem; border-radius: 1rem; font-size: .9rem; font-weight: 600;
  white-space: nowrap; }
.badge.good { color: var(--good); background: var(--good-card); }
.badge.note { color: var(--note); background: var(--note-card); margin: 0; }
.badge.warn { color: var(--warn); background: var(--warn-card); }
.badge.bad { color: var(--bad); background: var(--bad-card); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1rem; font-size: .9rem; margin: .9rem 0 0; }
nav a { padding: .25rem 0; }
section {
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem 1.2rem; margin: 1rem 0;
}
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr));
  gap: .9rem 1.2rem; margin: 0; }
.headline { font-size: 1.05rem; margin: 0 0 1rem; }
.figures dt { color: var(--soft); font-size: .82rem; }
.figures dd { margin: 0; font-size: 1.1rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.warnings { margin: 1rem 0 0; padding: .6rem .9rem .6rem 2rem; border-radius: 8px;
  color: var(--warn); background: var(--warn-card); }
figure { margin: 0 0 1.6rem; }
figure:last-child { margin-bottom: 0; }
figure h3 { margin-top: 0; }
/* Blending stays inside the figure, onto this ground. */
.sheet { background: var(--card); isolation: isolate; text-align: center; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.players { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(15rem, 100%), 1fr)); gap: .6rem 1.2rem; }
.players figure { margin: 0; }
.players figcaption { margin: 0 0 .2rem; }
audio { display: block; width: 100%; height: 2.6rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .87rem; min-width: 50%; }
th, td { text-align: left; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
th { overflow-wrap: break-word; }
thead th { color: var(--soft); font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 500; }
.long table { font-variant-numeric: tabular-nums; }
.long th, .long td { text-align: right; white-space: nowrap; }
.long tbody th, .long thead th:first-child { position: sticky; left: 0; background: var(--card); }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bad { color: var(--bad); font-weight: 600; }
.star { color: var(--good); }
summary { cursor: pointer; padding: .3rem 0; }
summary h2, summary h3 { display: inline; }
details > summary ~ * { margin-top: .6rem; }
.metrics { margin: 1rem 0 0; }
code, pre { font: .86em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { background: var(--page); border: 1px solid var(--line); border-radius: 6px; padding: .6rem .8rem;
  margin: 0 0 .8rem; overflow-x: auto; white-space: pre; overflow-wrap: normal; }
/* Where there is room for a line of a terminal, longer ones are wrapped; a phone scrolls, for the sake of tables. */
@media (min-width: 48rem) { .said { white-space: pre-wrap; } }
.pairs { display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: .6rem 0 0; padding: 0;
  list-style: none; font-size: .9rem; }
.pairs span { color: var(--soft); }
footer { color: var(--soft); font-size: .82rem; margin-top: 1.5rem; }
@media (max-width: 34rem) {
  body { padding: 1rem .6rem 2rem; }
  section { padding: .9rem .8rem; border-radius: 8px; }
  h1 { font-size: 1.4rem; }
  .figures { grid-template-columns: repeat(2, 1fr); }
  .sheet { margin: 0 -.65rem; }  /* a picture gets the whole width, for the sake of its letters */
}
@media print {
  body { max-width: none; padding: 0; background: #ffffff; font-size: 10pt; }
  nav, audio { display: none; }
  section { border: 0; padding: 0; margin: 0 0 1.2rem; }
  figure, tr, .figures > div, pre { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  pre { white-space: pre-wrap; }
  .metrics::details-content { content-visibility: visible; block-size: auto; }
  .badge, .warnings { border: 1px solid currentColor; }
}
"""


def page(
    kind: str,
    title: str,
    sections: Mapping[str, str],
    *,
    badge: str,
    status: str,
    reason: str,
    footer: str,
    description: str = "",
) -> str:
    """A whole page; all but `sections` and `description`, which are HTML, is plain text.

    Args:
        kind: of what it is the report.
        title: its heading.
        sections: by heading; empty ones are left out.
        badge: the status's colour: ``"good"``, ``"note"``, ``"warn"`` or ``"bad"``.
        status: how it ended, in a word or two.
        reason: the same in a sentence.
        footer: the last line.
        description: paragraphs below the status.
    """
    shown = {name: (name.lower().replace(" ", "-"), content) for name, content in sections.items() if content}
    return _PAGE.format(
        kind=escape(kind),
        title=escape(title),
        style=_STYLE,
        badge=badge,
        status=escape(status),
        reason=escape(reason),
        description=description,
        navigation=" ".join(f'<a href="#{anchor}">{escape(name)}</a>' for name, (anchor, _) in shown.items()),
        sections="\n".join(
            f'<section id="{anchor}">\n<h2>{escape(name)}</h2>\n{content}\n</section>'
            for name, (anchor, content) in shown.items()
        ),
        footer=escape(footer),
    )

"""The style of the page, for light and dark screens, phones and paper."""

from __future__ import annotations

# Blue and orange stay apart for every kind of color vision; text has a contrast of 4.5 or more on its ground.
STYLE = """
:root { color-scheme: light; --paper: #fff; --ink: #18212b; --soft: #566372; --line: #dbe1e8; --panel: #f4f7fa;
  --blue: #0a64a4; --orange: #b8480a; --red: #b3261e; --note: #fff6e0; --note-line: #e0a100; }
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; --paper: #10151a; --ink: #e6ebf0; --soft: #a2afbc; --line: #2c3641; --panel: #182028;
    --blue: #69b7f0; --orange: #f3a261; --red: #ff8b82; --note: #2a2412; --note-line: #c99700; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header, footer { max-width: 1000px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 48px; } footer { padding-top: 8px; padding-bottom: 64px; }
h1 { font-size: 17px; font-weight: 600; margin: 0; } h1 + p { margin: 2px 0 0; }
h2 { font-size: 24px; line-height: 1.25; letter-spacing: -.01em; margin: 0 0 12px; }
h3 { font-size: 17px; margin: 32px 0 8px; }
section { margin-top: 56px; padding-top: 32px; border-top: 1px solid var(--line); }
p { margin: 0 0 12px; max-width: 74ch; } ul { margin: 0 0 12px; padding-left: 1.2em; max-width: 74ch; }
.soft, caption, figcaption { color: var(--soft); font-size: 14px; }
.red { color: var(--red); }
a { color: var(--blue); }
nav { margin-top: 28px; display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 14px; }
.verdict { font-size: 26px; line-height: 1.35; letter-spacing: -.01em; font-weight: 600; margin: 36px 0 12px;
  max-width: 40em; text-wrap: pretty; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: 16px; margin: 28px 0; }
.tile { background: var(--panel); border-radius: 10px; padding: 16px 20px; }
.tile b { display: block; font-size: 34px; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: 14px; color: var(--soft); }
.note { background: var(--note); border-left: 4px solid var(--note-line); border-radius: 4px; padding: 14px 20px;
  margin: 0 0 20px; overflow-wrap: anywhere; }
.note > :last-child { margin-bottom: 0; }
header p.soft { max-width: none; } .charts + .soft { margin-top: 16px; }
.scroll { overflow-x: auto; margin: 16px 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: 15px; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: 8px; }
caption span { display: inline-block; max-width: calc(100vw - 32px); }
th, td { text-align: left; padding: 7px 20px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
thead th { font-size: 13px; font-weight: 600; color: var(--soft); vertical-align: bottom; }
tbody th { font-weight: 400; white-space: normal; min-width: 9em; overflow-wrap: anywhere; }
.prose { white-space: normal; overflow-wrap: anywhere; min-width: 5.2em; } .part { white-space: nowrap; }
tr.chosen th, tr.chosen td { font-weight: 650; } td:last-child, th:last-child { padding-right: 0; }
tr.red th, tr.red td { color: var(--red); } tr.group th { font-weight: 600; padding-top: 18px; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 24px 32px; }
.small { grid-template-columns: repeat(auto-fit, minmax(min(270px, 100%), 1fr)); }
figure { margin: 0; } figcaption { margin-top: 6px; overflow-wrap: anywhere; } .limit { max-width: 480px; }
svg { display: block; width: 100%; height: auto; overflow: visible; font-size: 12.5px; fill: var(--ink); }
svg text { fill: var(--soft); } svg .name { fill: var(--ink); } svg .label { fill: var(--ink); paint-order: stroke;
  stroke: var(--paper); stroke-width: 4px; stroke-linejoin: round; }
svg path, svg circle { fill: none; stroke: none; }
svg .grid { stroke: var(--line); } svg .axis { stroke: var(--soft); }
svg .chance { stroke: var(--soft); stroke-dasharray: 2 4; }
svg .other { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 6 4; }
svg .first { stroke: var(--blue); stroke-width: 2.2; stroke-linejoin: round; }
svg .warn { stroke: var(--red); stroke-width: 1.6; } svg .plain { stroke: var(--soft); stroke-width: 1.6; }
svg .first.dot { fill: var(--blue); } svg .warn.dot { fill: var(--red); } svg .plain.dot { fill: var(--soft); }
svg .band { fill: var(--blue); fill-opacity: .18; } svg .rule { stroke: var(--ink); stroke-dasharray: 5 4; }
svg .normal { fill: var(--blue); fill-opacity: .75; } svg .abnormal { fill: var(--orange); fill-opacity: .8; }
svg .unknown { fill: var(--soft); fill-opacity: .75; }
svg.bar { width: 258px; margin: 4px 0 12px; } svg.bar rect { shape-rendering: crispEdges; }
svg.whisker { width: 150px; height: 18px; margin-top: 3px; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 28px 32px; }
.cases img, .picture img { display: block; width: 100%; height: auto; border-radius: 4px; background: #000; }
.cases img { image-rendering: pixelated; } .triptych { position: relative; }
.triptych svg { position: absolute; inset: 0; height: 100%; }
.triptych path { stroke: #7fe7ff; stroke-width: 1.5px; stroke-linecap: square; vector-effect: non-scaling-stroke; }
.panels { display: grid; grid-auto-flow: column; grid-auto-columns: 1fr; font-size: 12px; color: var(--soft);
  padding-bottom: 4px; }
.case b { color: var(--ink); }
.settings { columns: 3 260px; column-gap: 40px; margin: 12px 0; padding: 0; font-size: 14px; }
.settings div { display: flex; justify-content: space-between; gap: 16px; break-inside: avoid; padding: 3px 0;
  border-bottom: 1px solid var(--line); }
.settings dt { color: var(--soft); } .settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
.glossary dt { font-weight: 600; margin-top: 12px; } .glossary dd { margin: 0; max-width: 74ch; }
@media (max-width: 560px) { main, header, footer { padding-left: 16px; padding-right: 16px; }
  .wide { display: none; } .part { display: block; } table { font-size: 14px; } th, td { padding-right: 5px; }
  .part + .part { font-size: 12px; font-weight: 400; letter-spacing: -.02em; }
  thead th { white-space: normal; font-size: 11.5px; } tbody th { min-width: 8em; } .prose { font-size: 13px; }
  header { padding-top: 28px; } .verdict { font-size: 21px; } section { margin-top: 36px; padding-top: 24px; } }
@media print { nav { display: none; } body { font-size: 10.5pt; } header { padding-top: 0; }
  main, header, footer { max-width: none; padding: 0; } section { margin-top: 24px; padding-top: 16px; }
  .scroll { overflow: visible; } table { font-size: 8.5pt; } svg.whisker { width: 90px; }
  th, td { padding-right: 8px; white-space: normal; }
  h1, h2, h3, h2 + p, h3 + p, h3 + p + p, svg.bar, caption, .glossary dt { break-after: avoid; }
  figure, tr, li, .glossary dd, .tile, .note, .scroll, svg.bar { break-inside: avoid; } p { orphans: 3; widows: 3; }
  .charts + .soft, .scroll + p, .settings + p { break-before: avoid; }
  .cases, .charts { grid-template-columns: 1fr 1fr; }
  .small { grid-template-columns: 1fr 1fr 1fr; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""

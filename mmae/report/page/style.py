"""The style of the pages: light and dark, phone, print. Colours of text have a contrast of at least 4.5 to 1."""

from __future__ import annotations

from typing import Final

LINES: Final = 6
"""Kinds of lines in a chart, told apart by colour and by dashes."""

STYLE: Final = """
:root { --back: #ffffff; --text: #1b1b1b; --soft: #595959; --edge: #c8c8c8; --card: #f6f6f6; --link: #0b4f9c;
  --c0: #1f5fa8; --c1: #b3400e; --c2: #1b7a3d; --c3: #7a3e9d; --c4: #7d6100; --c5: #444444;
  --land: #d9d9d9; --fault: #b00020; }
@media screen and (prefers-color-scheme: dark) { :root { --back: #16181c; --text: #ededed; --soft: #b4b4b4;
  --edge: #4a4d52; --card: #1f2226; --link: #8ab8f0; --c0: #7fb2ee; --c1: #f0a27c; --c2: #7fd19b; --c3: #cda2e6;
  --c4: #e0c95f; --c5: #cccccc; --land: #3a3d42; --fault: #ff8a8a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.25rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; background: var(--back); padding: .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; margin: 0; }
dl { margin: 0; } dl > div { display: flex; flex-wrap: wrap; gap: 0 .75rem; border-bottom: 1px solid var(--edge); }
dt { min-width: 12rem; color: var(--soft); } dd { margin: 0; flex: 1 1 16rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); gap: 1rem; }
.figures > * { min-width: 0; } .figures > p { grid-column: 1 / -1; }
figure { margin: 0; background: var(--card); padding: .75rem; border-radius: .4rem; }
figcaption { font-weight: 600; } figure p { margin: .25rem 0; color: var(--soft); font-size: .875rem; }
figure.map { max-width: 44rem; margin-top: 1rem; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--text); font: 12.5px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--edge); stroke-width: .5; }
svg .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } svg .band { opacity: .18; stroke: none; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); stroke-dasharray: 6 3; }
.c2 { stroke: var(--c2); stroke-dasharray: 2 3; }
.c3 { stroke: var(--c3); stroke-dasharray: 9 3 2 3; } .c4 { stroke: var(--c4); stroke-dasharray: 12 4; }
.c5 { stroke: var(--c5); stroke-dasharray: 4 4; }
.f0 { fill: var(--c0); } .f1 { fill: var(--c1); } .f2 { fill: var(--c2); } .f3 { fill: var(--c3); }
.f4 { fill: var(--c4); } .f5 { fill: var(--c5); }
.land { fill: var(--land); } .event { stroke: var(--soft); stroke-width: 1; } .event.fault { stroke: var(--fault); }
.event.resume { stroke-dasharray: 4 2; } .event.save { stroke-width: .75; stroke-dasharray: 1 3; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; list-style: none; padding: 0; margin: .25rem 0 0;
  font-size: .875rem; } .legend svg { display: inline-block; width: 2rem; height: .7rem; vertical-align: middle; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; width: 100%; }
caption { text-align: left; color: var(--soft); } th { overflow-wrap: normal; }
th, td { text-align: left; padding: .15rem .6rem .15rem 0;
  border-bottom: 1px solid var(--edge); vertical-align: top; } td.n { white-space: nowrap; }
summary { cursor: pointer; padding: .25rem 0; }
.choice { display: inline-block; margin-right: 1rem; } #scale-linear:checked ~ .figures .of-log,
#scale-log:checked ~ .figures .of-linear { display: none; }
.film { display: flex; gap: 1rem; overflow-x: auto; } .film figure { flex: 0 0 min(100%, 54rem); }
.film.one { display: block; } .film img { width: 100%; height: auto; } input[type=range] { width: min(100%, 24rem); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .75rem; }
.tiles img { width: 100%; image-rendering: pixelated; } .warning { border-left: 4px solid var(--fault);
  padding-left: .75rem; } .warning strong { color: var(--fault); } footer { margin-top: 2rem; color: var(--soft); }
@media (max-width: 40rem) { .map text { font-size: 26px; } }
@media print { :root { --back: #ffffff; --text: #000000; --card: #ffffff; } body { max-width: none; font-size: 10pt; }
  nav, .skip, .scales > input, .choice, .film-step, details:not([open]) { display: none; }
  h2, h3, caption, figcaption { break-after: avoid; } figure, tr, dl > div { break-inside: avoid; } thead {
  display: table-header-group; break-after: avoid; } figure { padding: .25rem; } .map { max-width: 30rem; }
  .figures, .film, .film.one { display: grid; grid-template-columns: 1fr 1fr; gap: .5rem; }
  .film figure[hidden] { display: block; } .scroll, .film { overflow: visible; } h2 { margin-top: 1rem; }
  .tiles { grid-template-columns: repeat(4, 1fr); } }
"""

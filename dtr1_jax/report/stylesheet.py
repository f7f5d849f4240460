"""The start of report.html: its head, with the style sheet, up to the first section."""

# Colours c0 .. c5 are those of the charts (charts.COLOURS). The content policy forbids scripts and outside resources.
HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>DT-R1 report</title><style>
:root { color-scheme: light dark; --bg: #f7f7f5; --card: #fff; --ink: #1d1f23; --soft: #676c76; --line: #e3e4e6;
  --up: #14804a; --down: #b3362c; --c0: #2f6fde; --c1: #d9732b; --c2: #2a9d6a; --c3: #a44bc2; --c4: #b08a12;
  --c5: #4d97a8; }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1d2026; --ink: #e8e9ec; --soft: #9aa0ab;
  --line: #31353d; --up: #4cc38a; --down: #f0776c; --c0: #6ea2ff; --c1: #f29a5c; --c2: #53c793; --c3: #cf8ae6;
  --c4: #d8b64a; --c5: #7cc4d4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 12px; } h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; } h4 { font-size: 13px; margin: 0 0 8px; color: var(--soft); }
small, .note, .none, figcaption { color: var(--soft); font-size: 13px; font-weight: 400; } p { margin: 0; }
.warnings { border-left: 4px solid var(--down); margin: 0; padding: 4px 4px 4px 28px; overflow-wrap: anywhere; }
.none { font-style: italic; } .up { color: var(--up); } .down { color: var(--down); }
.chips { display: flex; flex-wrap: wrap; gap: 6px; font-size: 12px; color: var(--soft); }
.chips span { border: 1px solid var(--line); border-radius: 99px; padding: 1px 9px; overflow-wrap: anywhere; }
.chips b { font-weight: 500; color: var(--ink); } h4 .chips { display: inline-flex; margin-left: 6px; }
.chips .up { color: var(--up); } .chips .down { color: var(--down); }
.tiles, .grid2, .sides { display: grid; gap: 14px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); }
.grid2 { grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.sides { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); margin-top: 12px; }
.sides > div { min-width: 0; }
.tile, .panel, article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
article { margin: 0 0 14px; } article > .chips { margin-top: 6px; }
.big { font-size: 25px; font-weight: 600; font-variant-numeric: tabular-nums; }
.big i { color: var(--soft); font-weight: 400; }
figure { margin: 0; min-width: 0; }
.panel figcaption { margin-bottom: 6px; color: var(--ink); overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 10.5px; }
svg .grid { stroke: var(--line); } polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.faint { opacity: .3; stroke-width: 1; }
.c0 { stroke: var(--c0); background: var(--c0); } .c1 { stroke: var(--c1); background: var(--c1); }
.c2 { stroke: var(--c2); background: var(--c2); } .c3 { stroke: var(--c3); background: var(--c3); }
.c4 { stroke: var(--c4); background: var(--c4); } .c5 { stroke: var(--c5); background: var(--c5); }
circle { fill: var(--card); stroke-width: 1.6; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--soft); margin-top: 6px; }
.legend i { display: inline-block; width: 12px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; }
.pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; text-align: center; }
img, .blank { width: 100%; border-radius: 6px; border: 1px solid var(--line); display: block; }
.blank { aspect-ratio: 1; display: grid; place-items: center; font-size: 11px; color: var(--soft); padding: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr 3em; gap: 3px 10px; align-items: center; margin: 8px 0;
  font-size: 12px; }
dt { overflow-wrap: anywhere; max-width: 14em; } dd { margin: 0; color: var(--soft); text-align: right; }
dd:has(i) { height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
dd i { display: block; height: 100%; background: var(--c0); }
details { margin-top: 10px; font-size: 13px; } summary { cursor: pointer; color: var(--soft); }
details > .grid2 { margin-top: 12px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--bg); border-radius: 6px; padding: 10px;
  font-size: 12px; max-height: 340px; overflow: auto; } code { font-size: 12px; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 18px; color: var(--down); }
table { border-collapse: collapse; font-size: 12.5px; } th { text-align: left; vertical-align: top; font-weight: 500;
  padding: 2px 18px 2px 0; color: var(--soft); } td { padding: 2px 18px 2px 0; vertical-align: top;
  overflow-wrap: anywhere; }
</style></head><body><main>"""

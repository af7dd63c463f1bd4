"""A network as a picture: a row for each block, from the image down, with its width, kernels and share of the MACs."""

import dataclasses
from html import escape
from typing import Any

from nas.networks.architecture import Arch, Layer, cost, walk

WIDTH, ROW, TOP = 640, 26, 64
BAR_AT, BAR, SHARE_AT, SHARE = 390, 90, 528, 60
BLOCK_LETTERS = 46  # of the text that describes a block
COLOURS = ("#d9480f", "#e8890c", "#2b8a3e", "#1971c2", "#6741d9", "#495057")  # from high resolution to low
FONT = "Verdana, DejaVu Sans, Arial, sans-serif"
INK, FAINT = "#212529", "#868e96"


def svg(arch: Arch, name: str) -> str:
    """An SVG picture of `arch`, under the title `name`; text and bars, no scripts, nothing from outside.

    A row for each block: the side of its output map, what it is, its output channels, its share of the MACs.
    """
    layers, spent = walk(arch), cost(arch)
    height = TOP + ROW * len(layers) + 14
    widest = max(layer.drawn.out.channels for layer in layers[:-1]) or 1
    most = max(layer.drawn.cost.macs for layer in layers) or 1
    sizes = sorted({layer.drawn.out.size for layer in layers}, reverse=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(name, True)}" font-family="{FONT}" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(8, 22, name, size=15, weight="bold"),
        _text(
            8,
            40,
            f"{spent.macs / 1e6:.2f} M multiply-accumulates, {spent.params / 1e6:.3f} M params, {arch.resolution}x"
            f"{arch.resolution} to {arch.classes} classes",
            colour=FAINT,
        ),
        _text(8, TOP - 6, "map", colour=FAINT, size=10),
        _text(62, TOP - 6, "block", colour=FAINT, size=10),
        _text(BAR_AT, TOP - 6, "channels", colour=FAINT, size=10),
        _text(SHARE_AT, TOP - 6, "MACs", colour=FAINT, size=10),
    ]
    for i, layer in enumerate(layers):
        parts += _row(layer, TOP + ROW * i, sizes, widest, most, spent.macs or 1)
    return "\n".join([*parts, "</svg>"]) + "\n"


def png(picture: str) -> bytes:
    """An SVG picture as a PNG, twice as large. Raises ImportError where resvg-py is not installed."""
    from resvg_py import svg_to_bytes

    content: bytes = bytes(svg_to_bytes(svg_string=picture, zoom=2))
    return content


def _row(layer: Layer, y: int, sizes: list[int], widest: int, most: int, total: int) -> list[str]:
    out, place = layer.drawn.out, layer.place
    colour = COLOURS[min(sizes.index(out.size), len(COLOURS) - 1)]
    middle = y + ROW // 2 + 4
    arrow = " ↓" if out.size < place.size else ""
    title = f"{layer.name}: {described(layer)}; {place.cin} channels at {place.size}x{place.size} to {out.channels} at "
    title += f"{out.size}x{out.size}; {layer.drawn.cost.macs:,} MACs, {layer.drawn.cost.params:,} params"
    text = described(layer)
    shown = text if len(text) <= BLOCK_LETTERS else text[: BLOCK_LETTERS - 1] + "…"
    share = layer.drawn.cost.macs / total
    return [
        f"<g><title>{escape(title)}</title>",
        f'<rect x="0" y="{y}" width="{WIDTH}" height="{ROW}" fill="{colour}" fill-opacity="0.05"/>',
        f'<rect x="0" y="{y}" width="4" height="{ROW}" fill="{colour}"/>',
        _text(10, middle, f"{out.size}x{out.size}{arrow}", colour=colour, weight="bold", size=11),
        _text(62, middle, shown),
        _bar(BAR_AT, y, BAR * min(1.0, out.channels / widest), colour),
        _text(BAR_AT + BAR * min(1.0, out.channels / widest) + 4, middle, str(out.channels), size=11),
        _bar(SHARE_AT, y, SHARE * layer.drawn.cost.macs / most, INK),
        _text(SHARE_AT + SHARE * layer.drawn.cost.macs / most + 4, middle, f"{100 * share:.0f} %", size=11),
        "</g>",
    ]


def described(layer: Layer) -> str:
    """What a layer is, in a few words: its kind and all that is not as by default."""
    joined = f"{len(layer.reads)} maps, " if len(layer.reads) > 1 else ""
    return joined + _said(layer.place.part)


def _said(part: Any) -> str:
    kind = getattr(part, "kind", type(part).__name__.lower())
    words = []
    for field in dataclasses.fields(part):
        value = getattr(part, field.name)
        if (value == field.default and field.name not in ("kernel", "expand")) or field.name in ("width", "stride"):
            continue
        words.append(_value(field.name, value))
    return f"{kind} {', '.join(words)}".strip()


def _value(name: str, value: Any) -> str:
    if dataclasses.is_dataclass(value):
        return f"({_said(value)})"
    if isinstance(value, tuple):
        value = "+".join(f"({_said(v)})" if dataclasses.is_dataclass(v) else str(v) for v in value)
    if isinstance(value, bool):
        return name if value else f"no {name}"
    number = f"{value:g}" if isinstance(value, float) else str(value)
    return {"expand": f"x{number}", "kernel": f"k {number}", "expand_act": f"expand {number}"}.get(
        name, f"{name.replace('_', ' ')} {number}"
    )


def _bar(x: float, y: int, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y + 6}" width="{max(width, 1):.1f}" height="{ROW - 12}" rx="2" fill="{colour}"/>'


def _text(x: float, y: float, text: str, colour: str = INK, size: int = 12, weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'
    )

"""An architecture as the source of a Python module that needs torch and nothing else: plain layers, one class for each
kind of block, to be read and changed by whoever uses the network.
"""

from collections.abc import Mapping

from nas.networks.architecture import Arch, Layer, Place, arch_id, cost, drawing, walk, wired
from nas.networks.graph import (
    Act,
    Add,
    Cat,
    Conv,
    Dropout,
    Gain,
    Graph,
    Input,
    Linear,
    Mean,
    Node,
    Norm,
    Pad,
    Pool,
    Scale,
    Shuffle,
    Slice,
)
from nas.networks.profile import NAMES, POOLS

GAINED = '''
class Gained(nn.Module):
    """Its input times one learnt number."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.weight
'''
SHUFFLED = '''
def shuffled(x, groups):
    """Channel shuffle: channels read as (groups, rest), with the two swapped."""
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)
'''
ENDS = '''
def preprocess(picture):
    """What the network takes, (N, CHANNELS, RESOLUTION, RESOLUTION), of a picture: a file, one of PIL's, or its pixels,
    uint8 (height, width, channels), and of N such (N, height, width, channels).

    Pixels of the network's own size are taken as they are; of all else `square` takes the middle.
    """
    if isinstance(picture, (list, tuple)):
        return torch.cat([preprocess(one) for one in picture])
    if isinstance(picture, (str, Path)) or hasattr(picture, "convert"):
        pixels = square(picture)[None]
    else:
        pixels = picture if torch.is_tensor(picture) else torch.from_numpy(picture.copy())
        if pixels.dtype != torch.uint8 or pixels.ndim not in (3, 4) or pixels.shape[-1] not in (1, 3):
            found = f"{pixels.dtype} {tuple(pixels.shape)}"
            raise ValueError(f"pixels must be uint8 (N, height, width, channels), with 1 or 3 channels, got {found}")
        pixels = pixels if pixels.ndim == 4 else pixels[None]
        if pixels.shape[1:] != (RESOLUTION, RESOLUTION, CHANNELS):
            import numpy
            from PIL import Image

            size, mode = pixels.shape[1:3], "L" if CHANNELS == 1 else "RGB"
            images = [Image.fromarray(one.squeeze(-1).numpy()).convert(mode) for one in pixels]
            made = [numpy.array(one) if size == (RESOLUTION, RESOLUTION) else square(one).numpy() for one in images]
            pixels = torch.from_numpy(numpy.array(made, "uint8")).reshape(-1, RESOLUTION, RESOLUTION, CHANNELS)
    return ((pixels / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2)


def square(picture):
    """The middle of a picture, a file or of PIL's, as pixels (RESOLUTION, RESOLUTION, CHANNELS); needs Pillow.

    It is turned as its camera says, and white where it is transparent.
    """
    import numpy
    from PIL import Image, ImageOps

    mode = "L" if CHANNELS == 1 else "RGB"
    if not hasattr(picture, "convert"):
        with Image.open(picture) as image:
            image.draft(mode, (2 * STORED, 2 * STORED))  # of a JPEG no more is decoded than is needed
            return square(image)
    image = ImageOps.exif_transpose(picture)
    if image.mode[0] in "IF":  # 16 bits a level, or floats in 0 to 1
        levels, most = numpy.asarray(image), 1 if image.mode == "F" else 65_535
        if not (levels.min() >= 0 and levels.max() <= most):
            raise ValueError(f"its levels go from {levels.min()} to {levels.max()}; they must be in 0 to {most}")
        image = Image.fromarray((levels * (255 / most)).round().astype("uint8"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image, short = image.convert(mode), min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    image = image.crop((left, top, left + short, top + short)).resize((STORED, STORED), Image.Resampling.BILINEAR)
    pixels, begin = numpy.array(image).reshape(STORED, STORED, CHANNELS), (STORED - RESOLUTION) // 2
    return torch.from_numpy(pixels)[begin : begin + RESOLUTION, begin : begin + RESOLUTION]


def check(images):
    """Raises ValueError where images are of another size than the network was made for."""
    if images.shape[1:] != (CHANNELS, RESOLUTION, RESOLUTION):
        size, found = f"{CHANNELS}, {RESOLUTION}, {RESOLUTION}", tuple(images.shape)
        raise ValueError(f"images must be (N, {size}), which preprocess makes of any picture, got {found}")


def load(file=Path(__file__).with_name(WEIGHTS)):
    """The trained network, its weights read from a safetensors file."""
    content = Path(file).read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    weights = {}
    for name, entry in json.loads(content[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            kind = {"F32": torch.float32, "I64": torch.int64}[entry["dtype"]]
            raw = bytearray(content[start + begin : start + end])
            weights[name] = torch.frombuffer(raw, dtype=kind).reshape(entry["shape"])
    network = Network()
    network.load_state_dict(weights)
    return network.eval()


@torch.no_grad()
def main(files):
    """Prints the likeliest classes of each picture; how many cannot be read."""
    network, unread = load(), 0
    for file in files:
        try:
            images = preprocess(file)
        except Exception as error:  # whatever Pillow raises of a broken file, or of one that is too large
            print(f"{file} cannot be read: {error}", file=sys.stderr)
            unread += 1
            continue
        shares, places = network(images)[0].softmax(0).topk(min(5, len(CLASSES)))
        best = zip(places.tolist(), shares.tolist())
        print(f"{file}: " + ", ".join(f"{CLASSES[i]} {100 * share:.1f} %" for i, share in best))
    return unread


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])) if sys.argv[1:] else "name pictures: python model.py photo.jpg")
'''


def python_source(
    arch: Arch,
    about: str,
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
    weights: str,
    share: float = 1.0,
) -> str:
    """A module with `Network`, `load`, `preprocess`, and the constants that these need; as a program it says what
    pictures show.

    `about`: the first line of its docstring. `weights`: the file beside it that `load` reads; see `renamed`. `share`:
    of a picture's short side, the middle that is seen.
    """
    layers = walk(arch)
    named = _classes(layers)
    spent = cost(arch)
    uses = {type(node.op) for layer in layers for node in wired(layer.place)[0]}
    side = arch.resolution
    shape = f"N, {arch.channels}, {side}, {side}"
    about = " ".join(
        about.replace("\\", "/").replace('"', "'").split()
    )  # it stands in a docstring, and may hold anything
    head = [
        f'"""{about}',
        "",
        f"Network {arch_id(arch)}: images ({shape}) to logits (N, {arch.classes}); {spent.macs:,}",
        f"multiply-accumulates of convolutions and linear layers for one image, {spent.params:,} parameters.",
        "Written by nas; needs torch and nothing else; to read pictures Pillow too: python model.py photo.jpg",
        '"""',
        "",
        "import json",
        "import sys",
        "from pathlib import Path",
        "",
        "import torch",
        "from torch import nn",
        *(["from torch.nn import functional"] if Pad in uses else []),
        "",
        f"CLASSES = {classes!r}",
        f"MEAN = {mean!r}  # a channel, of pixels in [0, 1]",
        f"STD = {std!r}",
        f"RESOLUTION, CHANNELS = {side}, {arch.channels}  # of the images that the network takes",
        f"STORED = {round(side / share)}  # pixels a side that pictures are brought to; of these the middle is seen",
        f"WEIGHTS = {weights!r}",
        "",
    ]
    text = "\n".join(head)
    if Gain in uses:
        text += "\n" + GAINED + "\n"
    if Shuffle in uses:
        text += "\n" + SHUFFLED + "\n"
    written: set[str] = set()
    for layer in layers:
        name = named[layer.name]
        if name not in written:
            written.add(name)
            text += "\n\n" + _class(name, layer)
    text += "\n\n" + _network(arch, layers, named)
    return text + "\n" + ENDS


def renamed(arch: Arch) -> dict[str, str]:
    """The names of weights in that module, by those of the state dict of the built model, up to the last dot."""
    names: dict[str, str] = {}
    for layer in walk(arch):
        for node in wired(layer.place)[0]:
            names[f"{layer.name}.{node.module}"] = f"{_plain(layer.name)}.{_plain(node.module)}"
    assert len(set(names.values())) == len(names), "two layers would get one name"
    return names


def _plain(name: str) -> str:
    return name.replace(".", "_")


def _classes(layers: tuple[Layer, ...]) -> dict[str, str]:
    """The class of each layer: one for all that are drawn alike."""
    kinds: dict[str, list[str]] = {}
    found: dict[str, tuple[str, int]] = {}
    for layer in layers:
        kind = type(layer.place.part).__name__
        drawings = kinds.setdefault(kind, [])
        if drawing(layer.place) not in drawings:
            drawings.append(drawing(layer.place))
        found[layer.name] = kind, drawings.index(drawing(layer.place)) + 1
    return {
        name: kind if len(kinds[kind]) == 1 and kind not in ("Conv", "Linear") else f"{kind}{number}"
        for name, (kind, number) in found.items()
    }


def _class(name: str, layer: Layer) -> str:
    nodes, out = wired(layer.place)
    place: Place = layer.place
    lines = [f"class {name}(nn.Module):", f'    """{_about(place, out.size)}"""', "", "    def __init__(self):"]
    lines += ["        super().__init__()"]
    made: set[str] = set()
    for node in nodes:
        module = _module(node)
        if module and node.module not in made:
            made.add(node.module)
            lines.append(f"        self.{_plain(node.module)} = {module}")
    variables = _variables(nodes)
    lines += ["", f"    def forward(self, {variables[nodes[0].out.at]}):"]
    flat: set[int] = set()
    for node in nodes[1:]:
        lines.append(f"        {variables[node.out.at]} = {_call(node, variables, flat)}")
        if isinstance(node.op, Linear) or (isinstance(node.op, Act | Dropout) and node.reads[0].at in flat):
            flat.add(node.out.at)
    last = lines.pop().partition(" = ")[2]
    return "\n".join([*lines, f"        return {last}", ""])


def _about(place: Place, size: int) -> str:
    channels = f"{place.cin} channels at {place.size}x{place.size} to {place.cout} at {size}x{size}"
    return f"{type(place.part).__name__}: {channels}."


def _variables(nodes: Graph) -> dict[int, str]:
    """What each map is called: "x" where the next node alone reads it, else by where it comes from."""
    last = {read.at: node.out.at for node in nodes for read in node.reads}
    names = {}
    for node in nodes:
        at = node.out.at
        if last.get(at, at + 1) == at + 1:
            names[at] = "x"
        else:
            names[at] = "inputs" if isinstance(node.op, Input) else _plain(node.name)
    return names


def _module(node: Node) -> str | None:
    """What makes the module of a layer; None for those that are functions."""
    cin = node.reads[0].channels if node.reads else 0
    match node.op:
        case Conv(cout, kernel, stride, pad, groups, bias):
            given = [str(cin), str(cout), _pair(kernel)]
            given += [f"stride={stride}"] * (stride != 1) + [f"padding={_pair(pad)}"] * (pad != (0, 0))
            given += [f"groups={groups}"] * (groups != 1) + ["bias=False"] * (not bias)
            return f"nn.Conv2d({', '.join(given)})"
        case Linear(cout, bias):
            return f"nn.Linear({cin}, {cout}{'' if bias else ', bias=False'})"
        case Norm():
            return f"nn.BatchNorm2d({cin})"
        case Act(name):
            return f"nn.{NAMES[name]}()"
        case Pool(mode, kernel, stride, pad, ceil):
            given = [str(kernel), f"stride={stride}"] + [f"padding={pad}"] * (pad != 0) + ["ceil_mode=True"] * ceil
            return f"nn.{POOLS[mode]}({', '.join(given)})"
        case Mean():
            return "nn.AdaptiveAvgPool2d(1)"
        case Gain():
            return "Gained()"
        case Dropout(share):
            return f"nn.Dropout({share})"
    return None


def _pair(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else str(sides)


def _call(node: Node, variables: Mapping[int, str], flat: set[int]) -> str:
    x = [variables[read.at] for read in node.reads]
    match node.op:
        case Pad():
            return f"functional.pad({x[0]}, (0, 1, 0, 1))"
        case Cat():
            return f"torch.cat([{', '.join(x)}], 1)"
        case Slice(start, stop):
            return f"{x[0]}[:, {start}:{stop}]"
        case Shuffle(groups):
            return f"shuffled({x[0]}, {groups})"
        case Add():
            return f"{x[0]} + {x[1]}"
        case Scale():
            gate = f"{x[1]}[:, :, None, None]" if node.reads[1].at in flat else x[1]
            return f"{x[0]} * {gate}"
        case Linear() if node.reads[0].at not in flat:
            return f"self.{_plain(node.module)}({x[0]}.flatten(1))"
        case Conv() if node.reads[0].at in flat:
            return f"self.{_plain(node.module)}({x[0]}[:, :, None, None])"
    return f"self.{_plain(node.module)}({x[0]})"


def _network(arch: Arch, layers: tuple[Layer, ...], named: Mapping[str, str]) -> str:
    lines = ["class Network(nn.Module):", f'    """The whole network: {arch.classes} classes."""', ""]
    lines += ["    def __init__(self):", "        super().__init__()"]
    lines += [f"        self.{_plain(layer.name)} = {named[layer.name]}()" for layer in layers]
    lines += ["", "    def __call__(self, images):"]
    lines += ["        check(images)  # not in forward, which tracers and compilers read"]
    lines += ["        return super().__call__(images)"]
    lines += ["", "    def forward(self, images):"]
    last = {source: i for i, layer in enumerate(layers) for source in layer.reads}
    outs = ["x" if last.get(i, i + 1) == i + 1 else _plain(layer.name) for i, layer in enumerate(layers)]
    for i, layer in enumerate(layers):
        reads = [outs[source] for source in layer.reads]
        x = "images" if not reads else reads[0] if len(reads) == 1 else f"torch.cat([{', '.join(reads)}], 1)"
        lines.append(f"        {outs[i]} = self.{_plain(layer.name)}({x})")
    return "\n".join([*lines, "        return x.flatten(1)", ""])

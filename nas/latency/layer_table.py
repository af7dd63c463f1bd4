"""Latency from a table of layers: their files are written, times that were measured on a device are read, and a network
takes the sum of its layers'."""

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from nas.errors import Error
from nas.latency.boards import device_model
from nas.models.litert_layers import Layer, layers
from nas.networks.architecture import Arch
from nas.records.atomic_files import making, moved
from nas.records.timing import Measurement, exactly

TABLE = "layers.csv"
COLUMNS = "layer", "file", "kind", "reads", "weights", "gives", "macs", "ms"
WHOLE = "network {name}"  # the row of a whole network


def write_layers(networks: Mapping[str, Arch], folder: Path) -> int:
    """How many different layers `networks` have. Each is written into `folder` as an int8 .tflite file of its own, the
    networks too, and a row each in layers.csv, whose column ms is left to be filled in.

    Raises Error where the folder has such a table: there may be times in it.
    """
    if (folder / TABLE).exists():
        raise Error(f"{folder / TABLE} is there, perhaps with times in it; take another folder for --write-layers")
    found: dict[str, Layer] = {}
    with making(folder) as staging:
        rows = []
        for name, arch in networks.items():
            model = device_model(arch)
            parts = layers(model)
            found |= {layer.name: layer for layer in parts}
            file = f"network-{re.sub(r'[^A-Za-z0-9.-]', '_', name)}.tflite"
            (staging / file).write_bytes(model)
            macs = sum(layer.macs for layer in parts)
            rows.append({"layer": WHOLE.format(name=name), "file": file, "kind": "network", "macs": str(macs)})
        for layer in found.values():
            file = f"{layer.name}.tflite"
            (staging / file).write_bytes(layer.model)
            row = {"layer": layer.name, "file": file, "kind": layer.kind, "reads": layer.reads}
            rows.append(row | {"weights": layer.weights, "gives": layer.gives, "macs": str(layer.macs)})
        with (staging / TABLE).open("w", newline="") as handle:
            writer = csv.DictWriter(handle, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        moved(staging, folder, TABLE, ())
    return len(found)


def read_table(file: Path) -> dict[str, float]:
    """Milliseconds by layer; rows without are left out. Raises Error where the file is no such table."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            lines = csv.DictReader(handle)
            rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Error(f"--table {file} cannot be read: {error}") from None
    if not rows or not {"layer", "ms"} <= rows[0][1].keys():
        raise Error(f"--table {file} must have the columns layer and ms, as {TABLE} of nas measure --write-layers has")
    found: dict[str, float] = {}
    for line, row in rows:
        layer, text = (row["layer"] or "").strip(), (row["ms"] or "").strip()
        if not layer or not text:
            continue
        try:
            ms = float(text)
        except ValueError:
            ms = math.nan
        if not 0 <= ms < 1e9:
            raise Error(f"{file} line {line}: ms must be a number of milliseconds, got {text!r}")
        if ms == 0 and layer.startswith(WHOLE.format(name="")):
            raise Error(f"{file} line {line}: a whole network takes more than 0 ms; give a fraction, or leave it empty")
        if layer in found:
            raise Error(f"{file} line {line}: {layer} is there twice; keep one")
        found[layer] = ms
    if not found:
        raise Error(f"no row of {file} has ms: measure the files beside it on the device, and fill in what each takes")
    return found


def summed(name: str, arch: Arch, table: Mapping[str, float], file: Path) -> Measurement:
    """What `arch` takes, as the sum of its layers in `table`, and where the table has it what it takes as a whole.

    Raises Error where layers are missing.
    """
    names = [layer.name for layer in layers(device_model(arch))]
    if missing := sorted({one for one in names if one not in table}):
        raise Error(
            f"{len(missing)} of the {len(set(names))} layers of {name} have no ms in {file}, the first {missing[0]}; "
            f"nas measure {name} --write-layers FOLDER writes their files"
        )
    total = sum(table[one] for one in names)
    if not total > 0:
        raise Error(f"the layers of {name} take 0 ms together by {file}; give milliseconds with a fraction")
    latency = replace(exactly(total), runtime=f"the sum of {len(names)} layers", device=str(file), threads=1)
    return Measurement(name, arch, latency, None, table.get(WHOLE.format(name=name)))

"""Search spaces and published anchors: data only. To add a family: one file here, one line in each table."""

from nas.arch import Anchor
from nas.space import Space
from search_spaces import lowres
from search_spaces.lightweight import LIGHTWEIGHT
from search_spaces.lowres import LOWRES

SPACES: dict[str, Space] = {space.name: space for space in (LIGHTWEIGHT, LOWRES)}
ANCHORS: dict[str, Anchor] = {**lowres.ANCHORS}
BASELINE = "lowres-mobilenet"

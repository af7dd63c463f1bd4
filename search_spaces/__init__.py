"""Search spaces and published anchors: data only. To add a family: one file here, one line in each table."""

from nas.networks.architecture import Anchor
from nas.networks.space import Space
from search_spaces import (
    ghostnet,
    hlcnn,
    lowres,
    microcontrollers,
    mobilenet,
    mobilenetv3,
    references,
    resnet,
    shufflenet,
    squeezenet,
)
from search_spaces.lightweight import LIGHTWEIGHT
from search_spaces.lowres import LOWRES

SPACES: dict[str, Space] = {
    space.name: space
    for space in (
        LIGHTWEIGHT,
        LOWRES,
        resnet.P_RESNET,
        mobilenetv3.DP_NET,
        mobilenet.MOBILENETV1,
        mobilenet.MOBILENETV2,
        shufflenet.SHUFFLENETV1,
        shufflenet.SHUFFLENETV2,
        hlcnn.HL_CNN,
        ghostnet.GHOSTNET,
        squeezenet.SQUEEZENET,
    )
}
ANCHORS: dict[str, Anchor] = {
    **lowres.ANCHORS,
    **mobilenet.ANCHORS,
    **shufflenet.ANCHORS,
    **squeezenet.ANCHORS,
    **resnet.ANCHORS,
    **mobilenetv3.ANCHORS,
    **ghostnet.ANCHORS,
    **hlcnn.ANCHORS,
    **references.ANCHORS,
    **microcontrollers.ANCHORS,
}
BASELINE = "lowres-mobilenet"

"""The axis that slides, in each node."""

from tests.tilekit.exact._nets import Net, cached_decoder, image_decoder, image_encoder, video_decoder

from tilekit._exact.graph import Graph
from tilekit._exact.labels import candidates, labels
from tilekit._exact.ops import Conv, Moments, Permute, Reshape, Whole


def kinds(graph: Graph, kind: type) -> list[int]:
    return [node.index for node in graph.nodes if isinstance(node.op, kind)]


def test_convolutions_name_the_axes() -> None:
    assert candidates(image_decoder()) == (2, 3)
    assert candidates(image_encoder()) == (2, 3)
    assert candidates(video_decoder()) == (4, 3, 2)


def test_an_axis_that_nothing_slides_along_is_no_candidate() -> None:
    net = Net((2, 4, 9))
    assert candidates(net.graph(net.silu(net.conv(net.input, 4)))) == (2,)


def test_without_a_convolution_the_longest_axis_of_the_input_slides() -> None:
    net = Net((2, 4, 9))
    assert candidates(net.graph(net.silu(net.input))) == (2,)


def test_every_node_of_an_image_network_slides_but_its_statistics() -> None:
    graph = image_decoder(9, 7)
    rows = labels(graph, 2)
    open_nodes = {n.index for n in graph.nodes if graph.live[n.index] and rows[n.index] is None}
    assert open_nodes == set(kinds(graph, Moments))
    assert all(rows[index] == 2 for index in kinds(graph, Conv))


def test_the_label_goes_through_permutations_and_merged_axes() -> None:
    net = Net((1, 4, 6, 5))
    x = net.conv(net.input, 4)
    flat = net.add(Reshape(), (x,), (1, 4, 30))
    last = net.add(Permute((0, 2, 1)), (flat,), (1, 30, 4))
    back = net.add(Reshape(), (last,), (1, 6, 5, 4))
    graph = net.graph(back)
    found = labels(graph, 1)
    assert [found[i] for i in (net.input, x, flat, last, back)] == [2, 2, 2, 1, 1]
    columns = labels(graph, 2)
    assert [columns[i] for i in (x, flat, last, back)] == [3, None, None, 2]


def test_frames_that_are_a_batch_slide_as_a_batch() -> None:
    net = Net((1, 4, 3, 8, 8))
    x = net.causal(net.input, 4)
    moved = net.add(Permute((0, 2, 1, 3, 4)), (x,), (1, 3, 4, 8, 8))
    batch = net.add(Reshape(), (moved,), (3, 4, 8, 8))
    y = net.norm(net.conv(batch, 4))
    back = net.add(Permute((1, 0, 2, 3)), (y,), (4, 3, 8, 8))
    found = labels(net.graph(back), 1)
    assert [found[i] for i in (net.input, x, moved, batch, y, back)] == [2, 2, 1, 0, 0, 1]


def test_what_is_before_an_operation_that_is_not_understood_slides_too() -> None:
    net = Net((1, 4, 16))
    x = net.conv(net.input, 4)
    y = net.add(Whole("lstm", lambda *_: None), (x,), net.shape(x))
    graph = net.graph(net.conv(y, 4))
    found = labels(graph, 2)
    assert found[x] == 2
    assert found[graph.output] == 2


def test_short_axes_keep_their_label() -> None:
    graph = cached_decoder(3, 2, 2)
    rows = labels(graph, 3)
    assert all(rows[index] == 3 for index in kinds(graph, Conv))

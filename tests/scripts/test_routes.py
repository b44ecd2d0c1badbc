"""Ways for links past nodes, found when workflows are laid out."""

import pytest

from scripts.workflows.curves import Link
from scripts.workflows.routes import find_paths

GAP = 28
LEFT, RIGHT = (0, 0, 200, 100), (456, 0, 656, 100)


def make_link(number=1, start=50, end=50):
    return Link(number, (191, start), (466, end), LEFT, RIGHT)


def find(*links, between):
    return find_paths(links, [LEFT, RIGHT, *between], [], GAP)


def test_a_link_with_nothing_between_goes_straight():
    assert find(make_link(), between=[(228, 200, 428, 300)]) == {}


def test_a_link_is_led_through_the_gaps_and_above_what_is_between():
    (path,) = find(make_link(), between=[(228, 0, 428, 300)]).values()
    (leave, above), (arrive, same) = path[0], path[-1]
    assert 200 < leave < 228
    assert 428 < arrive < 456
    assert above == same < 0


def test_links_of_one_output_share_their_way_and_those_of_two_do_not():
    between = [(228, 0, 428, 300)]
    together = find(make_link(1), make_link(2, end=70), between=between)
    assert together[1][0] == together[2][0]
    apart = find(make_link(1), make_link(2, start=70), between=between)
    assert not set(apart[1]) & set(apart[2])


def test_where_there_is_no_way_it_says_so():
    with pytest.raises(ValueError, match="leave more room between boxes"):
        find(make_link(), between=[(205, -1000, 450, 1000)])

"""What clients are called: one name each, and the same one while a run lasts."""

from hypothesis import given
from hypothesis import strategies as st

from hsplit_flower.names import NUMBERED, ClientNames, in_order, listed

told = st.lists(st.sampled_from(["", "clinic-a", "clinic-a (2)", "clinic-b", "unnamed"]))


@given(told)
def test_no_two_have_one_name(names: list[str]) -> None:
    known = NUMBERED
    for client, name in enumerate(names):
        known = known.with_client(client, name)
    assert len(set(known.by_client.values())) == len(names)
    assert all(known.of(c).startswith(name or "unnamed") for c, name in enumerate(names))


def test_of_two_of_one_name_the_first_keeps_it() -> None:
    known = NUMBERED.with_client(9, "clinic-a").with_client(5, "clinic-a")
    assert (known.of(9), known.of(5)) == ("clinic-a", "clinic-a (2)")
    again = known.with_client(9, "clinic-a").with_client(5, "clinic-a")
    assert again == known


def test_who_says_that_it_is_the_second_takes_nobodys_place() -> None:
    known = NUMBERED.with_client(1, "a").with_client(2, "a (2)").with_client(3, "a")
    assert known.by_client == {1: "a", 2: "a (2)", 3: "a (3)"}


def test_names_with_numbers_are_in_the_order_of_these() -> None:
    shuffled = ["vm/10", "bank", "vm/9", "vm/2 (2)", "vm/2", "7", "vm/010"]
    assert in_order(shuffled) == ["7", "bank", "vm/2", "vm/2 (2)", "vm/9", "vm/010", "vm/10"]
    assert listed(shuffled, 3) == "7, bank, vm/2 and 4 more"


@given(st.lists(st.text(max_size=6)))
def test_any_names_have_an_order(names: list[str]) -> None:
    assert in_order(reversed(names)) == in_order(names)
    assert sorted(in_order(names)) == sorted(names)


def test_several_are_listed_by_name_and_the_rest_counted() -> None:
    known = ClientNames(by_client={n: f"c{n}" for n in range(7)})
    assert known.listed([3, 1]) == "c1, c3"
    assert known.listed(range(8)) == "7, c0, c1, c2, c3 and 3 more"

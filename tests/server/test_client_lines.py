"""What is said of many clients is few lines."""

from hsplit_flower.server.client_lines import MOST_LINES, client_lines


def test_clients_of_which_the_same_is_said_are_one_line() -> None:
    told = {f"clinic-{number}": "is left out: no power" for number in range(9)}
    assert client_lines({**told, "bank": "has joined", "home": "counts as 3 examples"}) == [
        "clients clinic-0, clinic-1, clinic-2 and 6 more are left out: no power",
        "client bank has joined",
        "client home counts as 3 examples",
    ]
    assert client_lines({}) == []


def test_of_sixty_with_words_of_their_own_the_first_are_told_and_the_others_counted() -> None:
    told = {f"vm/{number}": f"is left out: it lacks {number} MB" for number in range(60)}
    lines = client_lines({"bank": "is away", "home": "is away", **told})
    assert len(lines) == MOST_LINES
    assert lines == [
        "clients bank, home are away",
        "client vm/0 is left out: it lacks 0 MB",
        "… and the like of 59 more clients, with other words or numbers",
    ]

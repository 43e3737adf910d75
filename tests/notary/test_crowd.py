"""A listener's connections: limits by address and in all, and who makes room for whom."""

from __future__ import annotations

import dataclasses

import pytest

from attestation.errors import RefusedError
from notary.crowd import Crowd, Guest, address_of


@dataclasses.dataclass
class House:
    """A crowd, and who was evicted from it, in order."""

    crowd: Crowd
    evicted: list[Guest] = dataclasses.field(default_factory=list)

    def guest(self, address: str = "192.0.2.1") -> Guest:
        """Enters a connection."""

        def evict(error: RefusedError) -> None:
            assert error.rule == "limits.connections"
            self.evicted.append(guest)

        guest = Guest(address, evict)
        self.crowd.enter(guest)
        return guest


def house(*, most: int = 4, per_address: int = 100, strangers: int = 2) -> House:
    crowd = Crowd(most=most, per_address=per_address, strangers=strangers, shared={"192.0.2.9"})
    return House(crowd)


def test_who_idled_longest_makes_room() -> None:
    made = house()
    first, second, *_ = [made.guest() for _ in range(4)]
    made.guest()
    made.guest()
    assert made.evicted == [first, second]
    assert len(made.crowd) == 4


def test_who_works_is_not_evicted_and_rests_as_the_latest() -> None:
    made = house()
    guests = [made.guest() for _ in range(4)]
    made.crowd.work(guests[0], known=False)
    made.guest()
    assert made.evicted == [guests[1]]
    made.crowd.rest(guests[0])
    made.guest()
    made.guest()
    assert made.evicted == guests[1:]


def test_strangers_at_work_leave_room_for_known_provers() -> None:
    made = house()
    for _ in range(2):
        made.crowd.work(made.guest(), known=False)
    late = made.guest()
    with pytest.raises(RefusedError) as refused:
        made.crowd.work(late, known=False)
    assert (refused.value.rule, refused.value.http_status) == ("limits.connections", 429)
    made.crowd.work(made.guest(), known=True)
    assert made.evicted == []


def test_known_prover_keeps_its_place_while_it_rests() -> None:
    made = house(most=2)
    known = made.guest()
    made.crowd.work(known, known=False)
    known.known = True
    made.crowd.rest(known)
    for _ in range(3):
        made.guest()
    assert known not in made.evicted
    assert len(made.evicted) == 2


@pytest.mark.parametrize("works", [False, True])
def test_connection_that_turns_out_to_be_a_known_provers_keeps_its_place(works: bool) -> None:
    made = house()
    reader = made.guest()
    if works:
        made.crowd.work(reader, known=False)
    made.crowd.know(reader)
    made.crowd.know(reader)
    # Strangers have the whole of their share, and make room among themselves.
    for _ in range(2):
        made.crowd.work(made.guest(), known=False)
    for _ in range(5):
        made.guest()
    assert reader not in made.evicted
    assert len(made.crowd) == 4
    made.crowd.leave(reader)
    assert len(made.crowd) == 3


def test_full_house_at_work_refuses_and_counts_nobody() -> None:
    made = house(most=2)
    for _ in range(2):
        made.crowd.work(made.guest(), known=True)
    with pytest.raises(RefusedError) as refused:
        made.guest("192.0.2.7")
    assert refused.value.rule == "limits.connections"
    assert len(made.crowd) == 2


def test_one_address_has_its_share_and_a_shared_one_any() -> None:
    made = house(most=10, per_address=2)
    mine = [made.guest() for _ in range(2)]
    with pytest.raises(RefusedError) as refused:
        made.guest()
    assert refused.value.rule == "limits.address_connections"
    made.guest("192.0.2.2")
    for _ in range(3):
        made.guest("192.0.2.9")
    made.crowd.leave(mine[0])
    made.crowd.leave(mine[0])
    made.guest()


def test_eviction_and_leaving_count_once() -> None:
    made = house(most=1, per_address=1)
    first = made.guest()
    made.guest("192.0.2.2")
    made.crowd.leave(first)
    made.crowd.rest(first)
    made.crowd.work(first, known=True)
    assert len(made.crowd) == 1
    made.guest()
    assert len(made.crowd) == 1


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("2001:db8::1", 5, 0, 0), "2001:db8::/64"),
        (("2001:db8::2:3", 5, 0, 0), "2001:db8::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_address_is_what_one_host_has_for_itself(peer: object, address: str) -> None:
    assert address_of(peer) == address

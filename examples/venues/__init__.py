"""Simulated exchanges over real TLS: what the demo, tests and benchmarks fetch from.

One process answers for every host of every venue file, chosen by SNI, in each
venue's exact wire shape, REST and WebSocket, with prices a test can know beforehand and faults
on command.  Nothing the product needs lives here.

    authority   a certificate authority of its own, one certificate per host
    listings    which hosts, instruments and ticks each venue has
    prices      seeded random walks, or scripted mids
    wire        (venue, path) to response, byte for byte in the venue's shape
    channels    what live channels take and send, in the venue's shape
    pushes      the messages they push
    live        one live channel after its upgrade
    faults      what goes wrong, when told to
    request     the HTTP/1.1 request reader
    connection  one TLS connection
    server      the listener, in this event loop or in a thread of its own
    admin       a loopback port for setting mids and faults while it runs
"""

from __future__ import annotations

from examples.venues.faults import Fault
from examples.venues.prices import Prices, Script
from examples.venues.server import ThreadedVenueServer, VenueServer

__all__ = ["Fault", "Prices", "Script", "ThreadedVenueServer", "VenueServer"]

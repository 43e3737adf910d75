"""A feed's live side: from venues' messages to attested slots, kept and served.

``records`` is what flows between the parts: the connections emit records, and each part
that keeps or shows something is a sink of them.
"""

"""What this process is being asked at the moment."""


class Calls:
    """Calls of clients and of other processes that are under way here."""

    def __init__(self) -> None:
        self.in_flight = 0

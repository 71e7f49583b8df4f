"""What may be said of a cluster."""


class KilledWorkers(RuntimeError):
    """Shots ended every worker that ran them."""


class NoWorkers(UserWarning):
    """The scheduler has no workers: a call waits until some come."""


class UnlikeWorkers(UserWarning):
    """Workers run on machines of several kinds: last digits depend on which of them run what."""

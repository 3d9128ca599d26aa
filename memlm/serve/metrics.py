"""What Prometheus is told, kept for each server by itself."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class Metrics:
    """Counts of requests, seconds, batches, and of what went through the models."""

    def __init__(self):
        self._all = all_ = CollectorRegistry()
        ProcessCollector(registry=all_)
        self.requests = Counter("memlm_requests", "Requests answered.", ["path", "status"], registry=all_)
        self.seconds = Histogram("memlm_request_seconds", "From request to answer's end.", ["path"], registry=all_)
        self.waiting = Gauge("memlm_waiting", "Requests that wait for the models.", registry=all_)
        powers = [2**n for n in range(9)]
        self.batch = Histogram("memlm_batch", "Requests computed together.", registry=all_, buckets=powers)
        self.memories = Counter("memlm_memories", "Memories encoded.", registry=all_)
        self.tokens = Counter("memlm_tokens", "Tokens generated.", registry=all_)

    def text(self) -> bytes:
        """All of it, in the text format."""
        return generate_latest(self._all)

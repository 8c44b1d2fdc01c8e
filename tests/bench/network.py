"""A meta-step over a network: how long it should take, and how long it takes when tried.

The root sends every chunk's call to a worker and waits for all answers. Four things can
be busy: the root, which handles one call after another; the line out and the line back,
since all bytes pass the root's link; and W workers, each with one call at a time, which
take the next when its answer is through. A call by itself takes

    c = h + request / B + delay + messages * L + t + answer / B

with h the root's handling, B the bandwidth, L the latency, t the computing, and delay what
the executor itself waits. With b the longest of h, request / B and answer / B, N calls take

    c + max((N - 1) b, q c + m b)        N - 1 = q W + m,  0 <= m < W

either the busiest of root and lines never rests, or the workers go through q + 1 rounds.
(Calls are alike, so every delay is a sum along a path through the calls: b from one call
to the next, c from a call to the one that its worker takes next; the longest path counts.)
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np


PROTOCOL = pickle.HIGHEST_PROTOCOL


class Network(NamedTuple):
    """What is between the root and its workers."""

    name: str
    latency: float  # seconds, one way
    bandwidth: float  # bytes per second, each way


class Engine(NamedTuple):
    """What an executor costs the root."""

    name: str
    call: float  # seconds that the root works for a call
    byte: float  # and for each of its bytes, out or back
    delay: float  # seconds that a call waits though nothing is busy
    messages: int  # one-way messages, one after another, from a call to its answer


class Call(NamedTuple):
    """What a chunk is to root and worker."""

    request: int  # bytes
    answer: int
    seconds: float  # of computing


def size(message: Any) -> int:
    """Return the bytes of a message."""
    return len(pickle.dumps(message, PROTOCOL))


# ----- As it should be -----


def handling(call: Call, engine: Engine) -> float:
    """Return the seconds that the root works for one call."""
    return engine.call + engine.byte * (call.request + call.answer)


def busiest(call: Call, engine: Engine, network: Network) -> float:
    """Return the seconds of root or line per call, whichever has more to do."""
    line = max(call.request, call.answer) / network.bandwidth
    return max(handling(call, engine), line)


def away(call: Call, engine: Engine, network: Network) -> float:
    """Return the seconds of a call between the line out and the line back."""
    return engine.delay + engine.messages * network.latency + call.seconds


def alone(call: Call, engine: Engine, network: Network) -> float:
    """Return the seconds from a call to its answer when there is no other."""
    lines = (call.request + call.answer) / network.bandwidth
    return handling(call, engine) + lines + away(call, engine, network)


def predicted(
    calls: int, workers: int, call: Call, engine: Engine, network: Network
) -> float:
    """Return the seconds until `calls` equal calls are answered."""
    b, c = busiest(call, engine, network), alone(call, engine, network)
    rounds, rest = divmod(calls - 1, workers)
    return c + max((calls - 1) * b, rounds * c + rest * b)


# ----- Tried -----


class _Turns:
    """A thing that serves one after another: the root, or one direction of its link."""

    def __init__(self) -> None:
        self.free, self.lock = 0.0, threading.Lock()

    def end(self, ready: float, seconds: float) -> float:
        """Return when a service ends that can begin at `ready`."""
        with self.lock:
            self.free = max(self.free, ready) + seconds
            return self.free


class Cluster(Executor):
    """W workers that sleep instead of computing, behind a network with its delays.

    Calls and answers are pickled for real, which costs what it costs; the bytes, the
    engine's handling and the latency are waited for.
    """

    def __init__(
        self,
        workers: int,
        seconds: Callable[[], float],
        answer: Any,
        engine: Engine,
        network: Network,
        answers: Callable[..., Any] = lambda answer, *_: answer,
    ) -> None:
        """seconds(): how long the next chunk takes; answer: what each call sends back.

        answers(answer, *arguments of a call): what the call returns
        """
        self.answers = answers
        self.seconds, self.engine, self.network = seconds, engine, network
        self.answer = pickle.dumps(answer, PROTOCOL)
        self.root, self.out, self.back = _Turns(), _Turns(), _Turns()
        self.threads = ThreadPoolExecutor(workers)

    def submit(self, function: Callable, /, *args: Any) -> Future:
        """Send a call, which is not made."""
        return self.threads.submit(self._serve, size((function, args)), *args)

    def _serve(self, request: int, *args: Any) -> Any:
        call = Call(request, len(self.answer), self.seconds())
        bandwidth = self.network.bandwidth
        handled = self.root.end(time.monotonic(), handling(call, self.engine))
        sent = self.out.end(handled, call.request / bandwidth)
        ready = sent + away(call, self.engine, self.network)
        _sleep_until(ready)
        _sleep_until(self.back.end(ready, call.answer / bandwidth))
        return self.answers(pickle.loads(self.answer), *args)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the workers go."""
        self.threads.shutdown(wait, cancel_futures=cancel_futures)


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def uneven(seconds: float, spread: float, seed: int = 0) -> Callable[[], float]:
    """Return draws of a log-normal time: `seconds` on average, `spread` its deviation."""
    rng, sigma = np.random.default_rng(seed), np.sqrt(np.log1p(spread**2))
    return lambda: seconds * float(np.exp(rng.normal(-(sigma**2) / 2, sigma)))

"""Why a benchmark ended without a result, as one line for the terminal.

BenchmarkFailed
├── BadRange          the levels asked for cannot be measured
├── TritonFailed      Triton is not there, stopped answering, or does not know the policy
├── NothingAnswered   every request of a level was refused
├── GeneratorOverrun  the rate is far beyond what the server can do
├── BaselineUnusable  the file to compare with is none, or says nothing about this run
└── NotHere           something that was asked for is not on this machine
"""


class BenchmarkFailed(Exception):  # noqa: N818 -- reads as what happened
    """One line that says what happened and, where it can, what to do."""


class BadRange(BenchmarkFailed):
    """A range or a number that cannot be measured."""


class TritonFailed(BenchmarkFailed):
    """Triton answered with an error that is not its queue's refusal, or did not answer."""


class NothingAnswered(BenchmarkFailed):
    """A level without a single answer has no numbers."""


class GeneratorOverrun(BenchmarkFailed):
    """So many requests are unanswered that the rate is far beyond what the server can do."""


class BaselineUnusable(BenchmarkFailed):
    """A baseline that is missing, that no benchmark wrote, or that is of another load, policy or setting."""


class NotHere(BenchmarkFailed):
    """A server, a renderer or a package that this machine does not have."""
